// SPDX-License-Identifier: Apache-2.0
//! Every metric that the code names is on the reference page, which shows only what the generator got to see.

use super::Finding;
use super::sources::File;

const PAGE: &str = "docs/reference/metrics.md";
/// Written apart, so that this file passes its own check.
const PREFIX: &str = concat!("\"certautopilot", "_");

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let page = files.iter().find(|file| file.path == PAGE).map_or("", |file| file.text.as_str());
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| is_shipped(&file.path)) {
        for (index, line) in file.text.lines().enumerate() {
            for name in names(line).filter(|name| !page.contains(&format!("| `{name}` |"))) {
                let problem = format!(
                    "{name} is not in {PAGE}: run `cargo xtask codegen`; a metric without a series from the start needs \
                     one in crates/api/examples/reference.rs"
                );
                findings.push(Finding::new(format!("{}:{}", file.path, index + 1), problem));
            }
        }
    }
    findings
}

/// Sources of ours that no test is in by its place.
fn is_shipped(path: &str) -> bool {
    path.starts_with("crates/")
        && path.contains("/src/")
        && path.ends_with(".rs")
        && !path.ends_with("tests.rs")
        && !path.starts_with("crates/testkit/")
}

/// The metrics that a line has as whole string literals.
fn names(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices(PREFIX).filter_map(|(at, _)| {
        let (name, _) = line[at + 1..].split_once('"')?;
        let is_name = name.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_');
        is_name.then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(source: &str, page: &str) -> [File; 2] {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        [file("crates/x/src/metrics.rs", source), file(PAGE, page)]
    }

    #[test]
    fn a_metric_on_the_page_passes_and_one_that_is_not_is_found() {
        let source = format!("let a = counter({PREFIX}a_total\");\nlet b = gauge({PREFIX}b\");\n");
        let bare = &PREFIX[1..];
        assert_eq!(check(&files(&source, &format!("| `{bare}a_total` | x |\n| `{bare}b` | x |\n"))), []);
        let findings = check(&files(&source, &format!("| `{bare}a_total` | x |\n")));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "crates/x/src/metrics.rs:2");
    }

    #[test]
    fn lines_of_an_exposition_and_prefixes_are_no_names() {
        let source = format!("{PREFIX}a_total 0\\n\"; {PREFIX}requests{{x}}\"\n");
        assert_eq!(check(&files(&source, "")), []);
    }
}
