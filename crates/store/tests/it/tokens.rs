// SPDX-License-Identifier: Apache-2.0
//! The first administrator: one winner, once and for all.

use std::sync::Arc;

use cap_core::actor::Role;
use cap_core::id::TokenId;
use cap_store::{Mutation, StoreError, TokenRecord};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_bootstraps_one_wins() {
    let world = Arc::new(World::new().await);
    let racers = (0..100).map(|_| {
        let world = world.clone();
        tokio::spawn(async move {
            let now = world.clock.now();
            let token = TokenRecord {
                id: TokenId::generate(world.clock.as_ref(), world.entropy.as_ref()),
                name: "bootstrap".parse().unwrap(),
                role: Role::Owner,
                project: None,
                digest: vec![0; 32],
                pepper_version: 1,
                created_at: now,
                expires_at: now,
                revoked_at: None,
            };
            let audit = world.row().await;
            world.store.bootstrap(&token, Mutation { audit: &audit, request: None }).await
        })
    });
    let mut winners = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(()) => winners += 1,
            Err(StoreError::Conflict { .. } | StoreError::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners, 1);
}
