// SPDX-License-Identifier: Apache-2.0
//! What can go wrong in the database, by what to do about it.

use std::time::Duration;

use bson::Document;
use cap_core::envelope::KeyStoreError;
use cap_core::order::LedgerError;
use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};

use crate::fact::NOT_SO;
use crate::idempotency::Replay;

/// The code of a write that met a unique index.
const DUPLICATE_KEY: i32 = 11_000;
/// The code of a transaction's write that met another transaction's.
const WRITE_CONFLICT: i32 = 112;
/// The code of a conversion that failed: how a statement for many records says that one of them is not as it must be.
const CONVERSION_FAILURE: i32 = 241;
/// The code of a command that its user may not run, or that wants a user.
const UNAUTHORIZED: i32 = 13;
/// What the server quotes behind these words is the command, with everything in it.
const QUOTED_COMMAND: &str = " to execute command";

/// Why a store call did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or not in time. Whether a write happened is unknown.
    #[error(
        "MongoDB could not {doing}: {cause}; check that a majority of the replica set is up and reachable"
    )]
    Unavailable {
        /// What was attempted.
        doing: &'static str,
        /// What the driver said.
        cause: String,
    },
    /// A unique index, or a condition of the write, stood against it.
    #[error("{doing} met a conflict: {what}")]
    Conflict {
        /// What was attempted.
        doing: &'static str,
        /// What was in the way.
        what: String,
    },
    /// The claim that the write was made under is over.
    #[error("the claim was taken over by a peer, or the record moved on")]
    Fenced,
    /// The same request was carried out before.
    #[error("the request was carried out before")]
    Replayed(Box<Replay>),
    /// A stored document cannot be read.
    #[error(
        "a document of {collection} cannot be read: {cause}; it was written by a newer version or changed by hand"
    )]
    Corrupt {
        /// Where.
        collection: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The database refused the command for good.
    #[error("MongoDB refused to {doing}: {cause}")]
    Refused {
        /// What was attempted.
        doing: &'static str,
        /// What the driver said.
        cause: String,
    },
}

impl StoreError {
    /// The same, of what one of several wanted that asked together.
    pub(crate) fn while_doing(self, doing: &'static str) -> Self {
        match self {
            Self::Unavailable { cause, .. } => Self::Unavailable { doing, cause },
            Self::Refused { cause, .. } => Self::Refused { doing, cause },
            Self::Conflict { what, .. } => Self::Conflict { doing, what },
            Self::Fenced | Self::Replayed(_) | Self::Corrupt { .. } => self,
        }
    }
}

/// A driver's error, with what it means for a transaction.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: StoreError,
    /// The whole transaction may be tried again at once.
    pub(crate) again: bool,
    /// It met another transaction at one of its records.
    pub(crate) met: bool,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { error, again: false, met: false }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// Sorts a driver's error.
pub(crate) fn classify(doing: &'static str, error: &DriverError) -> Failure {
    let again = error.contains_label(mongodb::error::TRANSIENT_TRANSACTION_ERROR);
    let met = matches!(error.kind.as_ref(), ErrorKind::Command(command) if command.code == WRITE_CONFLICT);
    let cause = describe(error);
    let error = match error.kind.as_ref() {
        _ if is_duplicate(error) => StoreError::Conflict { doing, what: cause },
        _ if again => StoreError::Unavailable { doing, cause },
        ErrorKind::BsonDeserialization(_) | ErrorKind::BsonSerialization(_) | ErrorKind::Bson(_) => {
            StoreError::Corrupt { collection: "a collection", cause: format!("{doing}: {cause}") }
        }
        ErrorKind::Command(command) if !is_passing(command.code) => StoreError::Refused { doing, cause },
        ErrorKind::Write(WriteFailure::WriteError(write)) if !is_passing(write.code) => {
            StoreError::Refused { doing, cause }
        }
        ErrorKind::InvalidArgument { .. } => StoreError::Refused { doing, cause },
        ErrorKind::Authentication { message, .. } if is_login_refused(message) => {
            StoreError::Refused { doing, cause }
        }
        _ => StoreError::Unavailable { doing, cause },
    };
    Failure { error, again, met }
}

/// Sorts an entry of `writeErrors`.
pub(crate) fn write_refused(doing: &'static str, error: &Document) -> StoreError {
    let cause = error.get_str("errmsg").unwrap_or("no reason given").to_owned();
    match error.get_i32("code") {
        Ok(DUPLICATE_KEY) => StoreError::Conflict { doing, what: cause },
        Ok(CONVERSION_FAILURE) if cause.contains(NOT_SO) => StoreError::Fenced,
        Ok(code) if is_passing(code) => StoreError::Unavailable { doing, cause },
        _ => StoreError::Refused { doing, cause },
    }
}

/// A try that took longer than its bound.
pub(crate) fn timed_out(doing: &'static str, bound: Duration) -> StoreError {
    StoreError::Unavailable { doing, cause: format!("no answer within {} s", bound.as_secs()) }
}

/// Whether the error is a unique index's.
pub(crate) fn is_duplicate(error: &DriverError) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code == DUPLICATE_KEY,
        ErrorKind::InsertMany(many) => {
            many.write_errors.iter().flatten().any(|write| write.code == DUPLICATE_KEY)
        }
        ErrorKind::Command(command) => command.code == DUPLICATE_KEY,
        _ => false,
    }
}

/// Server errors that pass by themselves: elections, interruptions, time limits (the retryable codes of the driver
/// specification, and those of an exceeded time limit and a write conflict).
fn is_passing(code: i32) -> bool {
    const PASSING: [i32; 25] = [
        6, 7, 24, 43, 50, 64, 89, 91, 112, 133, 134, 189, 202, 211, 246, 251, 262, 317, 9_001, 10_058,
        10_107, 11_600, 11_602, 13_435, 13_436,
    ];
    PASSING.contains(&code)
}

/// Whether a login failed for good: user or password are wrong (the server says nothing more exact, whatever the
/// mechanism), or there is no password. The driver keeps no code here, and a login that an election or a shutdown
/// interrupted fails too, with other words.
fn is_login_refused(message: &str) -> bool {
    ["Authentication failed", "no password supplied"].iter().any(|words| message.contains(words))
}

/// The driver's error in one line, without its enum names; with what to do where the operator must.
fn describe(error: &DriverError) -> String {
    match error.kind.as_ref() {
        ErrorKind::Command(command) if command.code == UNAUTHORIZED => {
            let why = command.message.split(QUOTED_COMMAND).next().unwrap_or_default();
            format!("{why}; let CAP_MONGO_URI name a user with the role that docs/operations.md describes")
        }
        ErrorKind::Authentication { message, .. } if is_login_refused(message) => {
            let why = message.trim_end_matches('.');
            format!("{why}; check the user, the password and authSource in CAP_MONGO_URI")
        }
        ErrorKind::Command(command) => format!("{} ({})", command.message, command.code_name),
        ErrorKind::ServerSelection { .. } => "no primary was found in time".to_owned(),
        kind => kind.to_string(),
    }
}

impl From<StoreError> for LedgerError {
    /// What the driver said stays in the log: the engine's words reach whoever may look at a certificate.
    fn from(error: StoreError) -> Self {
        let told = match &error {
            StoreError::Fenced => return Self::Fenced,
            StoreError::Unavailable { doing, .. } => Self::Unavailable(format!("it could not {doing}")),
            StoreError::Conflict { doing, .. } | StoreError::Refused { doing, .. } => {
                Self::Corrupt(format!("the database refused to {doing}"))
            }
            StoreError::Corrupt { collection, .. } => Self::Corrupt(format!("a document of {collection}")),
            StoreError::Replayed(_) => Self::Corrupt("a request was carried out before".into()),
        };
        tracing::warn!(%error, "an order's fact was not written");
        told
    }
}

impl From<StoreError> for KeyStoreError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_conversion_fails_for_a_fence_where_it_says_so_and_for_good_elsewhere() {
        let failed = |what: &str| {
            let why = format!("Failed to parse number '{what}' in $convert with no onError value");
            write_refused("record facts", &doc! { "code": CONVERSION_FAILURE, "errmsg": why })
        };
        assert!(matches!(failed(&format!("{NOT_SO}ord_1")), StoreError::Fenced));
        assert!(matches!(failed("ord_1"), StoreError::Refused { .. }));
    }
}
