// SPDX-License-Identifier: Apache-2.0
//! Claim, lease, fence, crash, pause, finalize: every interleaving of two workers, one job, one CA and a few faults.
//!
//! [`State`] is what is remembered, `worker` what a worker does, `decisions` what the code decides, `laws` what must
//! hold. Each act at the CA, each write and each tick is a step of its own, so whatever can come between two of them
//! does.

mod decisions;
pub mod laws;
mod state;
mod worker;

use stateright::{Model, Property};

pub use decisions::{Move, Phase, Word};
pub use state::{At, Doing, Fact, Faults, Job, Record, Remote, State, Status, WORKERS, Worker};

use decisions::Decisions;
use state::{REMOTES, WORKERS as ALL};

/// A guard that is taken away, to see that the model misses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Writes are made whoever has the record by now.
    NoFence,
    /// What the CA answered is kept in memory until the end, and not stored before the next act.
    NothingStored,
    /// A certificate is stored for whatever key it is.
    AnyKey,
    /// Leases are stamped and judged by the worker's own clock.
    WallClock,
}

/// The model, with the faults that may happen in one run.
#[derive(Debug, Clone)]
pub struct Claims {
    faults: Faults,
    mutant: Option<Mutant>,
    decisions: Decisions,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Time goes on.
    Tick,
    /// The CA has looked at the answers and finds them right.
    Validate(usize),
    /// The CA issues.
    Issue(usize),
    /// The CA ends the order.
    Refuse(usize),
    /// A worker claims the job.
    Claim(usize),
    /// A worker extends its lease.
    Extend(usize),
    /// A worker takes the order over, or begins one.
    Open(usize),
    /// A worker asks the code what is next.
    Decide(usize),
    /// A worker acts at the CA.
    Act(usize),
    /// The same, and the answer is lost.
    Lose(usize),
    /// A worker fetches a certificate, and is given somebody else's.
    MixUp(usize),
    /// A worker writes a fact down.
    Note(usize),
    /// A worker gives the job back.
    GiveBack(usize),
    /// A worker dies, and another starts in its place.
    Crash(usize),
    /// A worker stands still.
    Pause(usize),
    /// A worker goes on.
    Resume(usize),
}

impl Claims {
    /// The model in which these faults may happen.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        assert!(usize::from(faults.sum()) < REMOTES, "the CA of the model has room for {REMOTES} orders");
        Self { faults, mutant: None, decisions: Decisions::of_the_code() }
    }

    /// The same without a guard.
    #[must_use]
    pub fn without(self, guard: Mutant) -> Self {
        Self { mutant: Some(guard), ..self }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Time goes on, unless a worker that could extend its lease would lose it: it does so in time.
    fn tick(state: &State) -> Option<State> {
        let about_to_end = |worker: &Worker| worker.has_mandate() && worker.trusted == 1;
        if state.workers.iter().any(about_to_end) {
            return None;
        }
        let mut next = *state;
        next.job.due_in = (next.job.due_in - 1).max(0);
        for worker in &mut next.workers {
            worker.trusted = (worker.trusted - 1).max(0);
        }
        (next != *state).then_some(next)
    }

    /// The CA's own moves.
    fn remote(state: &State, number: usize, from: &[Status], to: Status) -> Option<State> {
        let mut next = *state;
        let remote = next.ca[number].as_mut().filter(|remote| from.contains(&remote.status))?;
        remote.status = to;
        Some(next)
    }

    fn refuse(state: &State, number: usize) -> Option<State> {
        let mut next =
            Self::remote(state, number, &[Status::Validating, Status::Processing], Status::Invalid)?;
        next.left.refusals = next.left.refusals.checked_sub(1)?;
        Some(next)
    }

    fn crash(state: &State, worker: usize) -> Option<State> {
        let mut next = *state;
        next.left.crashes = next.left.crashes.checked_sub(1)?;
        let died = std::mem::replace(&mut next.workers[worker], Worker::IDLE);
        (died.at != Doing::Nothing).then_some(next)
    }

    fn pause(state: &State, worker: usize) -> Option<State> {
        let mut next = *state;
        next.left.pauses = next.left.pauses.checked_sub(1)?;
        let paused = &mut next.workers[worker];
        let may = paused.at != Doing::Nothing && !paused.paused;
        paused.paused = true;
        may.then_some(next)
    }

    fn resume(state: &State, worker: usize) -> Option<State> {
        let mut next = *state;
        let was = std::mem::replace(&mut next.workers[worker].paused, false);
        was.then_some(next)
    }

    fn step(&self, state: &State, action: Action) -> Option<State> {
        match action {
            Action::Tick => Self::tick(state),
            Action::Validate(n) => Self::remote(state, n, &[Status::Validating], Status::Ready),
            Action::Issue(n) => Self::remote(state, n, &[Status::Processing], Status::Valid),
            Action::Refuse(n) => Self::refuse(state, n),
            Action::Crash(w) => Self::crash(state, w),
            Action::Pause(w) => Self::pause(state, w),
            Action::Resume(w) => Self::resume(state, w),
            Action::Claim(w)
            | Action::Extend(w)
            | Action::Open(w)
            | Action::Decide(w)
            | Action::Act(w)
            | Action::Lose(w)
            | Action::MixUp(w)
            | Action::Note(w)
            | Action::GiveBack(w) => {
                let mut next = *state;
                if next.workers[w].paused {
                    return None;
                }
                self.work(&mut next, w, action)?;
                Some(next)
            }
        }
    }
}

/// Every step that there could be.
fn all_actions() -> impl Iterator<Item = Action> {
    let workers = (0..ALL).flat_map(|w| {
        [
            Action::Open(w),
            Action::Decide(w),
            Action::Act(w),
            Action::Note(w),
            Action::GiveBack(w),
            Action::Extend(w),
            Action::Lose(w),
            Action::MixUp(w),
            Action::Crash(w),
            Action::Pause(w),
            Action::Resume(w),
        ]
    });
    let remotes = (0..REMOTES).flat_map(|n| [Action::Validate(n), Action::Issue(n), Action::Refuse(n)]);
    workers.chain(remotes).chain((0..ALL).map(Action::Claim)).chain([Action::Tick])
}

impl Model for Claims {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            job: Job { at: At::Queued, claims: 0, due_in: 0 },
            fence: 0,
            order: None,
            stored: None,
            keys: 0,
            ca: [None; REMOTES],
            workers: [Worker::IDLE; WORKERS],
            left: self.faults,
            overtaken_write: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(all_actions().filter(|action| self.step(state, *action).is_some()));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.step(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        laws::all()
    }
}
