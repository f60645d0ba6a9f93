// SPDX-License-Identifier: Apache-2.0
//! Failpoints: named places where a drill may kill the process; and mutants: guards that a drill may take away, to see
//! that it fails without them.
//!
//! Each remote act and each commit of issuance has a point before it and one after it; where a transaction would hold
//! up others if its process died, there is one within. Without the `drill` feature [`point`] is empty and nothing of
//! this is in the binary; with it, the hook that the process installed is called.

/// A guard that a drill can take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Writes are made whoever has the record by now: no fence, no token, no revision.
    NoFence,
    /// Writes count as done when the primary alone has them.
    OneAck,
    /// An order whose finalization began is given up as any other is: nobody watches what the CA still makes of it.
    NoWatch,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoFence, Self::OneAck, Self::NoWatch];

    /// Its name, as drills write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoFence => "no-fence",
            Self::OneAck => "one-ack",
            Self::NoWatch => "no-watch",
        }
    }
}

/// Failpoints of the leader's duties.
pub const LEADER_POINTS: &[&str] = &["totals.within"];

/// Every failpoint of an issuance, in the order in which it passes them.
pub const POINTS: &[&str] = &[
    "claim.before",
    "claim.within",
    "claim.after",
    "open.before",
    "open.after",
    "new-order.before",
    "new-order.after",
    "record-ordered.before",
    "record-ordered.after",
    "authorizations.before",
    "authorizations.after",
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

/// Passes the failpoint `name`, one of [`POINTS`] or [`LEADER_POINTS`].
#[inline]
pub fn point(name: &'static str) {
    #[cfg(feature = "drill")]
    {
        let is_known = POINTS.contains(&name) || LEADER_POINTS.contains(&name);
        debug_assert!(is_known, "{name} is not in fault::POINTS or fault::LEADER_POINTS");
        if let Some(hook) = HOOK.get() {
            hook(name);
        }
    }
    #[cfg(not(feature = "drill"))]
    let _ = name;
}
