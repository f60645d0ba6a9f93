// SPDX-License-Identifier: Apache-2.0
//! The known name that an unknown one was probably meant to be.

use super::catalogue::VARIABLES;

/// A suggestion differs in at most one letter out of this many, the prefix that all names have not counted: what is
/// farther away was not meant.
const LETTERS_PER_MISTAKE: usize = 3;

/// The known variable nearest to `name`, `_FILE` forms of secrets included; nothing when none is near.
pub(super) fn nearest(name: &str) -> Option<String> {
    let known = VARIABLES.iter().flat_map(|variable| {
        let file = variable.secret.then(|| format!("{}_FILE", variable.name));
        std::iter::once(variable.name.to_owned()).chain(file)
    });
    let letters = name.trim_start_matches("CAP_").chars().count();
    let (mistakes, known) =
        known.map(|known| (distance(name, &known), known)).min_by_key(|(mistakes, _)| *mistakes)?;
    (mistakes * LETTERS_PER_MISTAKE <= letters).then_some(known)
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
        for (name, meant) in [
            ("CAP_JOB_LEESE", "CAP_JOB_LEASE"),
            ("CAP_MONGODB_URI", "CAP_MONGO_URI"),
            ("CAP_TOKEN_FIL", "CAP_TOKEN_FILE"),
        ] {
            assert_eq!(nearest(name).as_deref(), Some(meant));
        }
    }

    #[test]
    fn what_is_like_no_name_finds_none() {
        for name in ["CAP_BOGUS", "CAP_NONSENSE", "CAP_", "CAP_X"] {
            assert_eq!(nearest(name), None, "{name}");
        }
    }
}
