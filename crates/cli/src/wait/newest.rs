// SPDX-License-Identifier: Apache-2.0
//! What is waited for, with the newest job on it where the record alone does not say whether anybody works on it.

use cap_client::wire::{Certificate, Issuer, Job};
use cap_client::{Client, ClientError, JobQuery, PageQuery};
use cap_core::certificate::Status;
use cap_core::id::CertificateId;
use cap_core::job::JobState;
use cap_core::page::Order;

/// The kind of jobs that issue.
const ISSUE: &str = "issue";
/// The kind of jobs that tell a CA of an account.
const REGISTER: &str = "register-issuer";

/// A certificate, and the newest job that issues it while none has begun, or after one has failed and no other is to come.
pub(crate) async fn certificate(
    client: &Client,
    project: &str,
    id: CertificateId,
) -> Result<(Certificate, Option<Job>), ClientError> {
    let read = async || client.certificate(project, id).await;
    let is_open = |seen: &Certificate| match seen.status {
        Status::Requested => true,
        Status::Failing => seen.next_attempt_at.is_none(),
        Status::Issuing | Status::Valid | Status::Renewing | Status::Expired | Status::Revoked => false,
    };
    with_job(read, is_open, async || newest(client, project, id.to_string(), ISSUE).await).await
}

/// An issuer, and the newest job on its account while something is in the way and no other attempt is to come.
pub(crate) async fn issuer(
    client: &Client,
    project: &str,
    id: &str,
) -> Result<(Issuer, Option<Job>), ClientError> {
    let read = async || client.issuer(project, id).await;
    let is_open = |seen: &Issuer| seen.problem.is_some() && seen.next_attempt_at.is_none();
    with_job(read, is_open, async || newest(client, project, id.to_owned(), REGISTER).await).await
}

/// Reads a record, and its newest job where that is wanted. Where that job is over the record is read again: what was read may be
/// from before its end, with which the next attempt is planned.
async fn with_job<T>(
    read: impl AsyncFn() -> Result<T, ClientError>,
    is_open: impl Fn(&T) -> bool,
    newest: impl AsyncFnOnce() -> Result<Option<Job>, ClientError>,
) -> Result<(T, Option<Job>), ClientError> {
    let seen = read().await?;
    if !is_open(&seen) {
        return Ok((seen, None));
    }
    let job = newest().await?;
    match job.as_ref().map(|job| job.state) {
        Some(JobState::Succeeded | JobState::Dead | JobState::Cancelled) => Ok((read().await?, job)),
        Some(JobState::Queued | JobState::Running) | None => Ok((seen, job)),
    }
}

async fn newest(
    client: &Client,
    project: &str,
    subject: String,
    kind: &str,
) -> Result<Option<Job>, ClientError> {
    let query = JobQuery {
        page: PageQuery { limit: Some(1), cursor: None },
        subject: Some(subject),
        kind: Some(kind.to_owned()),
        order: Some(Order::Desc),
        ..JobQuery::default()
    };
    Ok(client.jobs(project, &query).await?.items.into_iter().next())
}
