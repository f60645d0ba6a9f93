// SPDX-License-Identifier: Apache-2.0
//! Migrations: repeatable, refused when the database is newer, nothing written under a wrong KEK.

use cap_core::envelope::KekError;
use cap_core::secret::SecretString;
use cap_store::{MigrateError, SchemaStatus, Store};
use cap_testkit::mongo::ReplicaSet;
use mongodb::bson::{Document, doc};

use crate::world::{World, kek};

async fn raw(uri: &str) -> mongodb::Database {
    mongodb::Client::with_uri_str(uri).await.unwrap().default_database().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_twice_changes_nothing() {
    let world = World::new().await;
    let again =
        world.store.migrate(world.kek.as_ref(), world.clock.as_ref(), world.entropy.as_ref()).await.unwrap();
    assert_eq!(again, Vec::<u32>::new());
    assert!(matches!(world.store.schema_status().await.unwrap(), SchemaStatus::Current(n) if n >= 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_migrations_at_once_make_one_cluster_and_one_canary() {
    let database = ReplicaSet::fresh_database().await.unwrap();
    let uri = database.uri;
    let migrations = (0..10).map(|_| {
        let uri = uri.clone();
        tokio::spawn(async move {
            let store = Store::connect(&SecretString::from(uri), None, "test").await.unwrap();
            let (clock, entropy) = (cap_runtime::clock::SystemClock, cap_runtime::entropy::OsEntropy);
            store.migrate(kek(7).as_ref(), &clock, &entropy).await.map(|_| ())
        })
    });
    for migration in migrations.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
    let database = raw(&uri).await;
    assert_eq!(database.collection::<Document>("kek_versions").count_documents(doc! {}).await.unwrap(), 1);
    let clusters = database.collection::<Document>("migrations");
    assert_eq!(clusters.count_documents(doc! { "_id": "cluster" }).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_or_changed_schema_is_refused() {
    let world = World::new().await;
    let migrations = raw(&world.uri).await.collection::<Document>("migrations");
    migrations.insert_one(doc! { "_id": 99, "name": "future", "sha256": "x" }).await.unwrap();
    assert!(matches!(world.store.schema_status().await.unwrap(), SchemaStatus::Unknown { database: 99, .. }));
    let refused = world.store.migrate(world.kek.as_ref(), world.clock.as_ref(), world.entropy.as_ref()).await;
    assert!(matches!(refused, Err(MigrateError::Newer { database: 99, .. })), "{refused:?}");

    migrations.delete_one(doc! { "_id": 99 }).await.unwrap();
    migrations.update_one(doc! { "_id": 1 }, doc! { "$set": { "sha256": "other" } }).await.unwrap();
    let refused = world.store.migrate(world.kek.as_ref(), world.clock.as_ref(), world.entropy.as_ref()).await;
    assert!(matches!(refused, Err(MigrateError::Changed(1))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_kek_is_refused_and_leaves_no_trace() {
    let world = World::new().await;
    let database = raw(&world.uri).await;
    let before = fingerprint(&database).await;
    let refused = world.store.migrate(kek(8).as_ref(), world.clock.as_ref(), world.entropy.as_ref()).await;
    assert!(matches!(refused, Err(MigrateError::Kek(KekError::Wrong(1)))), "{refused:?}");
    assert_eq!(fingerprint(&database).await, before);
}

/// The content hash of every collection, by the database's own count.
async fn fingerprint(database: &mongodb::Database) -> String {
    database.run_command(doc! { "dbHash": 1 }).await.unwrap().get_str("md5").unwrap().to_owned()
}
