// SPDX-License-Identifier: Apache-2.0
//! Token buckets, one for each caller: decided on plain values.
//!
//! A bucket is one point in time, the one at which it is full again (the generic cell rate algorithm). A full bucket says
//! nothing that no bucket does not, so it is forgotten when the table is.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Buckets that are kept: some 4 MiB. Each must be used again before it is full to stay, so a table is only filled by as many
/// requests a second as this, times the rate.
const KEPT: usize = 65_536;
/// How often a table that is full is looked through for buckets that are full again.
const SWEEP: Duration = Duration::from_secs(1);

/// How often something may happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// One more after so long.
    every: Duration,
    /// How long a whole bucket takes to fill.
    whole: Duration,
}

/// A bucket for each caller.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: Rate,
    kept: usize,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    /// When each is full again.
    full_at: HashMap<K, Duration>,
    /// The one bucket of all who come while the table is full.
    rest_full_at: Duration,
    swept_at: Duration,
}

impl Rate {
    /// `many` in `span`, and `burst` at once; nothing where there is no limit.
    pub(super) fn new(many: u32, span: Duration, burst: u32) -> Option<Self> {
        let every = span.checked_div(many)?;
        Some(Self { every, whole: every * burst })
    }

    /// When a bucket that is full at `full_at` is full again with one more taken, or how long to wait for that one.
    fn take(self, full_at: Duration, now: Duration) -> Result<Duration, Duration> {
        let full_at = full_at.max(now) + self.every;
        match (full_at - now).checked_sub(self.whole) {
            None | Some(Duration::ZERO) => Ok(full_at),
            Some(wait) => Err(wait),
        }
    }
}

impl<K: Eq + Hash> Buckets<K> {
    pub(super) fn new(rate: Rate) -> Self {
        Self::keeping(rate, KEPT)
    }

    fn keeping(rate: Rate, kept: usize) -> Self {
        let table = Table { full_at: HashMap::new(), rest_full_at: Duration::ZERO, swept_at: Duration::ZERO };
        Self { rate, kept, table: Mutex::new(table) }
    }

    /// Takes one, or says how long to wait for it.
    pub(super) fn take(&self, key: K, now: Duration) -> Result<(), Duration> {
        let mut table = self.table();
        let bucket = table.bucket(key, now, self.kept);
        *bucket = self.rate.take(*bucket, now)?;
        Ok(())
    }

    /// Whether there is one to take, or how long to wait for it.
    pub(super) fn look(&self, key: &K, now: Duration) -> Result<(), Duration> {
        let table = self.table();
        let crowded = table.full_at.len() >= self.kept;
        let otherwise = if crowded { table.rest_full_at } else { now };
        let full_at = table.full_at.get(key).copied().unwrap_or(otherwise);
        self.rate.take(full_at, now).map(|_| ())
    }

    fn table(&self) -> MutexGuard<'_, Table<K>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Table<K> {
    fn bucket(&mut self, key: K, now: Duration, kept: usize) -> &mut Duration {
        let is_full = |table: &Self| table.full_at.len() >= kept;
        if is_full(self) && !self.full_at.contains_key(&key) {
            if now.saturating_sub(self.swept_at) >= SWEEP {
                self.swept_at = now;
                self.full_at.retain(|_, full_at| *full_at > now);
            }
            if is_full(self) {
                return &mut self.rest_full_at;
            }
        }
        self.full_at.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ten_a_second(kept: usize) -> Buckets<u32> {
        Buckets::keeping(Rate::new(10, SECOND, 20).unwrap(), kept)
    }

    #[test]
    fn a_burst_then_the_rate_and_the_wait_is_told() {
        let (buckets, start) = (ten_a_second(9), Duration::from_secs(1000));
        let taken = (0..25).filter(|_| buckets.take(1, start).is_ok()).count();
        assert_eq!(taken, 20);
        assert_eq!(buckets.take(1, start), Err(SECOND / 10));
        assert_eq!(buckets.look(&1, start), Err(SECOND / 10));
        assert_eq!(buckets.look(&1, start + SECOND / 10), Ok(()));
        assert_eq!(buckets.take(2, start), Ok(()), "another one has its own");
        let taken = (0..25).filter(|_| buckets.take(1, start + SECOND).is_ok()).count();
        assert_eq!(taken, 10);
        assert_eq!((0..25).filter(|_| buckets.take(1, start + 60 * SECOND).is_ok()).count(), 20);
    }

    #[test]
    fn a_look_takes_nothing() {
        let (buckets, now) = (ten_a_second(9), SECOND);
        assert!((0..100).all(|_| buckets.look(&1, now).is_ok()));
        assert_eq!((0..25).filter(|_| buckets.take(1, now).is_ok()).count(), 20);
    }

    #[test]
    fn a_table_that_is_full_forgets_who_has_a_full_bucket_and_lets_the_others_share_one() {
        let (buckets, start) = (ten_a_second(2), Duration::from_secs(1000));
        for key in [1, 2] {
            while buckets.take(key, start).is_ok() {}
        }
        let strangers = (3..100).filter(|key| buckets.take(*key, start).is_ok()).count();
        assert_eq!(strangers, 20, "those who come then have one bucket");
        assert!(buckets.look(&100, start).is_err());
        assert_eq!(buckets.table().full_at.len(), 2);
        let later = start + 10 * SECOND;
        assert!(buckets.take(3, later).is_ok());
        assert_eq!(buckets.table().full_at.len(), 1, "1 and 2 are full again");
    }

    #[test]
    fn no_limit_is_no_rate() {
        assert!(Rate::new(0, SECOND, 0).is_none());
    }
}
