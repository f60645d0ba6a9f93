// SPDX-License-Identifier: Apache-2.0
//! What a worker does: claims, extends, takes an order over, decides, acts, writes down.

use super::state::{LEASE, MARGIN};
use super::{Action, At, Claims, Doing, Fact, Move, Mutant, Phase, Record, Remote, State, Status, Worker};

/// How far ahead each worker's own clock is, in ticks.
const AHEAD: [i8; super::WORKERS] = [0, LEASE];

impl Claims {
    /// The step of one worker; nothing when there is no such step.
    pub(super) fn work(&self, state: &mut State, w: usize, action: Action) -> Option<()> {
        match action {
            Action::Claim(_) => self.claim(state, w),
            Action::Extend(_) => self.extend(state, w),
            Action::Open(_) => self.open(state, w),
            Action::Decide(_) => self.decide(state, w),
            Action::Act(_) => act(state, w),
            Action::Lose(_) => lose(state, w),
            Action::MixUp(_) => mix_up(state, w),
            Action::Note(_) => self.note(state, w),
            Action::GiveBack(_) => give_back(state, w),
            Action::Tick
            | Action::Validate(_)
            | Action::Issue(_)
            | Action::Refuse(_)
            | Action::Crash(_)
            | Action::Pause(_)
            | Action::Resume(_) => None,
        }
    }

    /// How far the clock that leases go by is ahead of the database's.
    fn ahead(&self, w: usize) -> i8 {
        if self.is(Mutant::WallClock) { AHEAD[w] } else { 0 }
    }

    fn claim(&self, state: &mut State, w: usize) -> Option<()> {
        let (ahead, job) = (self.ahead(w), &mut state.job);
        if state.workers[w].at != Doing::Nothing || job.at == At::Done || job.due_in > ahead {
            return None;
        }
        (job.at, job.claims, job.due_in) = (At::Running, job.claims + 1, LEASE + ahead);
        state.workers[w] =
            Worker { at: Doing::Open, claim: job.claims, trusted: LEASE - MARGIN, ..Worker::IDLE };
        Some(())
    }

    fn extend(&self, state: &mut State, w: usize) -> Option<()> {
        let ahead = self.ahead(w);
        let worker = &mut state.workers[w];
        if worker.at == Doing::Nothing || !(1..LEASE - MARGIN).contains(&worker.trusted) {
            return None;
        }
        if is_own(&state.job, worker) {
            state.job.due_in = LEASE + ahead;
            worker.trusted = LEASE - MARGIN;
        } else {
            worker.trusted = 0;
        }
        Some(())
    }

    fn open(&self, state: &mut State, w: usize) -> Option<()> {
        let worker = &mut state.workers[w];
        if worker.at != Doing::Open {
            return None;
        }
        worker.at = Doing::Decide;
        if state.stored.is_some() {
            // Nothing is left to do: the job is over, if it is still this claim's.
            if is_own(&state.job, worker) {
                state.job.at = At::Done;
            }
            *worker = Worker::IDLE;
            return Some(());
        }
        let order = match state.order {
            Some(order) if order.fence > worker.claim => None,
            Some(order) => Some(Record { fence: worker.claim, ..order }),
            None if state.fence > worker.claim && !self.is(Mutant::NoFence) => None,
            None => {
                (state.keys, state.fence) = (state.keys + 1, worker.claim);
                let (key, fence) = (state.keys, worker.claim);
                Some(Record { key, phase: Phase::Keyed, url: None, fence, revision: 0 })
            }
        };
        match order {
            Some(_) => (state.order, worker.order) = (order, order),
            None => *worker = Worker::IDLE,
        }
        Some(())
    }

    fn decide(&self, state: &mut State, w: usize) -> Option<()> {
        let worker = &mut state.workers[w];
        let order = worker.order.filter(|_| worker.at == Doing::Decide)?;
        if worker.trusted <= 0 {
            *worker = Worker::IDLE;
            return Some(());
        }
        let decided = self.decisions.next(order.phase, worker.seen, worker.submitted);
        worker.at = match (decided, order.url) {
            (Move::Fail, _) => Doing::Note(Fact::Failed),
            (Move::MarkReady, Some(url)) => Doing::Note(Fact::Phase(Phase::Ready, url)),
            (Move::Wait, Some(url)) => {
                // Looking again is worth a step when the CA would say something else.
                let word = state.ca[usize::from(url)]?.status.word();
                (Some(word) != worker.seen).then_some(())?;
                worker.seen = None;
                Doing::Decide
            }
            (act, _) => Doing::Act(act),
        };
        Some(())
    }

    fn note(&self, state: &mut State, w: usize) -> Option<()> {
        let worker = state.workers[w];
        let Doing::Note(fact) = worker.at else { return None };
        let order = worker.order?;
        let ends = !matches!(fact, Fact::Phase(..));
        // The filter of the write: as it was taken or written last, by this claim; an end also ends the claim's job.
        let matches = state.order.is_some_and(|stored| stored.is_as_known(order))
            && (!ends
                || (is_own(&state.job, &worker) && state.fence <= worker.claim && state.stored.is_none()));
        if !matches && !self.is(Mutant::NoFence) {
            state.workers[w] = Worker::IDLE;
            return Some(());
        }
        // It lands. Whether it may is asked of who holds what, and not of the filter.
        let is_overtaken = state.order.is_none_or(|stored| stored.fence != worker.claim)
            || (ends && !is_own(&state.job, &worker));
        state.overtaken_write |= is_overtaken;
        match fact {
            Fact::Phase(phase, url) if self.is(Mutant::NothingStored) => {
                // Nobody else learns of it, and so it has no revision.
                state.workers[w].order = Some(Record { phase, url: Some(url), ..order });
                state.workers[w].at = Doing::Decide;
            }
            Fact::Phase(phase, url) => {
                let next = Record { phase, url: Some(url), revision: order.revision + 1, ..order };
                // A record that has ended stays ended.
                state.order = state.order.map(|stored| if stored.key == order.key { next } else { stored });
                state.workers[w].order = Some(next);
                state.workers[w].at = Doing::Decide;
            }
            Fact::Stored(key) if key != order.key && !self.is(Mutant::AnyKey) => {
                // It is fetched again: the CA's mix-up may pass.
                state.workers[w].at = Doing::Again;
            }
            Fact::Stored(key) => {
                (state.stored, state.order, state.fence) = (Some((order.key, key)), None, worker.claim + 1);
                state.job.at = At::Done;
                state.workers[w] = Worker::IDLE;
            }
            Fact::Failed => {
                (state.order, state.fence) = (None, worker.claim);
                (state.job.at, state.job.due_in) = (At::Queued, 1);
                state.workers[w] = Worker::IDLE;
            }
        }
        Some(())
    }
}

fn is_own(job: &super::Job, worker: &Worker) -> bool {
    job.at == At::Running && job.claims == worker.claim
}

fn give_back(state: &mut State, w: usize) -> Option<()> {
    let worker = state.workers[w];
    if worker.at != Doing::Again {
        return None;
    }
    if is_own(&state.job, &worker) {
        (state.job.at, state.job.due_in) = (At::Queued, 1);
    }
    state.workers[w] = Worker::IDLE;
    Some(())
}

/// The act lands at the CA, whether or not the worker still has a mandate: it was on its way.
fn act(state: &mut State, w: usize) -> Option<()> {
    let worker = &mut state.workers[w];
    let Doing::Act(act) = worker.at else { return None };
    let order = worker.order?;
    if act == Move::Place {
        let number = state.ca.iter().position(Option::is_none)?;
        state.ca[number] = Some(Remote { status: Status::Pending, key: None });
        worker.at = Doing::Note(Fact::Phase(Phase::Ordered, u8::try_from(number).ok()?));
        worker.seen = Some(Status::Pending.word());
        return Some(());
    }
    let url = order.url?;
    let remote = state.ca[usize::from(url)].as_mut()?;
    worker.at = match (act, remote.status) {
        (Move::Prepare, _) => Doing::Note(Fact::Phase(Phase::Challenged, url)),
        (Move::Look, status) => {
            worker.seen = Some(status.word());
            Doing::Decide
        }
        (Move::Submit, status) => {
            if status == Status::Pending {
                remote.status = Status::Validating;
            }
            (worker.seen, worker.submitted) = (None, true);
            Doing::Decide
        }
        (Move::Finalize, Status::Ready) => {
            (remote.status, remote.key) = (Status::Processing, Some(order.key));
            worker.seen = None;
            Doing::Decide
        }
        (Move::Download, Status::Valid) => Doing::Note(Fact::Stored(remote.key?)),
        // The order is not as the act needs it: looked at again by a later run.
        _ => Doing::Again,
    };
    Some(())
}

fn lose(state: &mut State, w: usize) -> Option<()> {
    state.left.losses = state.left.losses.checked_sub(1)?;
    act(state, w)?;
    state.workers[w].at = Doing::Again;
    Some(())
}

/// The key of somebody else.
const OTHER_KEY: u8 = u8::MAX;

fn mix_up(state: &mut State, w: usize) -> Option<()> {
    state.left.refusals = state.left.refusals.checked_sub(1)?;
    act(state, w)?;
    let Doing::Note(Fact::Stored(_)) = state.workers[w].at else { return None };
    state.workers[w].at = Doing::Note(Fact::Stored(OTHER_KEY));
    Some(())
}
