// SPDX-License-Identifier: Apache-2.0
//! Waiting for what happens in the background: each look is judged on plain values.

use std::time::Duration;

use cap_client::ClientError;
use cap_client::wire::{Certificate, Issuer, Job, KeyRollover};
use cap_core::certificate::Status;
use cap_core::id::JobId;
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
    /// Nobody works on it any more; why.
    Dead(String),
    /// Nobody works on it, and nothing failed; why, and what to do.
    Idle {
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
            .hint("it goes on by itself; look again later, or raise --timeout")
    };
    loop {
        let left = deadline.saturating_sub(app.clock.boottime());
        let (state, why) = match look().await {
            Ok(seen) => match judge(&seen, cap_core::clock::later(app.now(), left)) {
                Verdict::Done => return Ok(seen),
                Verdict::Pending { state, why } => (state, why),
                Verdict::Late(why) => return Err(late(why)),
                Verdict::Dead(why) => {
                    return Err(Failure::new(Exit::Error, format!("{what} is not done"), why)
                        .hint("it does not go on by itself: mend the cause, then run this again"));
                }
                Verdict::Idle { why, next } => {
                    return Err(Failure::new(Exit::Error, format!("{what} is not done"), why).hint(next));
                }
            },
            // A replica that goes away takes nothing with it: the next look asks another one.
            Err(error) if error.is_passing() => (format!("not seen ({})", error.why()), None),
            Err(error) => return Err(error.into()),
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

/// Whether a certificate is there.
pub(crate) fn certificate(seen: &Certificate, deadline: Timestamp) -> Verdict {
    match seen.status {
        Status::Valid => Verdict::Done,
        Status::Revoked => Verdict::Dead("its version was revoked, and it is not issued anew".to_owned()),
        Status::Requested | Status::Issuing | Status::Renewing | Status::Expired => {
            Verdict::pending(seen.status.as_str())
        }
        Status::Failing => failing(seen.problem.as_ref(), seen.next_attempt_at, deadline),
    }
}

/// Whether a certificate that was asked for is there; with it the newest job that issues it, while none has begun.
pub(crate) fn requested((seen, newest): &(Certificate, Option<Job>), deadline: Timestamp) -> Verdict {
    match newest.as_ref().map(|job| (job.id, job.state)) {
        Some((job, JobState::Cancelled)) => Verdict::Idle {
            why: format!("its job {job} was cancelled, so nobody works on it"),
            next: format!("`certautopilot cert renew {} --wait` queues another job", seen.id),
        },
        Some((_, JobState::Queued | JobState::Running | JobState::Succeeded | JobState::Dead)) | None => {
            certificate(seen, deadline)
        }
    }
}

/// Whether an issuer is ready.
pub(crate) fn issuer(seen: &Issuer, deadline: Timestamp) -> Verdict {
    match seen.status {
        IssuerStatus::Ready => Verdict::Done,
        IssuerStatus::Registering => Verdict::pending("registering"),
        IssuerStatus::Failing => failing(seen.problem.as_ref(), seen.next_attempt_at, deadline),
        IssuerStatus::Deactivating | IssuerStatus::Deactivated => {
            Verdict::Dead("its account is deactivated".to_owned())
        }
    }
}

/// Whether an issuer's account has its next key.
pub(crate) fn rollover(seen: &Issuer, _deadline: Timestamp) -> Verdict {
    match &seen.key_rollover {
        None => Verdict::Done,
        Some(KeyRollover { problem: Some(problem), .. }) => Verdict::Dead(problem.to_string()),
        Some(KeyRollover { problem: None, .. }) => Verdict::Pending {
            state: "rolling".to_owned(),
            why: seen.problem.as_ref().map(ToString::to_string),
        },
    }
}

/// Whether an issuer's account is deactivated.
pub(crate) fn deactivated(seen: &Issuer, _deadline: Timestamp) -> Verdict {
    match seen.status {
        IssuerStatus::Deactivated => Verdict::Done,
        IssuerStatus::Registering
        | IssuerStatus::Ready
        | IssuerStatus::Failing
        | IssuerStatus::Deactivating => {
            let why = seen.problem.as_ref().map(ToString::to_string);
            Verdict::Pending { state: "deactivating".to_owned(), why }
        }
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
            Verdict::Dead(why)
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
