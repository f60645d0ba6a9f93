// SPDX-License-Identifier: Apache-2.0
//! The configuration reference, written from the catalogue.

use std::fmt::Write as _;

use super::catalogue::{Reader, Unset, VARIABLES};

/// The configuration reference, as Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from(HEAD);
    for variable in VARIABLES {
        let unset = match variable.unset {
            Unset::Value(value) => format!("`{value}`"),
            Unset::Words(words) => words.to_owned(),
            Unset::Required => "required".to_owned(),
            Unset::Nothing => String::new(),
        };
        let secret = if variable.secret { "yes" } else { "" };
        let readers: Vec<_> = variable.readers.iter().map(|reader| reader.word()).collect();
        let _ = writeln!(
            text,
            "| `{}` | {unset} | {secret} | {} | {} |",
            variable.name,
            readers.join(" "),
            variable.meaning
        );
    }
    text
}

impl Reader {
    fn word(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
            Self::Cli => "cli",
        }
    }
}

const HEAD: &str = "\
# Configuration

<!-- Written by `cargo xtask codegen` from the table in crates/runtime/src/config/catalogue.rs. -->

Every process reads the YAML file that `--config FILE` names, then the environment, which wins. A key of the file is
a variable's name, with or without `CAP_`, in either case: `mongo_uri` or `CAP_MONGO_URI`. A secret may also be given
as a file, in `NAME_FILE`; that file must not be readable by others nor writable by the group, and so must a YAML
file that holds a secret. An empty value counts as not given. Unknown names are refused. Durations are `250ms`,
`10s`, `5m`, `1h`, `30d`. A value is checked by every process that is given it, also by one that does not use it.
`--check-config` lists every fault at once and connects to nothing; exit 64 means that there is one.

| variable | default | secret | read by | meaning |
|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_a_row_for_every_variable() {
        let text = reference_markdown();
        for variable in VARIABLES {
            assert!(text.contains(&format!("| `{}` |", variable.name)));
        }
        assert!(text.contains("| `CAP_JOB_LEASE` | `60s` |  | worker |"));
    }
}
