// SPDX-License-Identifier: Apache-2.0
//! What the model remembers: the database, the CA, two workers, and the faults that are left.
//!
//! Times are what is left of them, in ticks, so that the same situation later is the same state.

use super::decisions::{Move, Phase, Word};

/// Workers that compete for the job.
pub const WORKERS: usize = 2;
/// Orders that the CA has room for: one for each that may be placed, so that the bound is judged and never met.
pub(super) const REMOTES: usize = 6;
/// How long a claim is leased for, in ticks of the database's clock.
pub(super) const LEASE: i8 = 3;
/// The part of it that the worker gives away.
pub(super) const MARGIN: i8 = 1;

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The job, as the database has it.
    pub job: Job,
    /// The certificate's fence, as the database has it.
    pub fence: u8,
    /// The order in flight, as the database has it.
    pub order: Option<Record>,
    /// The version, once it is stored: the key of the order, and the key that the certificate is for.
    pub stored: Option<(u8, u8)>,
    /// Keys made so far.
    pub keys: u8,
    /// Orders at the CA, by number.
    pub ca: [Option<Remote>; REMOTES],
    /// The workers.
    pub workers: [Worker; WORKERS],
    /// Faults that may still happen.
    pub left: Faults,
    /// Whether a worker wrote something that a peer had taken over.
    pub overtaken_write: bool,
}

/// The job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job {
    /// Where it is.
    pub at: At,
    /// Claims so far: the last one's fence.
    pub claims: u8,
    /// Ticks until it is due, or until its lease ends.
    pub due_in: i8,
}

/// Where the job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// In the queue.
    Queued,
    /// With the worker of the last claim.
    Running,
    /// Done.
    Done,
}

/// An order as it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    /// Which one: the key that was made for it.
    pub key: u8,
    /// How far it is.
    pub phase: Phase,
    /// Its number at the CA.
    pub url: Option<u8>,
    /// The claim that may write it.
    pub fence: u8,
    /// Counts the writes.
    pub revision: u8,
}

impl Record {
    /// Whether it is the one that a worker knows, as the worker knows it: what the filter of a write compares.
    pub(super) fn is_as_known(&self, known: Self) -> bool {
        (self.key, self.fence, self.revision) == (known.key, known.fence, known.revision)
    }
}

/// An order at the CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Remote {
    /// How it is.
    pub status: Status,
    /// The key of the signing request.
    pub key: Option<u8>,
}

/// How an order at the CA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It waits to be told that its challenges are answered.
    Pending,
    /// It looks at the answers.
    Validating,
    /// It waits to be finalized.
    Ready,
    /// It issues.
    Processing,
    /// It has issued.
    Valid,
    /// It is over.
    Invalid,
}

impl Status {
    /// What the CA says of it.
    pub(super) fn word(self) -> Word {
        match self {
            Self::Pending | Self::Validating => Word::Pending,
            Self::Ready => Word::Ready,
            Self::Processing => Word::Processing,
            Self::Valid => Word::Valid,
            Self::Invalid => Word::Invalid,
        }
    }
}

/// A worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Worker {
    /// What it is about to do.
    pub at: Doing,
    /// The fence of its claim.
    pub claim: u8,
    /// Ticks for which it trusts its lease.
    pub trusted: i8,
    /// Whether it stands still.
    pub paused: bool,
    /// The order as it knows it.
    pub order: Option<Record>,
    /// What the CA said last in this run.
    pub seen: Option<Word>,
    /// Whether it has submitted in this run.
    pub submitted: bool,
}

impl Worker {
    /// One that has just started, or let its job go.
    pub(super) const IDLE: Self = Self {
        at: Doing::Nothing,
        claim: 0,
        trusted: 0,
        paused: false,
        order: None,
        seen: None,
        submitted: false,
    };

    /// Whether it believes that the job is its own, and can act on that belief.
    pub(super) fn has_mandate(&self) -> bool {
        self.at != Doing::Nothing && self.trusted > 0 && !self.paused
    }
}

/// What a worker is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doing {
    /// It has no job.
    Nothing,
    /// Take the order over, or begin one.
    Open,
    /// Ask the code what is next.
    Decide,
    /// This, at the CA.
    Act(Move),
    /// Write this down.
    Note(Fact),
    /// Give the job back: run again.
    Again,
}

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The order's next phase, and its number at the CA.
    Phase(Phase, u8),
    /// The certificate, which is for this key.
    Stored(u8),
    /// That the attempt failed.
    Failed,
}

/// Faults, and how often each may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    /// A worker dies, and starts again.
    pub crashes: u8,
    /// A worker stands still, for any time.
    pub pauses: u8,
    /// The CA acts, and its answer is lost.
    pub losses: u8,
    /// The CA ends an order, or gives somebody else's certificate.
    pub refusals: u8,
}

impl Faults {
    pub(super) fn sum(self) -> u8 {
        self.crashes + self.pauses + self.losses + self.refusals
    }
}
