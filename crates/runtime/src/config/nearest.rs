// SPDX-License-Identifier: Apache-2.0
//! The known name that an unknown one was probably meant to be.

use super::catalogue::VARIABLES;

/// The known variable nearest to `name`, `_FILE` forms of secrets included.
pub(super) fn nearest(name: &str) -> String {
    let known = VARIABLES.iter().flat_map(|variable| {
        let file = variable.secret.then(|| format!("{}_FILE", variable.name));
        std::iter::once(variable.name.to_owned()).chain(file)
    });
    known.min_by_key(|known| distance(name, known)).unwrap_or_default()
}

/// Levenshtein's distance: how many letters must be put in, taken out or changed.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in right.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_letters() {
        for (left, right, count) in
            [("", "abc", 3), ("abc", "abc", 0), ("lease", "leese", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(left, right), count);
            assert_eq!(distance(right, left), count);
        }
    }

    #[test]
    fn a_typing_mistake_finds_its_name() {
        assert_eq!(nearest("CAP_JOB_LEESE"), "CAP_JOB_LEASE");
        assert_eq!(nearest("CAP_MONGODB_URI"), "CAP_MONGO_URI");
        assert_eq!(nearest("CAP_TOKEN_FIL"), "CAP_TOKEN_FILE");
    }
}
