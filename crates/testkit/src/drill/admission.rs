// SPDX-License-Identifier: Apache-2.0
//! Callers who go on asking an API that is cut off, and how long they are still let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::stack::ApiClient;

/// Callers at once, so that one that waits for its answer does not keep the others from asking.
const CALLERS: usize = 4;
/// The wait between two calls of one caller.
const PACE: Duration = Duration::from_millis(20);
/// How long anybody waits for an answer of an API that is cut off.
pub(super) const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
const OK: u16 = 200;
const UNAVAILABLE: u16 = 503;
/// Needs nothing but to be let in.
const PATH: &str = "/api/v1/projects?limit=1";

/// Callers at work.
#[derive(Debug)]
pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Answered>>,
}

/// An answer, or none.
#[derive(Clone, Copy, Debug)]
struct Answered {
    /// Nothing where there was no answer in the client's time: that is no refusal.
    status: Option<u16>,
    at: Instant,
    took: Duration,
}

/// What the callers of an API that was cut off were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// How long after the cut the last one was still let in; zero for nobody.
    pub(super) let_in_for: Duration,
    /// How many were refused.
    pub(super) refused: usize,
    /// How long the longest of these answers took.
    pub(super) answered: Duration,
    /// How many were answered in another way, or not at all.
    pub(super) otherwise: usize,
    /// How many hung: they were asked so early that [`ANSWERED_WITHIN`] was over before the network was whole again, and had
    /// no answer within it. One that ends behind that is one of them.
    pub(super) hung: usize,
}

impl Callers {
    /// Starts asking.
    pub(super) fn start(api: &ApiClient) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..CALLERS {
            tasks.spawn(ask(api.clone(), stop.clone()));
        }
        Self { stop, tasks }
    }

    /// Stops asking; answers what was told between the cut and its end.
    pub(super) async fn stop(self, cut: Instant, healed: Instant) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        told(&self.tasks.join_all().await.concat(), cut, healed)
    }
}

async fn ask(api: ApiClient, stop: Arc<AtomicBool>) -> Vec<Answered> {
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let asked_at = Instant::now();
        let status = api.call("GET", PATH, None, None).await.ok().map(|answer| answer.status);
        let at = Instant::now();
        answers.push(Answered { status, at, took: at - asked_at });
        tokio::time::sleep(PACE).await;
    }
    answers
}

fn told(answers: &[Answered], cut: Instant, healed: Instant) -> Told {
    let mut told = Told::default();
    let hung = |answer: &&Answered| {
        let asked_at = answer.at - answer.took;
        asked_at > cut && asked_at + ANSWERED_WITHIN < healed && answer.took > ANSWERED_WITHIN
    };
    told.hung = answers.iter().filter(hung).count();
    for answer in answers.iter().filter(|answer| answer.at > cut && answer.at < healed) {
        match answer.status {
            Some(OK) => told.let_in_for = told.let_in_for.max(answer.at - cut),
            Some(UNAVAILABLE) => {
                told.refused += 1;
                told.answered = told.answered.max(answer.took);
            }
            _ => told.otherwise += 1,
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_between_the_cut_and_its_end_count_and_silence_is_no_refusal() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let answers = [
            (Some(200), 50),
            (Some(200), 150),
            (Some(503), 200),
            (None, 300),
            (Some(500), 400),
            (Some(200), 900),
            (None, 1_050),
            (Some(200), 1_100),
        ];
        let took = Duration::from_millis(7);
        let answers = answers.map(|(status, ms)| Answered { status, at: at(ms), took });
        let seen = told(&answers, at(100), at(1_000));
        let let_in_for = Duration::from_millis(800);
        assert_eq!(seen, Told { let_in_for, refused: 1, answered: took, otherwise: 2, hung: 0 });
        assert_eq!(told(&[], at(0), at(1)), Told::default());
    }

    #[test]
    fn a_call_that_hangs_is_seen_whenever_it_ends() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let (cut, healed) = (start + second, start + second * 20);
        let hung = |asked: u32, took: Duration, status| {
            let asked_at = start + second * asked;
            told(&[Answered { status, at: asked_at + took, took }], cut, healed).hung
        };
        assert_eq!(hung(2, second * 30, Some(200)), 1, "it ends behind the cut's end");
        assert_eq!(hung(2, second * 30, None), 1);
        assert_eq!(hung(2, second * 6, Some(503)), 1, "it ends before it");
        assert_eq!(hung(2, second * 5, Some(503)), 0, "it was answered in time");
        assert_eq!(hung(0, second * 30, Some(200)), 0, "it was asked before the cut");
        assert_eq!(
            hung(16, second * 30, Some(200)),
            0,
            "it had not waited so long when the network was whole"
        );
    }
}
