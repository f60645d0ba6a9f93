// SPDX-License-Identifier: Apache-2.0
//! Sealing over the real store: what is sealed opens, in its place only, and is nowhere in clear.

use std::sync::Arc;

use cap_core::envelope::{KeyId, KeyOwner, Keyring, Slot};
use cap_core::id::IssuerId;
use cap_core::secret::ExposeSecret;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn another_process_opens_what_this_one_sealed_in_its_place_only() {
    let world = World::new().await;
    let issuer = IssuerId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let slot = Slot::account_key(world.project, issuer);
    let sealed = world.keyring.seal(&slot, b"secret").await.unwrap();

    let canary = world.store.canary().await.unwrap().unwrap();
    let keys = Arc::new(world.store.clone());
    let other = Keyring::new(&canary, world.kek.clone(), keys, world.clock.clone(), world.entropy.clone());
    assert_eq!(other.open(&slot, &sealed).await.unwrap().expose_secret(), b"secret");
    let others = [
        Slot { record: "iss_2".into(), ..slot.clone() },
        Slot { field: "eab_hmac_key", ..slot.clone() },
        Slot { collection: "orders", ..slot.clone() },
        Slot { format: 2, ..slot.clone() },
        Slot { owner: KeyOwner::Cluster, ..slot.clone() },
    ];
    for elsewhere in others {
        assert!(other.open(&elsewhere, &sealed).await.is_err(), "{elsewhere:?}");
    }
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
