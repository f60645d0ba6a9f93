// SPDX-License-Identifier: Apache-2.0
//! What verbs have in common that use the database and the KEK themselves.

use cap_core::envelope::KekError;
use cap_runtime::Exit as Code;
use cap_store::StoreError;

use crate::exit::Exit;
use crate::failure::Failure;

impl From<cap_runtime::Failure> for Failure {
    fn from(failure: cap_runtime::Failure) -> Self {
        let (exit, hint) = match failure.exit() {
            Code::Config => (Exit::Config, "mend the configuration"),
            Code::Refused => {
                (Exit::Refused, "see whether the database is up and migrated: `certautopilot schema status`")
            }
            Code::WrongKek => (Exit::WrongKek, WRONG_KEK),
            Code::Ok | Code::Aborted | Code::Bug => (Exit::Error, "report this"),
        };
        Self::new(exit, "the cluster cannot be opened", failure.to_string()).hint(hint)
    }
}

const WRONG_KEK: &str = "give this host the KEK that the cluster's data was sealed under";

/// What the database said.
pub(super) fn store(error: &StoreError) -> Failure {
    let (exit, hint) = match error {
        StoreError::Unavailable { .. } => (Exit::Error, "try again; whether anything was changed is unknown"),
        StoreError::Conflict { .. } | StoreError::Fenced | StoreError::Replayed(_) => {
            (Exit::Conflict, "look at what is there now, then decide again")
        }
        StoreError::Corrupt { .. } => (Exit::Error, "use the build that wrote it, or restore a backup"),
        StoreError::Refused { .. } => {
            (Exit::Refused, "check the URI, the user's rights and the server's version")
        }
    };
    Failure::new(exit, "the database did not do it", error.to_string()).hint(hint)
}

/// What the KEK provider said.
pub(super) fn kek(error: &KekError) -> Failure {
    match error {
        KekError::Wrong(_) | KekError::UnknownVersion(_) => {
            Failure::new(Exit::WrongKek, "the KEK is the wrong one", error.to_string()).hint(WRONG_KEK)
        }
        KekError::Unavailable(_) => Failure::new(Exit::Error, "the KEK cannot be used", error.to_string())
            .hint("mend the provider, then try again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_kek_has_a_number_of_its_own() {
        for error in [KekError::Wrong(1), KekError::UnknownVersion(2)] {
            assert_eq!(kek(&error).exit(), Exit::WrongKek);
            assert_eq!(Failure::from(cap_boot::refused_by_kek(error)).exit(), Exit::WrongKek);
        }
        assert_eq!(kek(&KekError::Unavailable("away".into())).exit(), Exit::Error);
    }

    #[test]
    fn a_database_that_is_away_is_told_apart_from_one_that_refuses() {
        let (doing, cause) = ("read", String::new());
        assert_eq!(store(&StoreError::Unavailable { doing, cause: cause.clone() }).exit(), Exit::Error);
        assert_eq!(store(&StoreError::Refused { doing, cause: cause.clone() }).exit(), Exit::Refused);
        assert_eq!(store(&StoreError::Conflict { doing, what: cause }).exit(), Exit::Conflict);
    }
}
