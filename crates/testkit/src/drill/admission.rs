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
/// Needs nothing but to be let in.
const PATH: &str = "/api/v1/projects?limit=1";

/// Callers at work.
#[derive(Debug)]
pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Answered>>,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    let_in: bool,
    at: Instant,
}

/// What the callers of an API that was cut off were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// How long after the cut the last one was still let in; zero for nobody.
    pub(super) let_in_for: Duration,
    /// How many were refused.
    pub(super) refused: usize,
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
        let let_in = api.get(PATH).await.is_ok();
        answers.push(Answered { let_in, at: Instant::now() });
        tokio::time::sleep(PACE).await;
    }
    answers
}

fn told(answers: &[Answered], cut: Instant, healed: Instant) -> Told {
    let during = answers.iter().filter(|answer| answer.at > cut && answer.at < healed);
    let (let_in, refused): (Vec<&Answered>, Vec<&Answered>) = during.partition(|answer| answer.let_in);
    let last = let_in.iter().map(|answer| answer.at - cut).max();
    Told { let_in_for: last.unwrap_or_default(), refused: refused.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_between_the_cut_and_its_end_count() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let answers = [(true, 50), (true, 150), (false, 200), (true, 900), (true, 1_100)];
        let answers = answers.map(|(let_in, ms)| Answered { let_in, at: at(ms) });
        let seen = told(&answers, at(100), at(1_000));
        assert_eq!(seen, Told { let_in_for: Duration::from_millis(800), refused: 1 });
        assert_eq!(told(&[], at(0), at(1)), Told::default());
    }
}
