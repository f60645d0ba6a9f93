// SPDX-License-Identifier: Apache-2.0
//! How many certificates of each project wait for their first attempt: counted now and then, not each time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cap_core::id::ProjectId;

use crate::app::App;
use crate::overload::Reason;
use crate::problem::{ApiError, TOO_MUCH_WAITING};

/// How long a count is believed, with what came through this replica since.
const BELIEVED: Duration = Duration::from_secs(2);
/// Projects that are remembered; beyond it the table starts anew.
const PROJECTS: usize = 10_000;
/// Seconds after which workers will have begun some of them.
const WAIT_S: u64 = 5;

/// What was counted.
#[derive(Debug)]
pub(crate) struct Waiting {
    most: u64,
    projects: Mutex<HashMap<ProjectId, Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    waiting: u64,
    at: Duration,
}

/// What is to be done about one more.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Take,
    Refuse,
    Count,
}

impl Waiting {
    pub(super) fn new(most: u32) -> Self {
        Self { most: most.into(), projects: Mutex::default() }
    }

    /// Takes one more, or says that there must be a count first. Who is told so is the only one for a while: the others go by
    /// the last count meanwhile.
    fn take(&self, project: ProjectId, now: Duration) -> Verdict {
        let mut projects = self.projects();
        if projects.len() >= PROJECTS && !projects.contains_key(&project) {
            projects.clear();
        }
        let before = projects.get(&project).copied();
        let seen = projects.entry(project).or_insert(Seen { waiting: 0, at: now });
        if before.is_none_or(|seen| now.saturating_sub(seen.at) > BELIEVED) {
            seen.at = now;
            return Verdict::Count;
        }
        if seen.waiting >= self.most {
            return Verdict::Refuse;
        }
        seen.waiting += 1;
        Verdict::Take
    }

    fn counted(&self, project: ProjectId, waiting: u64, at: Duration) {
        self.projects().insert(project, Seen { waiting, at });
    }

    fn projects(&self) -> MutexGuard<'_, HashMap<ProjectId, Seen>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses one more certificate where too many of the project wait already.
pub(crate) async fn one_more(app: &App, project: ProjectId) -> Result<(), ApiError> {
    let waiting = &app.overload.waiting;
    if waiting.most == 0 {
        return Ok(());
    }
    let now = app.clock.boottime();
    let mut verdict = waiting.take(project, now);
    if verdict == Verdict::Count {
        waiting.counted(project, app.store.waiting_certificates(project, waiting.most).await?, now);
        verdict = waiting.take(project, now);
    }
    if verdict == Verdict::Take {
        return Ok(());
    }
    let detail = format!(
        "{} certificates of this project wait for their first attempt, as many as may; \
         ask for more when some are issued, or see why they are not",
        waiting.most
    );
    Err(app.shed(Reason::Waiting, TOO_MUCH_WAITING, detail, Duration::from_secs(WAIT_S)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_counts_the_others_go_by_it_and_no_more_than_the_most_are_taken() {
        let (waiting, now) = (Waiting::new(10), Duration::from_secs(1000));
        let [one, other] = [1_u128, 2].map(|n| format!("prj_{n:032x}").parse::<ProjectId>().unwrap());
        assert_eq!(waiting.take(one, now), Verdict::Count);
        assert_eq!(waiting.take(one, now), Verdict::Take, "one count at a time is enough");
        waiting.counted(one, 8, now);
        let verdicts: Vec<_> = (0..3).map(|_| waiting.take(one, now + BELIEVED)).collect();
        assert_eq!(verdicts, [Verdict::Take, Verdict::Take, Verdict::Refuse]);
        assert_eq!(waiting.take(other, now), Verdict::Count, "another project has its own");
        assert_eq!(waiting.take(one, now + 2 * BELIEVED), Verdict::Count);
        assert_eq!(
            waiting.take(one, now + 2 * BELIEVED),
            Verdict::Refuse,
            "until it is counted it is as it was"
        );
    }
}
