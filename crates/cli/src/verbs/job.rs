// SPDX-License-Identifier: Apache-2.0
//! `job list|get`.

use cap_client::JobQuery;
use cap_core::id::JobId;
use cap_core::job::JobState;
use clap::Subcommand;

use crate::app::{App, every};
use crate::failure::Failure;
use crate::parse;

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
    }
}
