// SPDX-License-Identifier: Apache-2.0
//! Mutations: the audit row goes in with them or not at all, and a repeated request is told from a new one.

use std::time::Duration;

use cap_core::certificate::RevocationReason;
use cap_core::id::{JobId, ProjectId};
use cap_core::job::{JobDraft, Work};
use cap_core::page::Page;
use cap_store::{
    CertificateChange, CertificateRecord, JobFilter, JobRecord, Mutation, ProjectRecord, Request,
    RevocationAsked, StoreError,
};
use cap_testkit::mongo::ReplicaSet;
use cap_testkit::wait::{self, Pending};
use mongodb::bson::{Document, doc};

use crate::notices::issued;
use crate::revocations::ask_of;
use crate::world::World;

fn project(world: &World, name: &str) -> ProjectRecord {
    let id = ProjectId::generate(world.clock.as_ref(), world.entropy.as_ref());
    ProjectRecord {
        id,
        name: name.parse().unwrap(),
        drift: None,
        weight: cap_core::job::Weight::default(),
        created_at: world.clock.now(),
    }
}

async fn outbox(world: &World) -> u64 {
    let raw = mongodb::Client::with_uri_str(&world.uri).await.unwrap().default_database().unwrap();
    raw.collection::<Document>("audit_outbox").count_documents(doc! {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_mutation_leaves_no_audit_row_and_a_carried_out_one_leaves_one() {
    let world = World::new().await;
    let audit = world.row().await;
    world
        .store
        .create_project(&project(&world, "one"), Mutation { audit: &audit, request: None })
        .await
        .unwrap();
    assert_eq!(outbox(&world).await, 1);
    let audit = world.row().await;
    let taken =
        world.store.create_project(&project(&world, "one"), Mutation { audit: &audit, request: None }).await;
    assert!(matches!(taken, Err(StoreError::Conflict { .. })), "{taken:?}");
    assert_eq!(outbox(&world).await, 1);
}

/// Asks for a project of one name under one key; answers what its id would be.
async fn ask(world: &World) -> (ProjectId, Result<(), StoreError>) {
    let (asked, audit) = (project(world, "one"), world.row().await);
    let request = Request {
        id: "caller/route/key".into(),
        body_sha256: "ab".into(),
        status: 201,
        resource: asked.id.to_string(),
        remembered_until: world.clock.now() + Duration::from_secs(60),
    };
    let mutation = Mutation { audit: &audit, request: Some(&request) };
    (asked.id, world.store.create_project(&asked, mutation).await)
}

fn assert_replays(asked: &Result<(), StoreError>, first: ProjectId) {
    match asked {
        Err(StoreError::Replayed(replay)) => assert_eq!(replay.resource, first.to_string()),
        other => panic!("not a replay: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_again_is_a_replay_of_the_first() {
    let world = World::new().await;
    let (first, asked) = ask(&world).await;
    asked.unwrap();
    assert_replays(&ask(&world).await.1, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_no_majority_has_yet_is_not_in_its_own_way() {
    let set = ReplicaSet::start().await.unwrap();
    let world = World::at(set.uri_for("requests")).await;
    let primary = set.primary().await.unwrap();
    let replicate = async |goes_on: bool| {
        let mode = if goes_on { "off" } else { "alwaysOn" };
        for index in (0..set.len()).filter(|index| *index != primary) {
            set.command(index, doc! { "configureFailPoint": "stopReplProducer", "mode": mode })
                .await
                .unwrap();
        }
    };
    let certificate = world.certificate("a.example.test").await;
    let wanted = JobFilter { subject: Some(certificate.id.to_string()), ..JobFilter::default() };
    let page = Page::parse::<JobId>(None, None).unwrap();
    let job = world.store.jobs(world.project, &wanted, &page).await.unwrap().items[0].id;
    let cancel = async || {
        let request = Request {
            id: "caller/cancel/key".into(),
            body_sha256: "ab".into(),
            status: 200,
            resource: job.to_string(),
            remembered_until: world.clock.now() + Duration::from_secs(60),
        };
        let audit = world.row().await;
        let mutation = Mutation { audit: &audit, request: Some(&request) };
        world.store.cancel_job(world.project, job, mutation).await
    };
    // Stores the key of audit rows, which takes a majority too.
    world.row().await;
    replicate(false).await;
    for what in ["the first", "the same again, which finds it cancelled"] {
        let cancelled = cancel().await;
        assert!(matches!(cancelled, Err(StoreError::Unavailable { .. })), "{what}: {cancelled:?}");
    }
    let (first, unclear) = ask(&world).await;
    assert!(matches!(unclear, Err(StoreError::Unavailable { .. })), "{unclear:?}");
    // The primary has the project by now, so its name is taken: by this very request.
    let (_, again) = ask(&world).await;
    assert!(matches!(again, Err(StoreError::Unavailable { .. })), "{again:?}");
    replicate(true).await;
    let replayed = wait::until("the request to be answered", Duration::from_secs(60), || async {
        match ask(&world).await.1 {
            Err(StoreError::Unavailable { cause, .. }) => Err(Pending::not_yet(cause)),
            answer => Ok(answer),
        }
    });
    assert_replays(&replayed.await.unwrap(), first);
    assert!(matches!(cancel().await, Err(StoreError::Replayed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_join_to_the_whole_list_while_others_are_added() {
    let world = World::new().await;
    let mut made = Vec::new();
    for n in 0..7 {
        let (record, audit) = (project(&world, &format!("p{n}")), world.row().await);
        world.store.create_project(&record, Mutation { audit: &audit, request: None }).await.unwrap();
        made.push(record.id);
    }
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = Page::parse::<ProjectId>(Some(3), cursor.as_deref()).unwrap();
        let slice = world.store.projects(None, &page).await.unwrap();
        seen.extend(slice.items.into_iter().map(|project| project.id));
        cursor = slice.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    made.sort();
    assert_eq!(seen, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_had_nothing_to_do_is_remembered_once_and_is_a_replay_from_then_on() {
    let world = World::new().await;
    let request = Request {
        id: "caller/route/joined".into(),
        body_sha256: "ab".into(),
        status: 202,
        resource: "issuer".into(),
        remembered_until: world.clock.now() + Duration::from_secs(60),
    };
    let before = outbox(&world).await;
    world.store.remember(&request).await.unwrap();
    assert_eq!(world.store.replay(&request.id).await.unwrap().unwrap().resource, "issuer");
    assert!(matches!(world.store.remember(&request).await, Err(StoreError::Replayed(_))));
    assert_eq!(outbox(&world).await, before, "nothing was changed");
}

/// Asks for the renewal of a certificate as it was seen.
async fn renew(
    world: &World,
    certificate: &CertificateRecord,
    seen: Option<&CertificateRecord>,
) -> Result<JobRecord, StoreError> {
    let work = Work::Issue { certificate: certificate.id, made_for: None };
    let job = JobDraft::now(world.project, work, 1, world.clock.as_ref(), world.entropy.as_ref());
    let audit = world.row().await;
    world.store.request_renewal(seen, &job, Mutation { audit: &audit, request: None }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_of_what_changed_since_it_was_seen_is_refused_whole() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let read = async || world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    let seen = read().await;
    let (change, audit) =
        (CertificateChange { auto_renew: Some(false), ..CertificateChange::default() }, world.row().await);
    let (now, mutation) = (world.clock.now(), Mutation { audit: &audit, request: None });
    assert!(world.store.update_certificate(seen.id, None, change, now, mutation).await.unwrap());
    let before = outbox(&world).await;
    let refused = renew(&world, &certificate, Some(&seen)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(outbox(&world).await, before);
    renew(&world, &certificate, Some(&read().await)).await.unwrap();
    renew(&world, &certificate, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_it_was_seen_is_not_revoked() {
    let world = World::new().await;
    let certificate =
        issued(&world, "a.example.test", Duration::from_secs(60), Duration::from_secs(3_600)).await;
    let read = async || world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    let seen = read().await;
    let audit = world.row().await;
    let (change, now) =
        (CertificateChange { auto_renew: Some(false), ..CertificateChange::default() }, world.clock.now());
    let mutation = Mutation { audit: &audit, request: None };
    assert!(world.store.update_certificate(seen.id, None, change, now, mutation).await.unwrap());
    let reason = RevocationReason::Superseded;
    let refused = ask_of(&world, Some(&seen), &certificate, reason, None).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert!(read().await.version.unwrap().revocation.is_none());
    let seen = read().await;
    let asked = ask_of(&world, Some(&seen), &certificate, reason, None).await.unwrap();
    assert!(matches!(asked, RevocationAsked::Job(_)), "{asked:?}");
}
