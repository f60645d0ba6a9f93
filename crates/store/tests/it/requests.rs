// SPDX-License-Identifier: Apache-2.0
//! Mutations: the audit row goes in with them or not at all, and a repeated request is told from a new one.

use cap_core::id::ProjectId;
use cap_core::page::Page;
use cap_store::{Mutation, ProjectRecord, Request, StoreError};
use mongodb::bson::{Document, doc};

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

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_again_is_a_replay_of_the_first() {
    let world = World::new().await;
    let first = project(&world, "one");
    let request = |project: &ProjectRecord| Request {
        id: "caller/route/key".into(),
        body_sha256: "ab".into(),
        status: 201,
        resource: project.id.to_string(),
        remembered_until: world.clock.now(),
    };
    let audit = world.row().await;
    let sent = request(&first);
    world.store.create_project(&first, Mutation { audit: &audit, request: Some(&sent) }).await.unwrap();
    let (second, audit) = (project(&world, "one"), world.row().await);
    let sent = request(&second);
    let replayed =
        world.store.create_project(&second, Mutation { audit: &audit, request: Some(&sent) }).await;
    match replayed {
        Err(StoreError::Replayed(replay)) => assert_eq!(replay.resource, first.id.to_string()),
        other => panic!("not a replay: {other:?}"),
    }
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
