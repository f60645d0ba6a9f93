// SPDX-License-Identifier: Apache-2.0
//! What every handler reaches.

use std::sync::Arc;
use std::time::Duration;

use cap_core::access::{Action, Verdict, decide};
use cap_core::audit::{Auditor, Draft, Row};
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_core::envelope::{Canary, Keyring};
use cap_core::fault::{self, Mutant};
use cap_core::health::Check;
use cap_core::id::ProjectId;
use cap_runtime::health::{CONFIRMED_FOR, Readiness};
use cap_store::{ChallengeCache, ProjectRecord, Store};
use jiff::Timestamp;

use crate::auth::Caller;
use crate::metrics::Metrics;
use crate::overload::Overload;
use crate::problem::ApiError;

/// How often a request under way looks whether the primary is still confirmed.
const LOOK: Duration = Duration::from_millis(500);

/// One api replica.
pub struct App {
    /// The database.
    pub store: Store,
    /// Seals and opens.
    pub keyring: Arc<Keyring>,
    /// Makes audit entries.
    pub auditor: Auditor,
    /// The canary of the KEK version in use.
    pub canary: Canary,
    /// The KEK provider's name.
    pub kek_provider: &'static str,
    /// Answers to HTTP-01 challenges.
    pub challenges: ChallengeCache,
    /// What /readyz says.
    pub readiness: Readiness,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Luck.
    pub entropy: Arc<dyn Entropy>,
    /// What it counts.
    pub metrics: Metrics,
    /// What it takes on.
    pub overload: Overload,
}

impl App {
    /// The time, to the millisecond: what is answered now must be what is read back later.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Refuses unless a majority confirmed the primary just now. One that is cut off and does not know it yet goes on
    /// answering reads of what a majority knew; a token that was revoked meanwhile would still be good there.
    pub(crate) fn must_be_confirmed(&self) -> Result<(), ApiError> {
        let now = self.clock.boottime();
        match self.readiness.passed_at(Check::Mongo) {
            Some(at) if now.saturating_sub(at) <= CONFIRMED_FOR => Ok(()),
            _ if fault::is(Mutant::NoGate) => Ok(()),
            _ => {
                let cause =
                    format!("no majority has confirmed the primary for {} s", CONFIRMED_FOR.as_secs());
                Err(ApiError::unavailable(cause))
            }
        }
    }

    /// Ends when no majority confirms the primary any more.
    pub(crate) async fn lost_confirmation(&self) -> ApiError {
        loop {
            if let Err(refused) = self.must_be_confirmed() {
                return refused;
            }
            self.clock.sleep(LOOK).await;
        }
    }

    /// The project that the path names, if the caller may do `action` there. A project that the caller must not know
    /// of is answered like one that does not exist.
    pub(crate) async fn project(
        &self,
        caller: &Caller,
        id_or_name: &str,
        action: fn(ProjectId) -> Action,
    ) -> Result<ProjectRecord, ApiError> {
        let missing = || ApiError::not_found("project", id_or_name);
        let project = self.store.project(id_or_name).await?.ok_or_else(missing)?;
        match decide(&caller.actor, action(project.id)) {
            Verdict::Granted => Ok(project),
            Verdict::Denied(role) => Err(ApiError::forbidden(role)),
            Verdict::DeniedToProjects(role) => Err(ApiError::forbidden_to_projects(role)),
            Verdict::Hidden => Err(missing()),
        }
    }

    /// The audit row for something that `caller` does.
    pub(crate) async fn audit(&self, caller: &Caller, draft: &Draft) -> Result<Row, ApiError> {
        Ok(self.auditor.row(&caller.origin(), draft).await?)
    }
}
