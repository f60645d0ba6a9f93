// SPDX-License-Identifier: Apache-2.0
//! Tokens that were good lately. It lets nobody in: each request's token is looked up all the same. It only says whether a
//! caller counts as itself or as the address it comes from.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long after its last use a token is known: longer than any agent's or scraper's pause.
const KNOWN_FOR: Duration = Duration::from_secs(3_600);
/// Tokens that are known: some 1 MiB. Others count as their address.
const KNOWN: usize = 32_768;

/// The fingerprints of the tokens, and when each was good last.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<u64, Duration>>);

impl Known {
    /// Whether this one was good lately.
    pub(super) fn has(&self, token: u64, now: Duration) -> bool {
        self.tokens().get(&token).is_some_and(|good| now.saturating_sub(*good) <= KNOWN_FOR)
    }

    /// It is good.
    pub(super) fn add(&self, token: u64, now: Duration) {
        let mut tokens = self.tokens();
        if tokens.len() >= KNOWN && !tokens.contains_key(&token) {
            tokens.retain(|_, good| now.saturating_sub(*good) <= KNOWN_FOR);
            if tokens.len() >= KNOWN {
                return;
            }
        }
        tokens.insert(token, now);
    }

    /// It is not good any more.
    pub(super) fn remove(&self, token: u64) {
        self.tokens().remove(&token);
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<u64, Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_until_it_is_refused_or_long_unused_and_there_are_only_so_many() {
        let (known, now) = (Known::default(), Duration::from_secs(10_000));
        known.add(1, now);
        known.add(2, now);
        known.remove(2);
        assert!(known.has(1, now + KNOWN_FOR) && !known.has(1, now + 2 * KNOWN_FOR) && !known.has(2, now));
        for token in 0..u64::try_from(KNOWN).unwrap() + 7 {
            known.add(token, now);
        }
        assert_eq!(known.tokens().len(), KNOWN);
        assert!(!known.has(u64::MAX, now));
        known.add(u64::MAX, now + 2 * KNOWN_FOR);
        assert!(known.has(u64::MAX, now + 2 * KNOWN_FOR), "the unused ones made room");
    }
}
