// SPDX-License-Identifier: Apache-2.0
//! The YAML file: a flat map of names to strings, numbers and booleans.

use std::collections::BTreeMap;
use std::path::Path;

use super::fault::Fault;
use super::secret_file;

/// Octets of the file: a hundred times what every variable together needs.
const FILE_OCTETS: u64 = 1024 * 1024;

/// The entries as they are written, and whether others may read the file.
pub(super) fn read(path: &Path) -> Result<(BTreeMap<String, String>, bool), Fault> {
    let what = format!("--config {}", path.display());
    let (text, metadata) = secret_file::read_text(path, FILE_OCTETS).map_err(|error| {
        Fault::new(
            what.as_str(),
            format!("it cannot be read: {error}"),
            "name a YAML file that this process may read",
        )
    })?;
    let entries = parse(&text).map_err(|why| {
        Fault::new(
            what,
            why,
            "write one `name: value` a line, each name once, each value a string, a number or a boolean",
        )
    })?;
    Ok((entries, secret_file::is_exposed(&metadata)))
}

/// Every scalar is kept as it is written: `0123` stays four digits, and what it means is for its variable to say.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let entries: Result<Option<BTreeMap<String, Option<String>>>, _> = serde_saphyr::from_str(text);
    // The parser's own words may quote the document, which may hold secrets: only the place is told.
    let entries = entries.map_err(|error| match error.location() {
        Some(at) => format!("line {}, column {} is not part of a flat map", at.line(), at.column()),
        None => "it is not a flat map".to_owned(),
    })?;
    let entries = entries.unwrap_or_default().into_iter();
    Ok(entries.map(|(key, value)| (key, value.unwrap_or_default())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_kept_as_they_are_written() {
        let text = "a: 60s\nb: 0123\nc: true\nd: '127.0.0.1:1'\ne: 127.0.0.1:1\nf:\ng: 1e9\nh: \"\"\ni: ~\n";
        let entries = parse(text).unwrap();
        let expected = [
            ("a", "60s"),
            ("b", "0123"),
            ("c", "true"),
            ("d", "127.0.0.1:1"),
            ("e", "127.0.0.1:1"),
            ("f", ""),
            ("g", "1e9"),
            ("h", ""),
            ("i", ""),
        ];
        assert_eq!(entries, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn digits_of_a_key_survive() {
        let digits = "0123456789".repeat(6) + "0123";
        assert_eq!(parse(&format!("k: {digits}")).unwrap()["k"], digits);
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert!(parse("").unwrap().is_empty());
        assert!(parse("# only talk\n").unwrap().is_empty());
    }

    #[test]
    fn anything_but_a_flat_map_is_refused_without_being_quoted() {
        for text in [
            "a: [hunter2]",
            "a: {b: hunter2}",
            "- hunter2",
            "hunter2",
            "a: hunter2\na: hunter2",
            "a: 'hunter2",
        ] {
            let why = parse(text).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
