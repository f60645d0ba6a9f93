// SPDX-License-Identifier: Apache-2.0
//! The yardstick: the queue that one writes first. Everybody takes the job at the head, one at a time, in a transaction
//! that writes its attempt down, and completes it in another one. What is recorded is the same as ours.

use std::time::{Duration, Instant};

use cap_core::id::{ClaimId, JobId};
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::mongo::driver::error::{Result, TRANSIENT_TRANSACTION_ERROR};
use cap_testkit::mongo::driver::options::{ReadConcern, WriteConcern};
use cap_testkit::mongo::driver::{ClientSession, IndexModel};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::bench::figures::number;
use crate::bench::ground::{Counts, Ground, World};
use crate::bench::seed::Template;

/// Jobs in flight.
pub(crate) const IN_FLIGHT: usize = 64;
/// How long it is measured for.
const SPAN: Duration = Duration::from_secs(8);
/// More than it gets done in that time.
const JOBS: usize = 10_000;

/// What it got done.
pub(crate) struct Naive {
    pub(crate) rate: f64,
    pub(crate) done: usize,
    pub(crate) counts: Counts,
}

pub(crate) async fn run(ground: &Ground, world: &World, template: &Template) -> anyhow::Result<Naive> {
    let head = IndexModel::builder().keys(doc! { "state": 1, "claim_at": 1 }).build();
    world.collection("jobs").create_index(head).await?;
    let project = world.hold_back(template, JOBS).await?;
    world.release(project).await?;
    ground.settle().await?;
    let before = ground.counts().await?;
    let began = Instant::now();
    let workers = (0..IN_FLIGHT).map(|_| async {
        let mut session = world.raw.client().start_session().await?;
        let mut done = 0_usize;
        while began.elapsed() < SPAN {
            let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string();
            let Some(job) = again(&began, async || claim(world, &mut session, &token).await).await? else {
                break;
            };
            let audit = JobId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string();
            let completed = again(&began, async || complete(world, &mut session, &job, &token, &audit).await);
            done += usize::from(completed.await?.is_some());
        }
        anyhow::Ok(done)
    });
    let done: Vec<usize> = stream::iter(workers).buffer_unordered(IN_FLIGHT).try_collect().await?;
    let (took, done) = (began.elapsed(), done.iter().sum());
    let counts = ground.counts().await?.since(before);
    Ok(Naive { rate: number(done) / took.as_secs_f64(), done, counts })
}

/// Tries again at once while the transaction meets others, as the driver's own helper does; nothing when time is up.
async fn again<T>(
    began: &Instant,
    mut transaction: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    while began.elapsed() < SPAN {
        match transaction().await {
            Err(error) if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => {}
            result => return result,
        }
    }
    Ok(None)
}

async fn begin(session: &mut ClientSession) -> Result<()> {
    // One that met another is still open here; where there is none, nothing is sent.
    let _ = session.abort_transaction().await;
    let start = session.start_transaction().read_concern(ReadConcern::snapshot());
    start.write_concern(WriteConcern::majority()).await
}

async fn claim(world: &World, session: &mut ClientSession, token: &str) -> Result<Option<Document>> {
    begin(session).await?;
    let take = doc! {
        "$set": { "state": "running", "owner": "naive", "token": token },
        "$inc": { "attempt": 1, "fence": 1_i64 },
    };
    let jobs = world.collection("jobs");
    let head = jobs.find_one_and_update(doc! { "state": "queued" }, take).sort(doc! { "claim_at": 1 });
    let Some(job) = head.session(&mut *session).await? else {
        session.abort_transaction().await?;
        return Ok(None);
    };
    let attempt = doc! { "_id": format!("{}/1", job.get_str("_id").unwrap_or_default()), "owner": "naive", "token": token };
    world.collection("job_attempts").insert_one(attempt).session(&mut *session).await?;
    session.commit_transaction().await?;
    Ok(Some(job))
}

async fn complete(
    world: &World,
    session: &mut ClientSession,
    job: &Document,
    token: &str,
    audit: &str,
) -> Result<Option<()>> {
    begin(session).await?;
    let over =
        doc! { "$set": { "state": "succeeded", "alive": false }, "$unset": { "claim_at": 1, "token": 1 } };
    let own = doc! { "_id": job.get("_id").cloned(), "token": token };
    world.collection("jobs").update_one(own, over).session(&mut *session).await?;
    let issuer = doc! { "_id": job.get("subject").cloned() };
    let ready = doc! { "$set": { "status": "ready", "account_url": "https://ca.bench.invalid/", "last_event": audit } };
    world.collection("issuers").update_one(issuer, ready).session(&mut *session).await?;
    let row = doc! { "_id": audit, "leaf": "x".repeat(400) };
    world.collection("audit_outbox").insert_one(row).session(&mut *session).await?;
    session.commit_transaction().await?;
    Ok(Some(()))
}
