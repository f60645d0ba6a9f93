// SPDX-License-Identifier: Apache-2.0
//! The recorder: the facts of many orders in few transactions, and none of them held up by another.

use std::time::{Duration, Instant};

use cap_core::id::VersionId;
use cap_core::job::{Claim, JobState, Settlement};
use cap_core::order::{Ledger, LedgerError, Order, OrderState, Placed};
use cap_store::{OpenOrder, Opened, Store, StoreError, TRY_BOUND};
use cap_testkit::mongo::driver::bson::{Bson, Document, doc};
use cap_testkit::mongo::driver::{Client, Database};
use cap_testkit::mongo::{ReplicaSet, ReplicaSetOptions};
use futures_util::future::join_all;

use crate::orders::version;
use crate::world::{FUSE, LEASE, World, held};

const ORDERS: usize = 20;

fn placed(order: &Order) -> OrderState {
    let url = format!("https://ca.example.test/order/{}", order.id);
    OrderState::Ordered { placed: Placed { url, expires: None } }
}

async fn drafts(world: &World) -> Vec<(Claim, Order)> {
    let mut certificates = Vec::new();
    for index in 0..ORDERS {
        certificates.push(world.certificate(&format!("n{index}.example.test")).await);
    }
    let mut orders = Vec::new();
    for claim in world.claim("one", LEASE).await {
        let mine = |certificate: &&cap_store::CertificateRecord| {
            claim.work.key().contains(&certificate.id.to_string())
        };
        let certificate = certificates.iter().find(mine).unwrap();
        let order = world.order(certificate, &claim).await;
        orders.push((claim, order));
    }
    assert_eq!(orders.len(), ORDERS);
    orders
}

/// Begins the orders all at once.
async fn begin(world: &World, store: &Store) -> Vec<Order> {
    let at = world.clock.now();
    let begun = drafts(world).await.into_iter().map(|(_, order)| async move {
        match store.open_order(&OpenOrder { order, fuse: FUSE, at }).await.unwrap() {
            Opened::Order(order) => *order,
            other => panic!("an order did not begin: {other:?}"),
        }
    });
    join_all(begun).await
}

async fn database(world: &World) -> (Client, Database) {
    let client = Client::with_uri_str(&world.uri).await.unwrap();
    let database = client.default_database().unwrap();
    (client, database)
}

/// The transactions that wrote orders, as the replica set's log has them.
async fn transactions(client: &Client, database: &Database) -> u64 {
    let namespace = format!("{}.orders", database.name());
    let log = client.database("local").collection::<Document>("oplog.rs");
    log.count_documents(doc! { "o.applyOps.ns": namespace }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_the_same_moment_share_a_transaction() {
    let world = World::new().await;
    let (client, database) = database(&world).await;
    let store = world.store.clone().working_in_groups();
    let orders = begin(&world, &store).await;
    let begun = transactions(&client, &database).await;
    assert!((1..=5).contains(&begun), "{ORDERS} orders began in {begun} transactions");
    let advanced = join_all(orders.iter().map(|order| store.advance(order, placed(order), &[]))).await;
    for (order, advanced) in orders.iter().zip(advanced) {
        assert_eq!(store.order(order.id).await.unwrap(), Some(advanced.unwrap()));
    }
    let wrote = transactions(&client, &database).await - begun;
    assert!((1..=5).contains(&wrote), "{ORDERS} facts took {wrote} transactions");
}

/// A record as the database has it, without what differs from one to the next: ids, names, times and what is sealed.
async fn bare(database: &Database, collection: &str, id: &str) -> serde_json::Value {
    fn bare(value: Bson) -> serde_json::Value {
        match value {
            Bson::Document(fields) => fields.into_iter().map(|(name, value)| (name, bare(value))).collect(),
            Bson::Array(values) => values.into_iter().map(bare).collect(),
            Bson::String(text) if text.contains(['_', '.', '/']) => "of its own".into(),
            Bson::DateTime(_) => "a time".into(),
            Bson::Binary(binary) => binary.bytes.len().into(),
            value => format!("{value:?}").into(),
        }
    }
    let found = database.collection::<Document>(collection).find_one(doc! { "_id": id }).await.unwrap();
    bare(found.unwrap().into())
}

/// An order from its begin to its end, and what its records are then.
async fn whole(
    world: &World,
    database: &Database,
    store: &Store,
    (claim, order): (Claim, Order),
) -> [serde_json::Value; 2] {
    let (id, certificate) = (order.id.to_string(), order.certificate.to_string());
    let opened = store.open_order(&OpenOrder { order, fuse: FUSE, at: world.clock.now() }).await.unwrap();
    let Opened::Order(order) = opened else { panic!("an order did not begin: {opened:?}") };
    let order = store.advance(&order, placed(&order), &[]).await.unwrap();
    store.store(&claim, &order, &version(world).await, &world.row().await).await.unwrap();
    [bare(database, "orders", &id).await, bare(database, "certificates", &certificate).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_in_a_group_is_what_is_given_alone() {
    let world = World::new().await;
    let (client, database) = database(&world).await;
    let mut drafts = drafts(&world).await;
    let alone = whole(&world, &database, &world.store, drafts.remove(0)).await;
    let store = world.store.clone().working_in_groups();
    let _writers: Vec<_> = drafts.iter().map(|_| store.writer()).collect();
    let (wrote, facts) = (transactions(&client, &database).await, 3 * drafts.len());
    let in_groups = drafts.into_iter().map(|draft| whole(&world, &database, &store, draft));
    for records in join_all(in_groups).await {
        assert_eq!(records, alone);
    }
    let wrote = transactions(&client, &database).await - wrote;
    assert!(wrote <= u64::try_from(facts / 2).unwrap(), "{facts} facts took {wrote} transactions");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_one_moment_begin_but_for_those_whose_certificates_moved_on() {
    let world = World::new().await;
    let (_client, database) = database(&world).await;
    let store = world.store.clone().working_in_groups();
    let mut drafts: Vec<Order> = drafts(&world).await.into_iter().map(|(_, order)| order).collect();
    // One was made for a version that there never was, and a later claim wrote the certificate of the other.
    drafts[3].made_for = Some(VersionId::generate(world.clock.as_ref(), world.entropy.as_ref()));
    let certificates = database.collection::<Document>("certificates");
    let later = doc! { "$set": { "fence": drafts[5].fence + 1 } };
    let moved = doc! { "_id": drafts[5].certificate.to_string() };
    certificates.update_one(moved, later).await.unwrap();
    let _writers: Vec<_> = drafts.iter().map(|_| store.writer()).collect();
    let (store, at) = (&store, world.clock.now());
    let begun = drafts.iter().map(|order| async move {
        store.open_order(&OpenOrder { order: order.clone(), fuse: FUSE, at }).await.unwrap()
    });
    for (n, (begun, order)) in join_all(begun).await.into_iter().zip(&drafts).enumerate() {
        let stored = world.store.order(order.id).await.unwrap();
        if [3, 5].contains(&n) {
            assert_eq!((begun, stored), (Opened::Superseded, None), "order {n}");
        } else {
            assert_eq!((begun, stored.as_ref()), (Opened::Order(Box::new(order.clone())), Some(order)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_that_is_refused_takes_no_other_with_it() {
    let world = World::new().await;
    let store = world.store.clone().working_in_groups();
    let orders = begin(&world, &store).await;
    let lost = &orders[7];
    world.store.take_order(lost.certificate, lost.fence + 1).await.unwrap().unwrap();
    let advanced = join_all(orders.iter().map(|order| store.advance(order, placed(order), &[]))).await;
    for (order, advanced) in orders.iter().zip(advanced) {
        let stored = store.order(order.id).await.unwrap().unwrap();
        if order.id == lost.id {
            assert_eq!(
                (advanced, stored.state),
                (Err(LedgerError::Fenced), OrderState::Keyed { replaces: None })
            );
        } else {
            assert_eq!(stored, advanced.unwrap());
        }
    }
}

/// Their ends are alike, and so one statement, which must not end what is a peer's.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_end_alike_end_together_but_for_one_that_a_peer_has() {
    const JOBS: usize = 6;
    let world = World::new().await;
    let store = world.store.clone().working_in_groups();
    for n in 0..JOBS {
        world.certificate(&format!("h{n}.example.test")).await;
    }
    let claims = world.claim("one", Duration::ZERO).await;
    assert_eq!(claims.len(), JOBS);
    let kept: Vec<_> = claims[1..].iter().map(held).collect();
    assert_eq!(world.store.extend_claims(&kept, LEASE).await.unwrap().kept.len(), JOBS - 1);
    let taken = world.claim("two", LEASE).await;
    assert_eq!(taken.iter().map(|claim| claim.job).collect::<Vec<_>>(), [claims[0].job]);
    let _writers: Vec<_> = (0..2 * JOBS).map(|_| store.writer()).collect();
    let now = world.clock.now();
    let ended = join_all(claims.iter().map(|claim| store.settle(claim, &Settlement::Succeeded, now))).await;
    assert!(matches!(ended[0], Err(StoreError::Fenced)), "{ended:?}");
    assert!(ended[1..].iter().all(Result::is_ok), "{ended:?}");
    for claim in &claims {
        let job = store.job(world.project, claim.job).await.unwrap().unwrap();
        let expected = if claim.job == claims[0].job { JobState::Running } else { JobState::Succeeded };
        assert_eq!(job.state, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_somebody_holds_holds_up_only_its_own_fact() {
    let world = World::new().await;
    let (client, database) = database(&world).await;
    let store = world.store.clone().working_in_groups();
    let orders = begin(&world, &store).await;
    let held = &orders[3];
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let records = database.collection::<Document>("orders");
    let touch = doc! { "$set": { "touched": true } };
    records.update_one(doc! { "_id": held.id.to_string() }, touch).session(&mut session).await.unwrap();
    let others = orders.iter().filter(|order| order.id != held.id);
    let others = join_all(others.map(|order| store.advance(order, placed(order), &[])));
    let (others, held_up) = tokio::join!(others, store.advance(held, placed(held), &[]));
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    assert!(matches!(held_up, Err(LedgerError::Unavailable(_))), "{held_up:?}");
    session.abort_transaction().await.unwrap();
    store.advance(held, placed(held), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_behind_one_that_hangs_is_answered_in_the_time_of_one() {
    let set = ReplicaSet::start().await.unwrap();
    let world = World::at(set.uri_for("recorder")).await;
    let store = world.store.clone().working_in_groups();
    let orders = begin(&world, &store).await;
    for index in 0..set.len() {
        set.pause(index).unwrap();
    }
    let (first, second) = (&orders[0], &orders[1]);
    let behind = async {
        // By now the recorder has the first in hand. Were it not so, both would share their fate, and be in time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = Instant::now();
        (store.advance(second, placed(second), &[]).await, asked.elapsed())
    };
    let (hung, (refused, took)) = tokio::join!(store.advance(first, placed(first), &[]), behind);
    for index in 0..set.len() {
        set.resume(index).unwrap();
    }
    assert!(matches!(hung, Err(LedgerError::Unavailable(_))), "{hung:?}");
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    assert!(took < TRY_BOUND + Duration::from_secs(2), "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_that_nobody_waits_for_is_not_written_later() {
    let set = ReplicaSet::start().await.unwrap();
    let world = World::at(set.uri_for("recorder")).await;
    let store = world.store.clone().working_in_groups();
    let orders = begin(&world, &store).await;
    for index in 0..set.len() {
        set.pause(index).unwrap();
    }
    let (hung, given_up, next) = (&orders[0], &orders[1], &orders[2]);
    let behind = async {
        // By now the recorder has the first in hand, for longer than anybody waits here.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let write = store.advance(given_up, placed(given_up), &[]);
        assert!(tokio::time::timeout(Duration::from_secs(1), write).await.is_err(), "nothing answers");
    };
    let (refused, ()) = tokio::join!(store.advance(hung, placed(hung), &[]), behind);
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    for index in 0..set.len() {
        set.resume(index).unwrap();
    }
    let written = tokio::time::timeout(Duration::from_secs(60), async {
        while store.advance(next, placed(next), &[]).await.is_err() {}
    });
    written.await.unwrap();
    // The recorder keeps the order: what was handed over before the last one has had its turn.
    assert_eq!(store.order(given_up.id).await.unwrap().unwrap().state, OrderState::Keyed { replaces: None });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_that_nobody_waits_for_is_not_written_alone_behind_its_group() {
    /// Longer than the one waits that gives up.
    const HELD_MS: i32 = 2_000;
    let parameters = vec!["enableTestCommands=1".to_owned()];
    let options = ReplicaSetOptions { members: 1, parameters, ..ReplicaSetOptions::default() };
    let set = ReplicaSet::start_with(options).await.unwrap();
    let world = World::at(set.uri_for("recorder")).await;
    let store = world.store.clone().working_in_groups();
    let orders = begin(&world, &store).await;
    let (lost, given_up, other) = (&orders[0], &orders[1], &orders[2]);
    world.store.take_order(lost.certificate, lost.fence + 1).await.unwrap().unwrap();
    let hold = doc! {
        "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": {
            "failCommands": ["update"], "namespace": "recorder.orders", "blockConnection": true, "blockTimeMS": HELD_MS,
        },
    };
    set.command(0, hold).await.unwrap();
    // So many that the group waits while facts keep coming, and these three come at once.
    let _writers: Vec<_> = (0..200).map(|_| store.writer()).collect();
    let gives_up = async {
        let write = store.advance(given_up, placed(given_up), &[]);
        tokio::time::timeout(Duration::from_secs(1), write).await
    };
    let (lost, gave_up, other) = tokio::join!(
        store.advance(lost, placed(lost), &[]),
        gives_up,
        store.advance(other, placed(other), &[])
    );
    assert!(gave_up.is_err(), "the group was not held up");
    assert!(matches!(lost, Err(LedgerError::Fenced)), "{lost:?}");
    other.unwrap();
    // What the recorder wrote behind the group is written before this.
    store.advance(&orders[3], placed(&orders[3]), &[]).await.unwrap();
    assert_eq!(store.order(given_up.id).await.unwrap().unwrap().state, OrderState::Keyed { replaces: None });
}
