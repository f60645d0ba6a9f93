// SPDX-License-Identifier: Apache-2.0
//! Sealing over the real store: what is sealed opens, in its place only, and is nowhere in clear.

use std::sync::Arc;

use cap_core::envelope::{KeyId, KeyOwner, Keyring};
use cap_core::secret::ExposeSecret;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn another_process_opens_what_this_one_sealed_in_its_place_only() {
    let world = World::new().await;
    let owner = KeyOwner::Project(world.project);
    let place = ("issuers", "iss_1", "account_key");
    let sealed = world.keyring.seal(owner, place, 1, b"secret").await.unwrap();

    let canary = world.store.canary().await.unwrap().unwrap();
    let keys = Arc::new(world.store.clone());
    let other = Keyring::new(&canary, world.kek.clone(), keys, world.clock.clone(), world.entropy.clone());
    assert_eq!(other.open(owner, place, 1, &sealed).await.unwrap().expose_secret(), b"secret");
    for elsewhere in
        [("issuers", "iss_2", "account_key"), ("issuers", "iss_1", "eab"), ("orders", "iss_1", "account_key")]
    {
        assert!(other.open(owner, elsewhere, 1, &sealed).await.is_err());
    }
    assert!(other.open(owner, place, 2, &sealed).await.is_err());
    assert!(other.open(KeyOwner::Cluster, place, 1, &sealed).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_that_many_make_at_once_is_one_key() {
    let world = Arc::new(World::new().await);
    let canary = world.store.canary().await.unwrap().unwrap();
    let makers = (0..16).map(|_| {
        let keys = Arc::new(world.store.clone());
        let ring = Keyring::new(&canary, world.kek.clone(), keys, world.clock.clone(), world.entropy.clone());
        tokio::spawn(async move { *ring.current(KeyId::TOKEN_PEPPER).await.unwrap().1.expose_secret() })
    });
    let mut seen = std::collections::BTreeSet::new();
    for maker in makers.collect::<Vec<_>>() {
        seen.insert(maker.await.unwrap());
    }
    assert_eq!(seen.len(), 1);
}
