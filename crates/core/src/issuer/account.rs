// SPDX-License-Identifier: Apache-2.0
//! What is to be done about an issuer's account at its CA, from what is written down of it.
//!
//! One job at a time works on an account, and it is told nothing but which issuer: what it does next it reads here, so that
//! whoever resumes it after a crash goes on where the facts are.

use serde::{Deserialize, Serialize};

/// Why no orders are placed with an account that was registered once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The CA does not accept it any more; it is asked now and then whether it does again.
    Refused,
    /// Somebody wants it deactivated, and the CA has not said yet that it is.
    Deactivating,
    /// It is deactivated, for ever (RFC 8555, 7.3.6).
    Deactivated,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountStep {
    /// See which key the CA knows, and have it take the next one.
    Roll,
    /// Deactivate it.
    Deactivate,
    /// Ask whether the CA accepts it again; nothing is registered anew.
    Find,
    /// Register it, or find it, and tell the CA its contacts.
    Register,
    /// Nothing.
    Rest,
}

/// What to do next about an account whose key is being rolled, or is not, and that is on hold, or is not.
///
/// A rollover comes before everything else: until it is known which key the CA has, nothing can be signed that it would
/// accept, and a registration with the wrong one would make a second account.
#[must_use]
pub fn next_account_step(is_rolling: bool, hold: Option<Hold>) -> AccountStep {
    match (hold, is_rolling) {
        (Some(Hold::Deactivated), _) => AccountStep::Rest,
        (_, true) => AccountStep::Roll,
        (Some(Hold::Deactivating), false) => AccountStep::Deactivate,
        (Some(Hold::Refused), false) => AccountStep::Find,
        (None, false) => AccountStep::Register,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_the_ca_may_know_is_cleared_up_before_anything_else_is_signed() {
        for hold in [None, Some(Hold::Refused), Some(Hold::Deactivating)] {
            assert_eq!(next_account_step(true, hold), AccountStep::Roll, "{hold:?}");
            assert_ne!(next_account_step(false, hold), AccountStep::Roll, "{hold:?}");
        }
    }

    #[test]
    fn a_deactivated_account_is_never_touched_again() {
        for is_rolling in [false, true] {
            assert_eq!(next_account_step(is_rolling, Some(Hold::Deactivated)), AccountStep::Rest);
        }
    }

    #[test]
    fn only_an_account_that_nothing_holds_is_registered() {
        assert_eq!(next_account_step(false, None), AccountStep::Register);
        assert_eq!(next_account_step(false, Some(Hold::Refused)), AccountStep::Find);
        assert_eq!(next_account_step(false, Some(Hold::Deactivating)), AccountStep::Deactivate);
    }
}
