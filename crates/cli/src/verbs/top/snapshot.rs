// SPDX-License-Identifier: Apache-2.0
//! What `top` shows: the cluster, and of a few projects what runs and what needs attention.

use cap_client::wire::{Attention, Cluster, Job};
use cap_client::{Client, ClientError, JobQuery, PageQuery};
use cap_core::job::JobState;
use jiff::Timestamp;
use serde::Serialize;

/// Projects that are looked at: each costs two requests a look.
const PROJECTS: u32 = 10;
/// Running jobs of a project that are listed.
const JOBS: u32 = 20;

/// The system at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    /// By this host's clock.
    pub(super) at: Timestamp,
    pub(super) cluster: Cluster,
    pub(super) projects: Vec<Work>,
    /// Whether there are projects beside those that were looked at.
    pub(super) more_projects: bool,
}

/// What goes on in a project.
#[derive(Debug, Serialize)]
pub(super) struct Work {
    pub(super) project: String,
    pub(super) running: Vec<Job>,
    /// Whether more run than are listed.
    pub(super) more_running: bool,
    #[serde(flatten)]
    pub(super) attention: Attention,
}

impl Snapshot {
    /// Looks at the cluster and at one project, or at the first few.
    pub(super) async fn take(
        client: &Client,
        project: Option<&str>,
        at: Timestamp,
    ) -> Result<Self, ClientError> {
        let cluster = client.cluster().await?;
        let (names, more_projects) = match project {
            Some(project) => (vec![project.to_owned()], false),
            None => {
                let page = client.projects(&PageQuery { limit: Some(PROJECTS), cursor: None }).await?;
                let names = page.items.into_iter().map(|project| project.name).collect();
                (names, page.next_cursor.is_some())
            }
        };
        let mut projects = Vec::new();
        for project in names {
            projects.push(Work::of(client, project).await?);
        }
        Ok(Self { at, cluster, projects, more_projects })
    }
}

impl Work {
    async fn of(client: &Client, project: String) -> Result<Self, ClientError> {
        let page = PageQuery { limit: Some(JOBS), cursor: None };
        let query = JobQuery { page, state: Some(JobState::Running), ..JobQuery::default() };
        let running = client.jobs(&project, &query).await?;
        let attention = client.attention(&project).await?;
        let more_running = running.next_cursor.is_some();
        Ok(Self { project, running: running.items, more_running, attention })
    }
}
