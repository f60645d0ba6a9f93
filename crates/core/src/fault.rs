// SPDX-License-Identifier: Apache-2.0
//! Failpoints: named places where a drill may kill the process; and mutants: guards that a drill may take away, to see
//! that it fails without them.
//!
//! Each remote act and each commit on the way to a certificate, or away from one, has a point before it and one after it; where a
//! transaction would hold up others if its process died, there is one within.
//! Without the `drill` feature [`point`] is empty and nothing of this is in the binary; with it, the hook that the process
//! installed is called.

/// A guard that a drill can take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Writes are made whoever has the record by now: no fence, no token, no revision.
    NoFence,
    /// Writes count as done when the primary alone has them.
    OneAck,
    /// An order whose finalization began is given up as any other is: nobody watches what the CA still makes of it.
    NoWatch,
    /// Whoever asks the api is let in, whether or not a majority confirmed the primary.
    NoGate,
    /// A leader's writes are made whoever leads by now.
    NoEpoch,
    /// The key is stored with the certificate, and not before the order is placed: whoever takes an order over makes
    /// another.
    LateKey,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::NoFence, Self::OneAck, Self::NoWatch, Self::NoGate, Self::NoEpoch, Self::LateKey];

    /// Its name, as drills write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoFence => "no-fence",
            Self::OneAck => "one-ack",
            Self::NoWatch => "no-watch",
            Self::NoGate => "no-gate",
            Self::NoEpoch => "no-epoch",
            Self::LateKey => "late-key",
        }
    }
}

/// Failpoints of the leader's duties.
pub const LEADER_POINTS: &[&str] = &["totals.within"];

/// Every failpoint of a revocation, in the order in which it passes them.
pub const REVOKE_POINTS: &[&str] = &[
    "revoke.before",
    "revoke.after",
    "record-revoked.before",
    "record-revoked.within",
    "record-revoked.after",
];

/// Failpoints of an account's key rollover, in the order in which it passes them.
pub const ACCOUNT_POINTS: &[&str] = &[
    "roll-key.before",
    "roll-key.after",
    "record-rolled.before",
    "record-rolled.within",
    "record-rolled.after",
];

/// Failpoints where an order is given up, or set aside and what becomes of it after all.
pub const GIVEN_UP_POINTS: &[&str] = &[
    "record-failed.before",
    "record-failed.after",
    "set-aside.before",
    "set-aside.after",
    "take-back.before",
    "take-back.after",
    "end-watch.before",
    "end-watch.after",
    "withdraw.before",
    "withdraw.after",
];

/// Every failpoint of an issuance, in the order in which it passes them; the CA is asked for its authorizations while the order's URL
/// is written down.
pub const POINTS: &[&str] = &[
    "claim.before",
    "claim.after",
    "open.before",
    "open.after",
    "new-order.before",
    "new-order.after",
    "record-ordered.before",
    "authorizations.before",
    "authorizations.after",
    "record-ordered.after",
    "record-challenged.before",
    "record-challenged.after",
    "submit.before",
    "submit.after",
    "poll.before",
    "poll.after",
    "record-ready.before",
    "record-ready.after",
    "finalize.before",
    "finalize.after",
    "download.before",
    "download.after",
    "record-issued.before",
    "record-issued.within",
    "record-issued.after",
];

#[cfg(feature = "drill")]
static HOOK: std::sync::OnceLock<fn(&'static str)> = std::sync::OnceLock::new();

#[cfg(feature = "drill")]
static MUTANT: std::sync::OnceLock<Mutant> = std::sync::OnceLock::new();

/// Takes a guard away for the rest of the process's life. The first call wins.
#[cfg(feature = "drill")]
pub fn mutate(mutant: Mutant) {
    let _ = MUTANT.set(mutant);
}

/// Whether this process is that mutant; never without the `drill` feature.
#[inline]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    #[cfg(feature = "drill")]
    {
        MUTANT.get() == Some(&mutant)
    }
    #[cfg(not(feature = "drill"))]
    {
        let _ = mutant;
        false
    }
}

/// Installs what [`point`] calls. The first call wins.
#[cfg(feature = "drill")]
pub fn install(hook: fn(&'static str)) {
    let _ = HOOK.set(hook);
}

/// Every failpoint there is.
pub fn points() -> impl Iterator<Item = &'static str> {
    [POINTS, LEADER_POINTS, REVOKE_POINTS, ACCOUNT_POINTS, GIVEN_UP_POINTS].into_iter().flatten().copied()
}

/// Passes the failpoint `name`, one of [`points`].
#[inline]
pub fn point(name: &'static str) {
    #[cfg(feature = "drill")]
    {
        debug_assert!(points().any(|point| point == name), "{name} is in none of the lists of failpoints");
        if let Some(hook) = HOOK.get() {
            hook(name);
        }
    }
    #[cfg(not(feature = "drill"))]
    let _ = name;
}
