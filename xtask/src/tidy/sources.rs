// SPDX-License-Identifier: Apache-2.0
//! Headers, sizes, skipped tests, and paths of somebody's machine.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::Finding;

/// A text file of the repository.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Relative to the workspace.
    pub(super) path: String,
    pub(super) text: String,
}

const HEADER: &str = "// SPDX-License-Identifier: Apache-2.0";
const MODULE_DOC: &str = "//!";
/// 150 is aimed at, 400 is thought at; here it ends.
const MAX_LINES: usize = 450;
/// A test that nobody runs proves nothing. Written apart, so that this file passes its own check.
const SKIPPED_TEST: &str = concat!("#[", "ignore");
/// Paths that exist on one machine only.
const FOREIGN_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("../sha", "red"), concat!("/home/", "ubuntu")];

/// Not ours, or not text.
const SKIPPED_FOLDERS: &[&str] = &["target", ".git", "node_modules"];
const TEXT_ENDINGS: &[&str] =
    &["rs", "toml", "md", "json", "yaml", "yml", "sh", "html", "css", "js", "txt", "proto", "service", "tpl"];
/// Files without an ending that are text.
const TEXT_NAMES: &[&str] = &["run", "Dockerfile", "LICENSE"];
/// Larger ones are data.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Every text file under the workspace.
pub(super) fn read(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let (path, kind, name) = (entry.path(), entry.file_type()?, entry.file_name());
            let name = name.to_string_lossy().into_owned();
            if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file() && is_text(&name) && entry.metadata()?.len() <= MAX_FILE_BYTES {
                let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                let path = path.strip_prefix(root)?.display().to_string();
                files.push(File { path, text: String::from_utf8_lossy(&bytes).into_owned() });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_text(name: &str) -> bool {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    TEXT_ENDINGS.contains(&ending) || TEXT_NAMES.contains(&name)
}

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    files
        .iter()
        .flat_map(|file| [paths(file), if file.path.ends_with(".rs") { rust(file) } else { vec![] }].concat())
        .collect()
}

fn paths(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().enumerate();
    let found = lines.filter(|(_, line)| FOREIGN_PATHS.iter().any(|path| line.contains(path)));
    found
        .map(|(index, _)| {
            let place = format!("{}:{}", file.path, index + 1);
            Finding::new(place, "names a path of one machine: write it relative to the repository")
        })
        .collect()
}

fn rust(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut lines = file.text.lines();
    if lines.next() != Some(HEADER) {
        findings.push(Finding::new(&file.path, format!("does not begin with `{HEADER}`")));
    }
    // Attributes such as `#![expect(..)]` may stand before it, nothing else.
    let first = lines.find(|line| !line.is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with(MODULE_DOC)) {
        findings.push(Finding::new(
            &file.path,
            "has no `//!` after its header: say what it is for, in a sentence",
        ));
    }
    let count = file.text.lines().count();
    if count > MAX_LINES {
        let problem =
            format!("has {count} lines, at most {MAX_LINES} are allowed: split it by what it is about");
        findings.push(Finding::new(&file.path, problem));
    }
    for (index, line) in file.text.lines().enumerate().filter(|(_, line)| line.contains(SKIPPED_TEST)) {
        let problem = format!("a test that nobody runs ({}): make it run, or remove it", line.trim());
        findings.push(Finding::new(format!("{}:{}", file.path, index + 1), problem));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    fn problems(text: &str) -> usize {
        check(&[file("crates/x/src/lib.rs", text)]).len()
    }

    #[test]
    fn a_file_in_order_passes() {
        assert_eq!(problems(&format!("{HEADER}\n//! What it is for.\n")), 0);
        assert_eq!(problems(&format!("{HEADER}\n#![no_std]\n//! What it is for.\n")), 0);
    }

    #[test]
    fn a_missing_header_or_doc_is_found() {
        assert_eq!(problems("//! What it is for.\n//! More.\n"), 1);
        assert_eq!(problems(&format!("{HEADER}\nuse std::fs;\n")), 1);
        assert_eq!(problems(""), 2);
    }

    #[test]
    fn a_file_that_grew_too_long_is_found() {
        let text = |lines| format!("{HEADER}\n//! Doc.\n{}", "\n".repeat(lines));
        assert_eq!(problems(&text(MAX_LINES - 2)), 0);
        assert_eq!(problems(&text(MAX_LINES - 1)), 1);
    }

    #[test]
    fn a_skipped_test_is_found() {
        let skipped = format!("{HEADER}\n//! Doc.\n{SKIPPED_TEST} = \"flaky\"]\n");
        assert!(check(&[file("a.rs", &skipped)])[0].place.ends_with(":3"));
    }

    #[test]
    fn paths_of_one_machine_are_found_in_any_text() {
        for path in FOREIGN_PATHS {
            assert_eq!(check(&[file("docs/a.md", &format!("see {path}x\n"))]).len(), 1, "{path}");
        }
        assert_eq!(check(&[file("docs/a.md", "see ../docs and /workspace\n")]), []);
    }
}
