// SPDX-License-Identifier: Apache-2.0
//! Leases: who leads, in which epoch, and how long that may be believed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A lease as the database has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The instance's name.
    pub holder: String,
    /// How often the lease has changed hands; it never repeats.
    pub epoch: i64,
    /// Until when, by the database's clock.
    pub expires_at: Timestamp,
    /// Since when this holder has it, by the database's clock; not known of a lease won by an earlier version.
    pub since: Option<Timestamp>,
    /// Whether its holder was asked to give it up.
    pub asked_to_leave: bool,
}

/// The right to act as the leader, for as long as it may be trusted on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// The epoch that every write of this term is stamped with.
    pub epoch: i64,
    /// The boot time at which the holder must stop acting.
    pub trusted_until: Duration,
    /// How far the database's clock was ahead of this host's when it answered.
    pub skew: SignedDuration,
    /// Whether the holder of this epoch was asked to give the lease up.
    pub asked_to_leave: bool,
}

/// The part of the time to live that the holder gives away, so that it stops before another may start.
const MARGIN_DIVISOR: u32 = 5;

/// How far a leader's clock and the database's may be apart before it leaves the lead.
pub(crate) const SKEW_MAX: Duration = Duration::from_secs(30);
/// A lease that ends so many times its length ahead was stamped by a clock that was wrong: it has run out.
pub const WRONG_AHEAD: u32 = 2;

impl Term {
    /// A term won or extended by a request that *started* at `asked_at` (boot time): the database stamped the lease
    /// no earlier than that, so it cannot end before `asked_at + ttl`.
    #[must_use]
    pub fn new(epoch: i64, asked_at: Duration, ttl: Duration, skew: SignedDuration) -> Self {
        Self { epoch, trusted_until: asked_at + ttl - ttl / MARGIN_DIVISOR, skew, asked_to_leave: false }
    }

    /// Whether this host's clock and the database's agree well enough to say what is due. One of them is wrong
    /// otherwise, and nobody here knows which.
    #[must_use]
    pub fn clocks_agree(&self) -> bool {
        self.skew.unsigned_abs() <= SKEW_MAX
    }

    /// Whether the holder may still act at `boottime`.
    #[must_use]
    pub fn holds(&self, boottime: Duration) -> bool {
        boottime < self.trusted_until
    }
}

/// How often a holder extends its lease, and a standby that cannot watch it looks whether it is free.
#[must_use]
pub fn heartbeat(ttl: Duration) -> Duration {
    ttl / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_stops_before_the_lease_can_end() {
        let ttl = Duration::from_secs(15);
        let asked_at = Duration::from_secs(100);
        let term = Term::new(7, asked_at, ttl, SignedDuration::ZERO);
        assert!(term.holds(asked_at + Duration::from_secs(11)));
        assert!(!term.holds(asked_at + Duration::from_secs(12)));
        assert!(term.trusted_until < asked_at + ttl);
    }

    #[test]
    fn clocks_that_are_half_a_minute_apart_do_not_agree() {
        let agree =
            |ms| Term::new(1, Duration::ZERO, Duration::ZERO, SignedDuration::from_millis(ms)).clocks_agree();
        assert!(agree(0) && agree(30_000) && agree(-30_000));
        assert!(!agree(30_001) && !agree(-30_001) && !agree(i64::MIN) && !agree(i64::MAX));
    }
}
