// SPDX-License-Identifier: Apache-2.0
//! Waiting for what happens in the background: each look is judged on plain values.

pub(crate) mod newest;

use std::time::Duration;

use cap_client::ClientError;
use cap_client::wire::{Certificate, Issuer, Job, KeyRollover};
use cap_core::certificate::Status;
use cap_core::clock::Clock;
use cap_core::id::{JobId, VersionId};
use cap_core::issuer::IssuerStatus;
use cap_core::job::JobState;
use cap_core::problem::Problem;
use cap_runtime::config::format_duration;
use jiff::Timestamp;

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::text::instant;

/// The wait between the first two looks; it grows by half from there.
const LOOK_FIRST: Duration = Duration::from_millis(250);
/// The longest wait between two looks.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// The least that a look is given, however little time is left: an API that is well answers the last one within it.
const LOOK_FLOOR: Duration = Duration::from_secs(3);

/// What a look says.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is there.
    Done,
    /// It is on its way.
    Pending {
        /// In a few words how far.
        state: String,
        /// What stood in the way of the last attempt.
        why: Option<String>,
    },
    /// It goes on by itself, but will not be there in time; why.
    Late(String),
    /// Nobody works on it any more; why, and what to do.
    Dead {
        /// Why.
        why: String,
        /// What to do.
        next: String,
    },
}

impl Verdict {
    fn pending(state: &str) -> Self {
        Self::Pending { state: state.to_owned(), why: None }
    }

    fn dead(why: impl Into<String>) -> Self {
        let next = "it does not go on by itself: mend the cause, then run this again".to_owned();
        Self::Dead { why: why.into(), next }
    }
}

/// Looks until what was waited for is there, cannot be there in time, or the time is up.
pub(crate) async fn until<T>(
    app: &mut App,
    what: &str,
    look: impl AsyncFnMut() -> Result<T, ClientError>,
    judge: impl Fn(&T, Timestamp) -> Verdict,
) -> Result<T, Failure> {
    let deadline = app.clock.boottime() + app.global.timeout;
    until_then(app, what, deadline, look, judge).await
}

/// The same with the time, since boot, at which a command that waits for several things gives up.
pub(crate) async fn until_then<T>(
    app: &mut App,
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, ClientError>,
    judge: impl Fn(&T, Timestamp) -> Verdict,
) -> Result<T, Failure> {
    let start = app.clock.boottime();
    let mut pause = LOOK_FIRST;
    let late = |why: String| {
        Failure::new(Exit::Timeout, format!("{what} is not done yet"), why)
            .hint("it goes on by itself, once what is named is mended if anything is; look again later, or raise --timeout")
    };
    loop {
        let bound = deadline.saturating_sub(app.clock.boottime()).max(LOOK_FLOOR);
        let looked = within(app.clock.as_ref(), bound, look()).await;
        let left = deadline.saturating_sub(app.clock.boottime());
        let (state, why) = match looked {
            Some(Ok(seen)) => match judge(&seen, cap_core::clock::later(app.now(), left)) {
                Verdict::Done => return Ok(seen),
                Verdict::Pending { state, why } => (state, why),
                Verdict::Late(why) => return Err(late(why)),
                Verdict::Dead { why, next } => {
                    return Err(Failure::new(Exit::Error, format!("{what} is not done"), why).hint(next));
                }
            },
            // A replica that goes away takes nothing with it: the next look asks another one.
            Some(Err(error)) if error.is_passing() => (format!("not seen ({})", error.why()), None),
            Some(Err(error)) => return Err(error.into()),
            None => (format!("not seen (no answer within {} s)", bound.as_secs()), None),
        };
        if left.is_zero() {
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            return Err(late(format!(
                "it is still {state} after {}{why}",
                format_duration(app.global.timeout)
            )));
        }
        let waited = (app.clock.boottime() - start).as_secs();
        app.output.progress(&format!("{what}: {state} ({waited} s)"));
        app.clock.sleep(pause.min(left)).await;
        pause = (pause * 3 / 2).min(LOOK_MAX);
    }
}

/// What a look sees, or nothing where it takes longer than that.
async fn within<T>(clock: &dyn Clock, bound: Duration, look: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        seen = look => Some(seen),
        () = clock.sleep(bound) => None,
    }
}

/// Whether a certificate is there.
pub(crate) fn certificate(seen: &Certificate, deadline: Timestamp) -> Verdict {
    match seen.status {
        Status::Valid => Verdict::Done,
        Status::Revoked => Verdict::dead("its version was revoked, and it is not issued anew"),
        Status::Requested | Status::Issuing | Status::Renewing | Status::Expired => {
            Verdict::pending(seen.status.as_str())
        }
        Status::Failing => failing(seen.problem.as_ref(), seen.next_attempt_at, deadline),
    }
}

/// Whether the CA was asked when it wants a certificate renewed since it was as `before`, unless it has another version by now.
pub(crate) fn looked(seen: &Certificate, before: &Certificate) -> Verdict {
    let looked_at =
        |certificate: &Certificate| certificate.renewal_info.as_ref().and_then(|info| info.looked_at);
    let is_pending = version(seen) == version(before)
        && seen.renewal_info.is_some()
        && looked_at(seen) <= looked_at(before);
    if is_pending { Verdict::pending("not asked") } else { Verdict::Done }
}

/// Which version of a certificate is current.
pub(crate) fn version(certificate: &Certificate) -> Option<VersionId> {
    certificate.version.as_ref().map(|version| version.id)
}

/// Whether a certificate that was asked for is there; with it its newest job, where that was looked at.
pub(crate) fn requested((seen, newest): &(Certificate, Option<Job>), deadline: Timestamp) -> Verdict {
    let queue = || format!("`certautopilot cert renew {} --wait` queues another job", seen.id);
    match newest {
        Some(job) if job.state == JobState::Cancelled => Verdict::Dead {
            why: format!("its job {} was cancelled, so nobody works on it", job.id),
            next: queue(),
        },
        Some(job) if seen.status == Status::Failing && is_given_up(job, seen.next_attempt_at) => {
            given_up(job, seen.problem.as_ref(), &queue())
        }
        Some(_) | None => certificate(seen, deadline),
    }
}

/// Whether an issuer is ready; with it the newest job on its account, where that was looked at.
pub(crate) fn issuer((seen, newest): &(Issuer, Option<Job>), deadline: Timestamp) -> Verdict {
    match seen.status {
        IssuerStatus::Ready => Verdict::Done,
        IssuerStatus::Registering => Verdict::pending("registering"),
        IssuerStatus::Failing => abandoned(seen, newest.as_ref())
            .unwrap_or_else(|| failing(seen.problem.as_ref(), seen.next_attempt_at, deadline)),
        IssuerStatus::Deactivating | IssuerStatus::Deactivated => Verdict::dead("its account is deactivated"),
    }
}

/// Whether an issuer's account has its next key.
pub(crate) fn rollover((seen, newest): &(Issuer, Option<Job>), _deadline: Timestamp) -> Verdict {
    match &seen.key_rollover {
        None => Verdict::Done,
        Some(KeyRollover { problem: Some(problem), .. }) => Verdict::dead(problem.to_string()),
        Some(KeyRollover { problem: None, .. }) => {
            let why = seen.problem.as_ref().map(ToString::to_string);
            let pending = || Verdict::Pending { state: "rolling".to_owned(), why };
            abandoned(seen, newest.as_ref()).unwrap_or_else(pending)
        }
    }
}

/// Whether an issuer's account is deactivated.
pub(crate) fn deactivated((seen, newest): &(Issuer, Option<Job>), _deadline: Timestamp) -> Verdict {
    match seen.status {
        IssuerStatus::Deactivated => Verdict::Done,
        IssuerStatus::Registering
        | IssuerStatus::Ready
        | IssuerStatus::Failing
        | IssuerStatus::Deactivating => {
            let why = seen.problem.as_ref().map(ToString::to_string);
            let pending = || Verdict::Pending { state: "deactivating".to_owned(), why };
            abandoned(seen, newest.as_ref()).unwrap_or_else(pending)
        }
    }
}

/// What is to be said of an issuer whose account nobody works on any more.
fn abandoned(seen: &Issuer, newest: Option<&Job>) -> Option<Verdict> {
    let job = newest.filter(|job| is_given_up(job, seen.next_attempt_at))?;
    let again = format!("`certautopilot job retry {} --wait` has it tried again", job.id);
    Some(given_up(job, seen.problem.as_ref(), &again))
}

/// Whether nobody works on what a job was for: it is dead, and no other attempt is to come.
fn is_given_up(newest: &Job, next: Option<Timestamp>) -> bool {
    newest.state == JobState::Dead && next.is_none()
}

fn given_up(job: &Job, problem: Option<&Problem>, again: &str) -> Verdict {
    let why = problem.or(job.problem.as_ref()).map(|problem| format!(": {problem}")).unwrap_or_default();
    Verdict::Dead {
        why: format!("its job {} is dead, so nobody works on it{why}", job.id),
        next: format!("it does not go on by itself: mend the cause, then {again}"),
    }
}

/// What is to be said where a job that was waited for was cancelled before it had done what it was for.
pub(crate) fn cancelled(what: &str, job: JobId, next: String) -> Failure {
    let why = format!("its job {job} was cancelled, so nobody works on it");
    Failure::new(Exit::Error, format!("{what} is not done"), why).hint(next)
}

/// Whether a job is over. One that was cancelled was done by somebody else or is not wanted any more: whoever waits for what it was
/// for looks at that.
pub(crate) fn job(seen: &Job, deadline: Timestamp) -> Verdict {
    match (seen.state, &seen.problem) {
        (JobState::Succeeded | JobState::Cancelled, _) => Verdict::Done,
        (JobState::Dead, problem) => {
            let why = problem.as_ref().map_or_else(|| "the job is dead".to_owned(), ToString::to_string);
            Verdict::dead(why)
        }
        (JobState::Queued, Some(problem)) => failing(Some(problem), seen.due_at, deadline),
        (JobState::Queued | JobState::Running, _) => Verdict::pending(seen.state.as_str()),
    }
}

/// A failure is waited out as long as the next attempt comes in time. One without a next attempt is being tried now.
fn failing(problem: Option<&Problem>, next: Option<Timestamp>, deadline: Timestamp) -> Verdict {
    let why = problem.map_or_else(|| "the last attempt failed".to_owned(), ToString::to_string);
    match next {
        Some(next) if next < deadline => {
            Verdict::Pending { state: format!("failing, next attempt at {}", instant(next)), why: Some(why) }
        }
        Some(next) => Verdict::Late(format!("{why}; the next attempt is at {}", instant(next))),
        None => Verdict::Pending { state: "failing".to_owned(), why: Some(why) },
    }
}

#[cfg(test)]
mod tests;
