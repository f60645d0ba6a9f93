// SPDX-License-Identifier: Apache-2.0
//! Turns at the CA. One that becomes free goes to the lane that has the fewest for its project's weight, as places do when
//! jobs are claimed: in the order of their claims, a job would wait behind all that somebody else had claimed before it.
//! Some more are kept for lanes that have few: where one lane has all the others, it gives none back until a CA answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_core::id::ProjectId;
use cap_core::job::{ProjectLane, Room, Waiting, deal};
use tokio::sync::oneshot;

/// The part of the turns that is kept beside them for lanes that have fewer than that; one at least.
const KEPT_DIVISOR: usize = 4;

/// Projects whose weights are known; with more than these they are asked for anew.
const WEIGHTS: usize = 10_000;

/// The turns of one worker. Who waits for one has a place before the CA, and of those there are as many.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
    /// Those that are kept included.
    free: usize,
    /// The last ones of those that are free, which only lanes may take that have fewer.
    kept: usize,
    /// Turns that are had, by lane.
    had: BTreeMap<ProjectLane, usize>,
    weights: BTreeMap<ProjectId, u32>,
    /// Who waits, the longest first.
    waiting: VecDeque<(ProjectLane, oneshot::Sender<Turn>)>,
}

/// One job's turn, given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    lane: ProjectLane,
    turns: Turns,
}

impl Turns {
    /// So many turns, and those that are kept.
    pub(crate) fn new(turns: usize) -> Self {
        let (had, weights, waiting) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        let kept = (turns / KEPT_DIVISOR).max(1);
        Self(Arc::new(Mutex::new(Book { free: turns + kept, kept, had, weights, waiting })))
    }

    /// What these projects weigh from now on; what is known of others stays, of so many.
    pub(crate) fn weigh(&self, weights: BTreeMap<ProjectId, u32>) {
        let mut book = self.book();
        if book.weights.len() > WEIGHTS {
            book.weights.clear();
        }
        book.weights.extend(weights);
    }

    /// Asks for a turn; it comes through what is answered, and goes to others once that is dropped.
    pub(crate) fn ask(&self, lane: ProjectLane) -> oneshot::Receiver<Turn> {
        let (asker, turn) = oneshot::channel();
        self.book().waiting.push_back((lane, asker));
        self.serve();
        turn
    }

    fn serve(&self) {
        loop {
            let Some((lane, asker)) = self.book().next() else { return };
            // Where nobody waits for it any more it is dropped, and so given back.
            drop(asker.send(Turn { lane, turns: self.clone() }));
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that any lane may take.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        let book = self.book();
        book.free.saturating_sub(book.kept)
    }
}

impl Book {
    /// Takes a free turn for whoever is to have it.
    fn next(&mut self) -> Option<(ProjectLane, oneshot::Sender<Turn>)> {
        self.waiting.retain(|(_, asker)| !asker.is_closed());
        let mut lanes: Vec<(ProjectLane, Waiting)> = Vec::new();
        for (lane, _) in &self.waiting {
            let held = self.had.get(lane).copied().unwrap_or(0);
            let is_open = self.free > self.kept || held < self.kept;
            if is_open && !lanes.iter().any(|(known, _)| known == lane) {
                let weight = self.weights.get(&lane.project).copied().unwrap_or(1);
                // What side lanes may have was seen to when their jobs were claimed.
                lanes.push((*lane, Waiting { weight, held, due: 1, is_side: false }));
            }
        }
        let waiting: Vec<Waiting> = lanes.iter().map(|(_, waiting)| *waiting).collect();
        let dealt = deal(&waiting, Room { all: self.free.min(1), side: 0 });
        let (lane, _) = lanes.into_iter().zip(dealt).find(|(_, dealt)| *dealt > 0)?.0;
        let longest = self.waiting.iter().position(|(other, _)| *other == lane)?;
        self.free -= 1;
        *self.had.entry(lane).or_default() += 1;
        self.waiting.remove(longest)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut book = self.turns.book();
        book.free += 1;
        if let Some(had) = book.had.get_mut(&self.lane) {
            *had -= 1;
        }
        book.had.retain(|_, had| *had > 0);
        drop(book);
        self.turns.serve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_core::job::Lane;

    fn lane(n: u32) -> ProjectLane {
        ProjectLane { project: project(n), lane: Lane::Main }
    }

    fn project(n: u32) -> ProjectId {
        format!("prj_{n:032x}").parse().unwrap()
    }

    /// The turns of those who have theirs now.
    fn come(asked: &mut Vec<oneshot::Receiver<Turn>>) -> Vec<Turn> {
        let turns = asked.iter_mut().filter_map(|asked| asked.try_recv().ok()).collect();
        asked.retain(|asked| !asked.is_terminated());
        turns
    }

    fn lanes(turns: &[Turn]) -> Vec<ProjectLane> {
        turns.iter().map(|turn| turn.lane).collect()
    }

    #[test]
    fn who_has_none_goes_before_those_who_asked_earlier_and_have_some() {
        let turns = Turns::new(2);
        let mut asked: Vec<_> = (0..9).map(|_| turns.ask(lane(1))).collect();
        let mut had = come(&mut asked);
        assert_eq!(lanes(&had), [lane(1), lane(1)]);
        asked.extend([turns.ask(lane(2)), turns.ask(lane(3))]);
        let kept = come(&mut asked);
        assert_eq!(lanes(&kept), [lane(2)], "one was kept for whoever has none");
        drop(had.pop());
        assert_eq!(lanes(&come(&mut asked)), [lane(3)]);
    }

    #[test]
    fn shares_follow_the_weights_and_nothing_is_left_unused() {
        let turns = Turns::new(8);
        turns.weigh(BTreeMap::from([(project(1), 3)]));
        let blocked: Vec<_> = (0..8).map(|_| turns.ask(lane(3)).try_recv().unwrap()).collect();
        let mut asked: Vec<_> = (0..18).map(|n| turns.ask(lane(1 + n % 2))).collect();
        turns.weigh(BTreeMap::from([(project(4), 9)]));
        drop(blocked);
        let had = come(&mut asked);
        let of = |n| had.iter().filter(|turn| turn.lane == lane(n)).count();
        assert_eq!((of(1), of(2)), (6, 2));
        asked.clear();
        drop(had);
        assert_eq!((turns.free(), turns.book().had.len()), (8, 0));
    }

    #[test]
    fn whoever_is_gone_gets_nothing_and_keeps_nothing() {
        let turns = Turns::new(1);
        let (had, unread) = (turns.ask(lane(1)), turns.ask(lane(2)));
        let (gone, mut asked) = (turns.ask(lane(3)), vec![turns.ask(lane(4))]);
        drop(gone);
        drop(unread);
        let come = come(&mut asked);
        assert_eq!(lanes(&come), [lane(4)]);
        drop((had, come));
        assert_eq!((turns.free(), turns.book().waiting.len()), (1, 0));
    }
}
