// SPDX-License-Identifier: Apache-2.0
//! `generate config|cli`: reference pages, written from what the code knows.

use std::fmt::Write as _;

use cap_runtime::config::reference_markdown;
use clap::{Arg, ArgAction, Command, CommandFactory, Subcommand};

use crate::app::App;
use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;

/// Which page.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The configuration
    Config,
    /// The command line
    Cli,
}

pub(super) fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    match verb {
        Verb::Config => app.output.text(&reference_markdown()),
        Verb::Cli => app.output.text(&command_line()),
    }
}

const HEAD: &str = "\
# Command line

<!-- Written by `cargo xtask codegen` from crates/cli/src. -->

Data goes to stdout, talk to stderr. The API is named by `CAP_API_URL`, the token by `CAP_TOKEN` or `CAP_TOKEN_FILE`, a
private CA by `CAP_CA_FILE`; `schema`, `kek` and `admin` use the database and the KEK themselves. A certificate is named
by its id or by one of its names, a project and an issuer by id or name.
";

fn command_line() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = HEAD.to_owned();
    page.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        let _ = writeln!(page, "| {} | {} |", exit.code(), exit.meaning());
    }
    page.push_str("\n## Options of every command\n\n");
    options(&mut page, root.get_arguments().filter(|option| option.is_global_set()));
    verbs(&mut page, &root, "certautopilot");
    page
}

/// The verbs below `command`, depth first.
fn verbs(page: &mut String, command: &Command, path: &str) {
    let shown = |verb: &&Command| !verb.is_hide_set() && verb.get_name() != "help";
    for verb in command.get_subcommands().filter(shown) {
        let path = format!("{path} {}", verb.get_name());
        if verb.has_subcommands() {
            verbs(page, verb, &path);
            continue;
        }
        let usage = verb.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = write!(page, "\n## {path}\n\n{about}.\n\n```\n{usage}\n```\n");
        let own: Vec<&Arg> = verb.get_arguments().filter(|option| !option.is_global_set()).collect();
        if own.iter().any(|option| is_shown(option)) {
            page.push('\n');
            options(page, own.into_iter());
        }
    }
}

fn options<'a>(page: &mut String, options: impl Iterator<Item = &'a Arg>) {
    page.push_str("| option | meaning |\n|---|---|\n");
    for option in options.filter(|option| is_shown(option)) {
        let name = match (option.get_short(), option.get_long()) {
            (Some(short), Some(long)) => format!("`-{short}`, `--{long}`"),
            (_, Some(long)) => format!("`--{long}`"),
            (_, None) => format!("`{}`", option.get_id().as_str().to_uppercase()),
        };
        let mut meaning = option.get_help().map(ToString::to_string).unwrap_or_default();
        let words: Vec<_> = option.get_possible_values();
        if !words.is_empty() && option.get_action().takes_values() {
            let words: Vec<_> = words.iter().map(|word| format!("`{}`", word.get_name())).collect();
            let _ = write!(meaning, ": {}", words.join(", "));
        }
        if let [default] = option.get_default_values()
            && option.get_action().takes_values()
        {
            let _ = write!(meaning, "; `{}` when not given", default.to_string_lossy());
        }
        let _ = writeln!(page, "| {name} | {} |", meaning.replace('|', "\\|"));
    }
}

fn is_shown(option: &Arg) -> bool {
    !option.is_hide_set()
        && !matches!(
            option.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_verb_once_and_no_hidden_one() {
        let page = command_line();
        for verb in ["cert request", "cert describe", "schema migrate", "health", "version"] {
            assert_eq!(page.matches(&format!("## certautopilot {verb}\n")).count(), 1, "{verb}");
        }
        assert!(!page.contains("certautopilot generate"));
        assert!(!page.contains("certautopilot cert help"));
    }

    #[test]
    fn the_page_is_the_same_each_time() {
        assert_eq!(command_line(), command_line());
    }
}
