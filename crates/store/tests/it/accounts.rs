// SPDX-License-Identifier: Apache-2.0
//! Jobs that work on an account: one at a time, also when one takes the place of another.

use cap_core::clock::{later, until};
use cap_core::id::{IssuerId, JobId};
use cap_core::issuer::IssuerStatus;
use cap_core::job::{JobDraft, JobState, Settlement, Work};
use cap_core::problem::{Class, Problem};
use cap_store::{
    IssuerChange, IssuerDeleted, IssuerRecord, Mutation, Registration, RolloverRecord, StoreError,
};
use cap_testkit::mongo::driver::bson::{Document, doc};

use crate::dead::registering;
use crate::world::{LEASE, World};

fn account_job(world: &World, issuer: &IssuerRecord) -> JobDraft {
    let work = Work::RegisterIssuer { issuer: issuer.id };
    JobDraft::now(world.project, work, 0, world.clock.as_ref(), world.entropy.as_ref())
}

/// Has the key of the issuer's account rolled; answers the job.
async fn roll(world: &World, issuer: &str) -> JobId {
    let seen = world.store.issuer(world.project, issuer).await.unwrap().unwrap();
    let (job, audit) = (account_job(world, &seen), world.row().await);
    let mutation = Mutation { audit: &audit, request: None };
    let rollover =
        RolloverRecord { key: seen.account_key.clone(), requested_at: world.clock.now(), problem: None };
    world.store.request_rollover(&seen, &rollover, &job, mutation).await.unwrap();
    job.id
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_place_of_a_job_that_runs_waits_until_its_worker_has_let_go() {
    let world = World::new().await;
    let issuer = world.certificate("a.example.test").await.issuer.to_string();
    let runs = registering(&world).await;
    let next = roll(&world, &issuer).await;
    assert!(world.claim("two", LEASE).await.is_empty(), "the CA may yet hear the one that runs");
    let due = world.store.job(world.project, next).await.unwrap().unwrap().due_at.unwrap();
    let wait = until(world.clock.now(), due);
    assert!(wait <= LEASE && wait > LEASE / 2, "{wait:?}");
    // Neither whoever takes its place in turn, nor somebody who wants it now, waits for less.
    let last = roll(&world, &issuer).await;
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    world.store.retry_job(world.project, last, mutation).await.unwrap().unwrap();
    assert!(world.claim("two", LEASE).await.is_empty());
    assert!(world.store.job(world.project, last).await.unwrap().unwrap().due_at.unwrap() >= due);
    world.store.release_successor(&runs).await.unwrap();
    let claimed = world.claim("two", LEASE).await.remove(0);
    assert_eq!(claimed.job, last);
    assert!(claimed.fence > runs.fence);

    // Who follows that one waits for it, and not for a worker that comes to itself again.
    let behind = roll(&world, &issuer).await;
    world.store.release_successor(&runs).await.unwrap();
    assert!(world.claim("three", LEASE).await.is_empty());
    world.store.release_successor(&claimed).await.unwrap();
    assert_eq!(world.claim("three", LEASE).await.remove(0).job, behind);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_to_wait_all_the_same_waits_for_that_alone_once_it_is_held_up_no_more() {
    let world = World::new().await;
    let issuer = world.certificate("a.example.test").await.issuer;
    let runs = registering(&world).await;
    let seen = world.store.issuer(world.project, &issuer.to_string()).await.unwrap().unwrap();
    let mut job = account_job(&world, &seen);
    job.after = LEASE / 4;
    let problem = Problem::new(Class::Configuration, "unauthorized", "the account is suspended");
    let (next, audit) = (later(world.clock.now(), job.after), world.row().await);
    world.store.halt_account(&seen, &problem, next, &job, &audit).await.unwrap();
    let wait = async || {
        let job = world.store.job(world.project, job.id).await.unwrap().unwrap();
        until(world.clock.now(), job.due_at.unwrap())
    };
    assert!(wait().await > LEASE / 2, "its predecessor's worker may go on");
    world.store.release_successor(&runs).await.unwrap();
    let left = wait().await;
    assert!(left <= LEASE / 4 && left > LEASE / 8, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_place_of_a_job_that_waits_runs_at_once() {
    let world = World::new().await;
    let issuer = world.certificate("a.example.test").await.issuer.to_string();
    let next = roll(&world, &issuer).await;
    let claimed = world.claim("one", LEASE).await;
    assert!(claimed.iter().any(|claim| claim.job == next), "{claimed:?}");
}

/// Has the account deactivated; answers the job.
async fn deactivate(world: &World, issuer: IssuerId) -> JobId {
    let seen = world.store.issuer(world.project, &issuer.to_string()).await.unwrap().unwrap();
    let (job, audit) = (account_job(world, &seen), world.row().await);
    let mutation = Mutation { audit: &audit, request: None };
    assert!(world.store.request_deactivation(&seen, false, &job, mutation).await.unwrap().is_empty());
    job.id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_stays_while_its_account_is_changed_and_goes_where_something_is_in_the_way_of_that() {
    let world = World::new().await;
    let read = async |id: IssuerId| world.store.issuer(world.project, &id.to_string()).await.unwrap();
    let delete = async |id: IssuerId| {
        let audit = world.row().await;
        world.store.delete_issuer(id, None, Mutation { audit: &audit, request: None }).await.unwrap()
    };
    let used = world.certificate("a.example.test").await;
    assert!(matches!(delete(used.issuer).await, IssuerDeleted::Used(users) if users.len() == 1));
    assert_eq!(delete(world.issuer("registering").await).await, IssuerDeleted::Gone);

    let rolled = world.issuer("rolled").await;
    let rolls = roll(&world, &rolled.to_string()).await;
    assert_eq!(delete(rolled).await, IssuerDeleted::BeingRolled);
    let closed = world.issuer("closed").await;
    roll(&world, &closed.to_string()).await;
    let closes = deactivate(&world, closed).await;
    assert_eq!(delete(closed).await, IssuerDeleted::BeingDeactivated);
    let claims = world.claim("one", LEASE).await;
    for (issuer, job) in [(rolled, rolls), (closed, closes)] {
        let claim = claims.iter().find(|claim| claim.job == job).unwrap();
        let (seen, now) = (read(issuer).await.unwrap(), world.clock.now());
        let problem = Problem::new(Class::Configuration, "unauthorized", "not by you");
        let failing = Registration::Failing(problem, later(now, LEASE));
        let audit = world.row().await;
        world.store.settle_registration(claim, &seen, &failing, now, &audit).await.unwrap();
        assert_eq!(read(issuer).await.unwrap().status, IssuerStatus::Failing);
        assert_eq!(delete(issuer).await, IssuerDeleted::Gone);
        assert_eq!(read(issuer).await, None);
        let job = world.store.job(world.project, job).await.unwrap().unwrap();
        assert_eq!(job.state, JobState::Cancelled);
    }
}

/// A CA that has another root by now is told all the same, once somebody says by what it is trusted.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_being_closed_may_have_its_ca_trusted_by_other_roots_and_nothing_else() {
    let world = World::new().await;
    let issuer = world.issuer("closing").await;
    let job = deactivate(&world, issuer).await;
    let claims = world.claim("one", LEASE).await;
    let claim = claims.iter().find(|claim| claim.job == job).unwrap();
    let away = Problem::new(Class::Transient, "ca-not-trusted", "another root");
    let again = Settlement::Again { after: LEASE * 60, problem: Some(away), setbacks: None };
    world.store.settle(claim, &again, world.clock.now()).await.unwrap();
    let before = world.store.issuer(world.project, &issuer.to_string()).await.unwrap().unwrap();
    let change = async |change: IssuerChange| {
        let audit = world.row().await;
        let mutation = Mutation { audit: &audit, request: None };
        let again = account_job(&world, &before);
        world.store.update_issuer(issuer, None, &change, &again, mutation).await
    };
    let contacts = IssuerChange { contacts: Some(Vec::new()), ..IssuerChange::default() };
    assert!(matches!(change(contacts).await, Err(StoreError::Conflict { .. })));
    assert!(world.claim("two", LEASE).await.iter().all(|claim| claim.job != job), "it waits");
    assert!(change(IssuerChange { trust_roots: Some(None), ..IssuerChange::default() }).await.unwrap());
    assert!(world.claim("two", LEASE).await.iter().any(|claim| claim.job == job), "it is tried now");
    // Its job may have been given up.
    let jobs = crate::queue::raw(&world).await.collection::<Document>("jobs");
    let dead = doc! { "$set": { "alive": false, "state": "dead" }, "$unset": { "claim_at": "" } };
    jobs.update_one(doc! { "_id": job.to_string() }, dead).await.unwrap();
    assert!(change(IssuerChange { trust_roots: Some(None), ..IssuerChange::default() }).await.unwrap());
    assert_eq!(world.claim("three", LEASE).await.len(), 1, "another one is queued");
    let now = world.store.issuer(world.project, &issuer.to_string()).await.unwrap().unwrap();
    assert_eq!(now.shown_status(), IssuerStatus::Deactivating);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_whose_account_is_closed_goes() {
    let world = World::new().await;
    let issuer = world.issuer("closed").await;
    let job = deactivate(&world, issuer).await;
    let claims = world.claim("one", LEASE).await;
    let claim = claims.iter().find(|claim| claim.job == job).unwrap();
    let problem = Problem::new(Class::Configuration, "issuer-deactivated", "closed");
    let audit = world.row().await;
    world.store.record_deactivation(claim, issuer, &problem, &audit).await.unwrap();
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    assert_eq!(world.store.delete_issuer(issuer, None, mutation).await.unwrap(), IssuerDeleted::Gone);
}
