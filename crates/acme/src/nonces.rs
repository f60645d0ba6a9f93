// SPDX-License-Identifier: Apache-2.0
//! The pool of nonces (RFC 8555, 6.5): each answer to a POST brings one, and it saves the next POST a round trip.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;

/// Nonces kept at most: as many as a worker has requests under way at once.
const NONCES: usize = 64;
/// How old a nonce may be. CAs forget them, by age or by count, and a busy worker uses them within milliseconds; one
/// that the CA has forgotten costs a refused request, one that is fetched anew only a HEAD.
const NONCE_LIFE: Duration = Duration::from_secs(30);
/// Octets of a nonce: beyond it, it is not one.
const NONCE_OCTETS: usize = 256;

/// Nonces of one issuer, oldest first. Times are on the boot clock.
#[derive(Default)]
pub(crate) struct Nonces(Mutex<VecDeque<(HeaderValue, Duration)>>);

impl Nonces {
    /// Keeps a nonce; whatever is not one is ignored, as RFC 8555 (6.5.1) asks.
    pub(crate) fn put(&self, nonce: HeaderValue, now: Duration) {
        if !is_nonce(nonce.as_bytes()) {
            return;
        }
        let mut pool = self.lock();
        if pool.len() >= NONCES {
            pool.pop_front();
        }
        pool.push_back((nonce, now));
    }

    /// Takes the youngest. When even that is too old, so are all.
    pub(crate) fn take(&self, now: Duration) -> Option<HeaderValue> {
        let mut pool = self.lock();
        let (nonce, since) = pool.pop_back()?;
        if now.saturating_sub(since) < NONCE_LIFE {
            return Some(nonce);
        }
        pool.clear();
        None
    }

    /// Forgets all: the CA refused one, so it may have lost the others too.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(HeaderValue, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_nonce(text: &[u8]) -> bool {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    (1..=NONCE_OCTETS).contains(&text.len()) && text.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    fn nonce(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    #[test]
    fn a_nonce_is_handed_out_once_and_the_youngest_first() {
        let pool = Nonces::default();
        pool.put(nonce("old"), at(0));
        pool.put(nonce("young"), at(1));
        assert_eq!(pool.take(at(2)), Some(nonce("young")));
        assert_eq!(pool.take(at(2)), Some(nonce("old")));
        assert_eq!(pool.take(at(2)), None);
    }

    #[test]
    fn old_nonces_are_not_handed_out() {
        let pool = Nonces::default();
        pool.put(nonce("a"), at(0));
        pool.put(nonce("b"), at(1));
        assert_eq!(pool.take(at(30)), Some(nonce("b")));
        assert_eq!(pool.take(at(30)), None);
    }

    #[test]
    fn the_pool_is_bounded_and_drops_the_oldest() {
        let pool = Nonces::default();
        for i in 0..NONCES + 10 {
            pool.put(nonce(&format!("n{i}")), at(0));
        }
        let taken: Vec<_> = std::iter::from_fn(|| pool.take(at(1))).collect();
        assert_eq!(taken.len(), NONCES);
        assert_eq!(taken.last(), Some(&nonce("n10")));
    }

    #[test]
    fn what_is_not_base64url_is_no_nonce() {
        let pool = Nonces::default();
        for wrong in ["", "a b", "a,b", "a=", &"a".repeat(257)] {
            pool.put(nonce(wrong), at(0));
        }
        assert_eq!(pool.take(at(0)), None);
    }

    #[test]
    fn a_cleared_pool_is_empty() {
        let pool = Nonces::default();
        pool.put(nonce("a"), at(0));
        pool.clear();
        assert_eq!(pool.take(at(0)), None);
    }
}
