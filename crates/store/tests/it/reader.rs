// SPDX-License-Identifier: Apache-2.0
//! The reader: what many ask for by ids in few questions, each answered with its own.

use std::time::{Duration, Instant};

use cap_core::id::CertificateId;
use cap_store::{StoreError, TRY_BOUND};
use cap_testkit::mongo::ReplicaSet;
use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{Document, doc};
use futures_util::future::join_all;

use crate::world::World;

const RECORDS: usize = 20;
/// Answers of members that were told to stop, at most.
const ANSWERS_YET: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_the_same_moment_are_asked_together() {
    let mut world = World::new().await;
    world.may_scan();
    let mut certificates = Vec::new();
    for index in 0..RECORDS {
        certificates.push(world.certificate(&format!("n{index}.example.test")).await);
    }
    let nobody = CertificateId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let client = Client::with_uri_str(&world.uri).await.unwrap();
    let database = client.default_database().unwrap();
    let asked = doc! { "op": "query", "command.find": { "$in": ["certificates", "issuers"] } };
    database.run_command(doc! { "profile": 1, "filter": asked }).await.unwrap();

    let store = world.store.clone().working_in_groups();
    let (found, issuers, twice, none) =
        tokio::join!(
            join_all(certificates.iter().map(|certificate| store.certificate(world.project, certificate.id))),
            join_all(certificates.iter().map(|certificate| async {
                store.issuer(world.project, &certificate.issuer.to_string()).await
            })),
            store.certificate(world.project, certificates[0].id),
            store.certificate(world.project, nobody),
        );
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    for ((certificate, found), issuer) in certificates.iter().zip(found).zip(issuers) {
        assert_eq!(found.unwrap().unwrap().id, certificate.id);
        assert_eq!(issuer.unwrap().unwrap().id, certificate.issuer);
    }
    assert_eq!(twice.unwrap().unwrap().id, certificates[0].id);
    assert_eq!(none.unwrap(), None);
    let questions = database.collection::<Document>("system.profile").count_documents(doc! {}).await.unwrap();
    assert!((2..=10).contains(&questions), "{RECORDS} of two kinds took {questions} questions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_behind_one_that_hangs_is_answered_in_the_time_of_one() {
    let set = ReplicaSet::start().await.unwrap();
    let world = World::at(set.uri_for("reader")).await;
    let certificate = world.certificate("one.example.test").await;
    let store = world.store.clone().working_in_groups();
    assert!(store.certificate(world.project, certificate.id).await.unwrap().is_some());
    (0..set.len()).for_each(|index| set.pause(index).unwrap());
    let first = async {
        // A member that was told to stop may answer for a moment yet.
        for _ in 0..ANSWERS_YET {
            store.certificate(world.project, certificate.id).await?;
        }
        panic!("members that are paused answer on");
    };
    let behind = async {
        // By now the reader has one of the first in hand. Were it not so, both would share their fate, and be in time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = Instant::now();
        (store.certificate(world.project, certificate.id).await, asked.elapsed())
    };
    let (hung, (refused, took)) = tokio::join!(first, behind);
    (0..set.len()).for_each(|index| set.resume(index).unwrap());
    for refused in [hung, refused] {
        match refused {
            Err(StoreError::Unavailable { doing, .. }) => assert_eq!(doing, "read a certificate"),
            other => panic!("no such refusal: {other:?}"),
        }
    }
    assert!(took < TRY_BOUND + Duration::from_secs(2), "it took {took:?}");
}
