// SPDX-License-Identifier: Apache-2.0
//! `job list|get|totals|retry|cancel`.

use std::time::Duration;

use cap_client::wire::Job;
use cap_client::{Client, ClientError, JobQuery, PageQuery, TotalQuery};
use cap_core::id::JobId;
use cap_core::job::JobState;
use cap_core::page::{Order, Slice};
use clap::{Args, Subcommand, value_parser};

use crate::app::{App, every};
use crate::failure::Failure;
use crate::{parse, resolve, wait};

/// What is done with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The jobs of the project, the newest first
    List(List),
    /// One job
    Get {
        /// Its id
        job: JobId,
    },
    /// How many jobs ended, hour by hour; the last minute's may be missing
    Totals {
        /// How far back, as in 12h or 30d
        #[arg(long, default_value = "1d", value_parser = parse::duration, value_name = "DURATION")]
        since: Duration,
    },
    /// Run a job now that waits for its next attempt, or that is dead
    Retry {
        /// Its id
        job: JobId,
        /// Wait until it is done
        #[arg(long)]
        wait: bool,
    },
    /// End a job that waits; an order in flight is left for the next one
    Cancel {
        /// Its id
        job: JobId,
    },
}

/// Which jobs.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those for this certificate, by its id or one of its names
    #[arg(long, value_name = "CERTIFICATE")]
    certificate: Option<String>,
    /// Only those for this issuer, by its id or name: of its account and its looks at renewal information, not of its
    /// certificates
    #[arg(long, value_name = "ISSUER", conflicts_with = "certificate")]
    issuer: Option<String>,
    /// Only those of this kind
    #[arg(long, value_parser = parse::word::<String>(parse::JOB_KINDS))]
    kind: Option<String>,
    /// Only those in this state
    #[arg(long, value_parser = parse::word::<JobState>(parse::JOB_STATES))]
    state: Option<JobState>,
    /// So many at most
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    match verb {
        Verb::List(wanted) => {
            let subject = match (&wanted.certificate, &wanted.issuer) {
                (Some(named), _) => Some(resolve::certificate(&client, &project, named).await?.to_string()),
                (None, Some(named)) => Some(client.issuer(&project, named).await?.id.to_string()),
                (None, None) => None,
            };
            let all = every(newest(&client, &project, &wanted, subject)).await?;
            app.list(&all)
        }
        Verb::Get { job } => {
            let found = client.job(&project, job).await?;
            app.output.show(&found, app.clock.now())
        }
        Verb::Totals { since } => {
            let since = app.clock.now().checked_sub(since).ok();
            let page = async |page| client.job_totals(&project, &TotalQuery { page, since }).await;
            let all = every(page).await?;
            app.list(&all)
        }
        Verb::Retry { job, wait } => retry(app, &client, &project, job, wait).await,
        Verb::Cancel { job } => {
            if app.rehearse::<()>(
                "POST",
                &["projects", &project, "jobs", &job.to_string(), "cancel"],
                None,
            )? {
                return Ok(());
            }
            let cancelled = client.cancel_job(&project, job).await?;
            app.output.say(&format!("Job {job} is cancelled: {}.", cancelled.next))?;
            app.output.show(&cancelled.job, app.clock.now())
        }
    }
}

/// Page after page of the jobs that are wanted, and no more of them than that.
fn newest(
    client: &Client,
    project: &str,
    wanted: &List,
    subject: Option<String>,
) -> impl AsyncFnMut(PageQuery) -> Result<Slice<Job>, ClientError> {
    let mut left = wanted.limit.unwrap_or(u32::MAX);
    async move |page: PageQuery| {
        let page = PageQuery { limit: page.limit.map(|limit| limit.min(left)), ..page };
        let query = JobQuery {
            page,
            state: wanted.state,
            subject: subject.clone(),
            kind: wanted.kind.clone(),
            order: Some(Order::Desc),
        };
        let slice = client.jobs(project, &query).await?;
        left = left.saturating_sub(u32::try_from(slice.items.len()).unwrap_or(u32::MAX));
        Ok(if left == 0 { Slice { next_cursor: None, ..slice } } else { slice })
    }
}

async fn retry(app: &mut App, client: &Client, project: &str, job: JobId, wait: bool) -> Result<(), Failure> {
    if app.rehearse::<()>("POST", &["projects", project, "jobs", &job.to_string(), "retry"], None)? {
        return Ok(());
    }
    let mut retried = client.retry_job(project, job).await?;
    if wait {
        let look = async || client.job(project, job).await;
        retried = wait::until(app, &format!("job {job}"), look, wait::job).await?;
        if retried.state == JobState::Cancelled {
            let next =
                "look at what it was for: another job may have done it, and nobody may want it any more";
            return Err(wait::cancelled(&format!("job {job}"), job, next.to_owned()));
        }
    }
    app.output.show(&retried, app.clock.now())
}
