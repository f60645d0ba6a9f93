// SPDX-License-Identifier: Apache-2.0
//! Text for terminals: what others chose cannot drive them, and instants are read at a glance.

use jiff::Timestamp;

/// Stands for a character that a terminal would obey or that would reorder a line.
const REPLACEMENT: char = '\u{fffd}';

/// `text` without characters that a terminal obeys; line ends stay.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && is_unruly(c) { REPLACEMENT } else { c }).collect()
}

/// `text` on one line, without characters that a terminal obeys.
pub(crate) fn clean_line(text: &str) -> String {
    text.chars().map(|c| if is_unruly(c) { REPLACEMENT } else { c }).collect()
}

/// Control characters, and the marks that turn the direction of writing.
fn is_unruly(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The columns that `text` takes on a terminal: combining marks none, East Asian wide characters two. Blocks, not
/// the whole table of Unicode: a rare character may bend a line, no more.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

fn width(c: char) -> usize {
    match c {
        '\u{0300}'..='\u{036f}'
        | '\u{200b}'..='\u{200d}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// `text` within `room` columns: what is longer ends with an ellipsis.
pub(crate) fn cut(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let fits = |c: &char| {
        let taken = width(*c);
        let fits = taken <= left;
        left = left.saturating_sub(taken);
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// An instant in UTC, to the second.
pub(crate) fn instant(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// An instant in UTC and how far it is.
pub(crate) fn instant_from(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", instant(at), distance(at, now))
}

/// How far an instant is, in its largest unit.
pub(crate) fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.as_second() - now.as_second();
    let span = span(seconds.unsigned_abs());
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {span}"),
        _ => format!("{span} ago"),
    }
}

/// Seconds in their largest unit, rounded down: a certificate is never said to have more days than it has.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        86_400.. => format!("{} d", seconds / 86_400),
        3_600.. => format!("{} h", seconds / 3_600),
        60.. => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_replaced() {
        assert_eq!(clean("a\x1b[31mb\r\nc\u{202e}d\u{9b}"), "a\u{fffd}[31mb\u{fffd}\nc\u{fffd}d\u{fffd}");
        assert_eq!(clean_line("a\nb"), "a\u{fffd}b");
        assert_eq!(clean("bücher 例え"), "bücher 例え");
    }

    #[test]
    fn a_cut_text_takes_no_more_columns_than_it_has() {
        for (text, room, expected) in [
            ("abcd", 4, "abcd"),
            ("abcde", 4, "abc…"),
            ("例例例", 4, "例…"),
            ("例例例", 5, "例例…"),
            ("ab", 1, "…"),
        ] {
            assert_eq!(cut(text, room), expected);
            assert!(columns(expected) <= room);
        }
    }

    #[test]
    fn distances_are_never_flattering() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |seconds: i64| distance(Timestamp::from_second(1_000_000 + seconds).unwrap(), now);
        assert_eq!(at(0), "now");
        assert_eq!(at(59), "in 59 s");
        assert_eq!(at(86_399), "in 23 h");
        assert_eq!(at(2 * 86_400 - 1), "in 1 d");
        assert_eq!(at(-90), "1 min ago");
    }
}
