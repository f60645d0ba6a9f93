// SPDX-License-Identifier: Apache-2.0
//! A change stream that hangs says so: no answer and no error comes from a host that vanished.

use std::time::{Duration, Instant};

use cap_core::secret::SecretString;
use cap_store::{SCHEDULER_LEASE, Store};
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::mongo::driver::{Client, Database};

use crate::world::World;

/// Longer than the stream may be silent, by far; the database ends no such fault before it is over.
const HANGS: Duration = Duration::from_secs(25);
/// How long it takes to be noticed: the database's own wait, the bound of a try, and a machine that is busy.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
/// What the store of this test calls itself, so that nobody else's streams hang.
const APP: &str = "hangs";

async fn admin(world: &World) -> Database {
    Client::with_uri_str(&world.uri).await.unwrap().database("admin")
}

/// Has the next questions of our streams answered after a long time only, or as usual.
async fn hang(admin: &Database, hangs: bool) {
    let mode = if hangs { "alwaysOn" } else { "off" };
    let command: Document = doc! {
        "configureFailPoint": "failCommand", "mode": mode,
        "data": {
            "failCommands": ["getMore"], "appName": APP, "blockConnection": true,
            "blockTimeMS": i64::try_from(HANGS.as_millis()).unwrap(),
        },
    };
    admin.run_command(command).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_hangs_ends_in_an_error_and_another_one_hears() {
    let world = World::new().await;
    let admin = admin(&world).await;
    let uri = SecretString::from(world.uri.clone());
    let store = Store::connect(&uri, None, APP).await.unwrap();
    let nonce = "one";
    let ttl = Duration::from_secs(60);
    let mut term = None;
    while term.is_none() {
        // The first try may only create the lease.
        let clock = world.clock.as_ref();
        term = store.acquire_lease(SCHEDULER_LEASE, "one", nonce, ttl, clock).await.unwrap();
    }
    hang(&admin, true).await;
    let began = Instant::now();
    let mut lease = store.watch_lease(SCHEDULER_LEASE).await.unwrap();
    let told = tokio::time::timeout(NOTICED_WITHIN, lease.changed()).await;
    let took = began.elapsed();
    hang(&admin, false).await;
    let told = told.expect("it hangs in silence");
    assert!(told.is_err(), "{told:?} after {took:?}");

    let mut lease = store.watch_lease(SCHEDULER_LEASE).await.unwrap();
    store.release_lease(SCHEDULER_LEASE, term.unwrap()).await.unwrap();
    tokio::time::timeout(NOTICED_WITHIN, lease.changed()).await.expect("no wake-up").unwrap();
}

/// A stream that has nothing to tell answers that, again and again: it is no stream that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_is_let_alone() {
    /// Several answers of the database that nothing happened.
    const QUIET: Duration = Duration::from_secs(12);
    let world = World::new().await;
    let mut lease = world.store.watch_lease(SCHEDULER_LEASE).await.unwrap();
    let told = tokio::time::timeout(QUIET, lease.changed()).await;
    assert!(told.is_err(), "{told:?}");
}
