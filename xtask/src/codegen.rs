// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask codegen`: files that the code writes about itself. They are committed, and CI compares them.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, ensure};

use crate::workspace;

/// A file, and what `cargo run` prints it with.
struct Generated {
    path: &'static str,
    run: &'static [&'static str],
}

const GENERATED: &[Generated] = &[
    Generated {
        path: "docs/reference/config.md",
        run: &["--package", "cap-cli", "--bin", "certautopilot", "--", "generate", "config"],
    },
    Generated {
        path: "docs/reference/cli.md",
        run: &["--package", "cap-cli", "--bin", "certautopilot", "--", "generate", "cli"],
    },
    Generated {
        path: "docs/reference/problems.md",
        run: &["--package", "cap-api", "--example", "reference", "--", "problems"],
    },
    Generated {
        path: "docs/reference/audit-events.md",
        run: &["--package", "cap-api", "--example", "reference", "--", "audit-events"],
    },
    Generated {
        path: "docs/reference/metrics.md",
        run: &["--package", "cap-api", "--example", "reference", "--", "metrics"],
    },
    Generated {
        path: "docs/reference/order-states.md",
        run: &["--package", "cap-api", "--example", "reference", "--", "order-states"],
    },
];

pub(crate) fn run(check: bool) -> anyhow::Result<ExitCode> {
    let root = workspace::root()?;
    let mut stale = 0;
    for generated in GENERATED {
        let text = produce(&root, generated)?;
        let path = root.join(generated.path);
        let committed = fs::read_to_string(&path).unwrap_or_default();
        let Some(difference) = difference(&committed, &text) else { continue };
        if check {
            eprintln!(
                "{} is not what the code says: run `cargo xtask codegen` and commit it\n{difference}",
                generated.path
            );
            stale += 1;
        } else {
            let folder = path.parent().context("a generated file lies in a folder")?;
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            println!("{} is written", generated.path);
        }
    }
    Ok(if stale == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn produce(root: &Path, generated: &Generated) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["run", "--quiet"]).args(generated.run);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let what = format!("`cargo run {}`", generated.run.join(" "));
    let output = command.output().with_context(|| format!("running {what}"))?;
    ensure!(output.status.success(), "{what}, which writes {}, failed ({})", generated.path, output.status);
    ensure!(!output.stdout.is_empty(), "{what}, which writes {}, printed nothing", generated.path);
    String::from_utf8(output.stdout).with_context(|| format!("the output of {what}"))
}

/// The first line that differs, as both have it.
fn difference(committed: &str, generated: &str) -> Option<String> {
    if committed == generated {
        return None;
    }
    let (mut old, mut new) = (committed.lines(), generated.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (old.next(), new.next()) {
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return Some("  the line ends differ".to_owned()),
            (a, b) => {
                let show = |sign, line: Option<&str>| {
                    line.map_or(format!("  {sign} (ends)"), |line| format!("  {sign} {line}"))
                };
                return Some(format!("  line {number}:\n{}\n{}", show('-', a), show('+', b)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_shown() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\n", "a\nc\n").unwrap(), "  line 2:\n  - b\n  + c");
        assert_eq!(difference("a\n", "a\nb\n").unwrap(), "  line 2:\n  - (ends)\n  + b");
        assert!(difference("a", "a\n").unwrap().contains("line ends"));
    }
}
