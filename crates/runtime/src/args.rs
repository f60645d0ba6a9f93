// SPDX-License-Identifier: Apache-2.0
//! The arguments that every binary takes, and the version that every binary tells.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::role::Role;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that this was built from, where the build said so.
pub const COMMIT: Option<&str> = option_env!("CERTAUTOPILOT_COMMIT");

/// What every binary takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// Read this YAML file; the environment overrides it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration, list every fault, and exit (0 or 64) without opening anything
    #[arg(long)]
    pub check_config: bool,
}

/// The version with its commit: what `--version` prints.
#[must_use]
pub fn long_version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| match COMMIT {
        Some(commit) => format!("{VERSION} ({commit})"),
        None => VERSION.to_owned(),
    });
    &TEXT
}

impl CommonArgs {
    /// Parses the arguments of a service, which takes no others.
    ///
    /// # Errors
    /// When they are wrong, and when they ask for help or the version: [`clap::Error`] prints all three.
    pub fn parse_for<I, T>(role: Role, args: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let matches: ArgMatches = command(role).try_get_matches_from(args)?;
        Self::from_arg_matches(&matches)
    }
}

/// The command line of a service.
fn command(role: Role) -> Command {
    // The arguments first: they bring the first words of their type along as a title.
    CommonArgs::augment_args(Command::new(role.binary()))
        .version(long_version())
        .about(role.about())
        .after_help("Configured by CAP_* variables or --config; see the configuration reference.")
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn every_service_has_a_sound_command_line() {
        for role in Role::ALL {
            command(role).debug_assert();
            let help = command(role).render_long_help().to_string();
            assert!(help.starts_with(role.about()) && !help.contains("every binary"), "{help}");
        }
    }

    #[test]
    fn the_contracts_flags_are_taken_and_others_refused() {
        let parse = |args: &[&str]| CommonArgs::parse_for(Role::Api, args.iter().copied());
        let both = parse(&["x", "--config", "f.yaml", "--check-config"]).unwrap();
        assert_eq!(both.config, Some(PathBuf::from("f.yaml")));
        assert!(both.check_config);
        assert_eq!(parse(&["x", "--version"]).unwrap_err().kind(), ErrorKind::DisplayVersion);
        assert_eq!(parse(&["x", "--listen", "1"]).unwrap_err().kind(), ErrorKind::UnknownArgument);
    }
}
