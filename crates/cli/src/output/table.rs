// SPDX-License-Identifier: Apache-2.0
//! Tables: columns two spaces apart, as wide as their widest cell.

use super::text::{clean_line, columns};

/// Renders rows of as many cells as the head has.
pub(super) fn render(head: Vec<&str>, rows: Vec<Vec<String>>) -> String {
    let mut lines: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
    lines.extend(rows.into_iter().map(|row| row.iter().map(|cell| clean_line(cell)).collect()));
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|at| lines.iter().filter_map(|line| line.get(at)).map(|cell| columns(cell)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            row.push_str(cell);
            row.push_str(&" ".repeat(width - columns(cell) + 2));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_keep_the_columns_straight() {
        let rows = vec![vec!["例え.example".into(), "x".into()], vec!["bücher.example".into(), "y".into()]];
        let text = render(vec!["NAME", "S"], rows);
        let at: Vec<_> = text.lines().map(|line| columns(&line[..line.len() - 1])).collect();
        assert_eq!(at, [16, 16, 16], "\n{text}");
    }

    #[test]
    fn a_cell_cannot_make_a_line_of_its_own() {
        let text = render(vec!["A"], vec![vec!["one\ntwo".into()]]);
        assert_eq!(text.lines().count(), 2);
    }
}
