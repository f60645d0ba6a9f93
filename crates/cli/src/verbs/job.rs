// SPDX-License-Identifier: Apache-2.0
//! `job list|get|totals|retry|cancel`.

use std::time::Duration;

use cap_client::{Client, JobQuery, TotalQuery};
use cap_core::id::JobId;
use cap_core::job::JobState;
use clap::Subcommand;

use crate::app::{App, every};
use crate::failure::Failure;
use crate::{parse, wait};

/// What is done with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Every job of the project
    List {
        /// Only those in this state
        #[arg(long, value_parser = parse::word::<JobState>(parse::JOB_STATES))]
        state: Option<JobState>,
    },
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

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    match verb {
        Verb::List { state } => {
            let page = async |page| client.jobs(&project, &JobQuery { page, state, subject: None }).await;
            let all = every(page).await?;
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

async fn retry(app: &mut App, client: &Client, project: &str, job: JobId, wait: bool) -> Result<(), Failure> {
    if app.rehearse::<()>("POST", &["projects", project, "jobs", &job.to_string(), "retry"], None)? {
        return Ok(());
    }
    let mut retried = client.retry_job(project, job).await?;
    if wait {
        let look = async || client.job(project, job).await;
        retried = wait::until(app, &format!("job {job}"), look, wait::job).await?;
    }
    app.output.show(&retried, app.clock.now())
}
