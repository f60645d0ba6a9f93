// SPDX-License-Identifier: Apache-2.0
//! Migrations: numbered from 1 without gaps, and each of them known to the code that runs them.

use std::path::Path;

use super::Finding;
use super::sources::File;

const FOLDER: &str = "migrations/";
/// Where they are registered: a migration that the store does not name is never run.
const REGISTRY: &str = "crates/store/";
/// `NNNN_slug.json`.
const DIGITS: usize = 4;

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected = 1;
    for file in files.iter().filter(|file| is_migration(&file.path)) {
        let name = file.path.trim_start_matches(FOLDER);
        match number_of(name) {
            Some(number) if number == expected => {}
            Some(number) => findings.push(Finding::new(
                &file.path,
                format!("is number {number} where {expected} follows: number them without gaps or doubles"),
            )),
            None => {
                findings.push(Finding::new(&file.path, "is not called NNNN_slug.json (slug: a-z, 0-9, _)"))
            }
        }
        expected = number_of(name).unwrap_or(expected) + 1;
        let known = files.iter().any(|source| is_registry(&source.path) && source.text.contains(name));
        if !known {
            findings
                .push(Finding::new(&file.path, format!("is not registered: name {name} in {REGISTRY}src")));
        }
    }
    findings
}

fn is_migration(path: &str) -> bool {
    path.starts_with(FOLDER) && has_ending(path, "json")
}

fn is_registry(path: &str) -> bool {
    path.starts_with(REGISTRY) && has_ending(path, "rs")
}

fn has_ending(path: &str, ending: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == ending)
}

fn number_of(name: &str) -> Option<u32> {
    let (number, slug) = name.strip_suffix(".json")?.split_once('_')?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let well_formed = number.len() == DIGITS && !slug.is_empty() && slug.chars().all(plain);
    well_formed.then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(migrations: &[&str], registered: &[&str]) -> Vec<Finding> {
        let file = |path: String, text: &str| File { path, text: text.to_owned() };
        let mut files = vec![file("crates/store/src/schema.rs".into(), &registered.join("\n"))];
        files.extend(migrations.iter().map(|name| file(format!("{FOLDER}{name}"), "{}")));
        check(&files)
    }

    #[test]
    fn numbered_and_registered_passes() {
        let names = ["0001_first.json", "0002_second.json"];
        assert_eq!(findings(&names, &names), []);
    }

    #[test]
    fn gaps_doubles_and_odd_names_are_found() {
        for names in [
            &["0001_a.json", "0003_c.json"][..],
            &["0001_a.json", "0001_b.json"],
            &["0002_b.json"],
            &["1_a.json"],
            &["0001-a.json"],
            &["0001_A.json"],
        ] {
            assert_eq!(findings(names, names).len(), 1, "{names:?}");
        }
    }

    #[test]
    fn a_migration_that_nobody_runs_is_found() {
        assert!(findings(&["0001_a.json"], &[])[0].problem.contains("not registered"));
    }
}
