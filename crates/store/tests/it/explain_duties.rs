// SPDX-License-Identifier: Apache-2.0
//! How the database carries out what the leader's duties ask it, and the lists of what they leave behind: by an index
//! each, whatever lies beside.

use std::collections::BTreeSet;
use std::time::Duration;

use cap_core::clock::later;
use cap_core::id::{JobId, OrderId};
use cap_core::page::Page;
use cap_core::problem::{Class, Problem};
use cap_store::{Expiring, Mutation, OpenOrder};
use cap_testkit::mongo::driver::Database;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use futures_util::TryStreamExt;

use crate::explain::{explain, plain};
use crate::notices::{issued, notice};
use crate::queue::raw;
use crate::world::{FUSE, LEASE, World};

/// Records of each collection that are none of a duty's business.
const BESIDE: usize = 2_000;
/// More than any of these commands looks at for what is there for it: the bounds of the queue, and some more.
const EXAMINED_MAX: i64 = 200;
const EPOCH: i64 = 7;
const HOUR: Duration = Duration::from_secs(3_600);
/// Where the duties look, and what they must be seen to do there.
const SEEN: [(&str, &str); 16] = [
    ("jobs", "find"),
    ("jobs", "update"),
    ("job_totals", "find"),
    ("job_totals", "update"),
    ("certificates", "find"),
    ("certificates", "update"),
    ("notices", "find"),
    ("notices", "update"),
    ("issuers", "find"),
    ("orders", "find"),
    ("orders", "update"),
    ("tokens", "find"),
    ("tokens", "delete"),
    ("duties", "update"),
    ("instances", "find"),
    ("instances", "delete"),
];

/// What the database is asked while `work` goes on, as collection, verb, and a command that can be explained.
async fn asked(database: &Database, work: impl Future) -> Vec<(String, &'static str, Document)> {
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    work.await;
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let profile = database.collection::<Document>("system.profile");
    let seen = doc! { "op": { "$in": ["query", "update", "remove", "command"] } };
    let seen: Vec<Document> = profile.find(seen).await.unwrap().try_collect().await.unwrap();
    profile.drop().await.unwrap();
    // What has no index is noted again.
    database.run_command(doc! { "profile": 1 }).await.unwrap();
    seen.iter().filter_map(|entry| asked_once(database, entry)).collect()
}

fn asked_once(database: &Database, entry: &Document) -> Option<(String, &'static str, Document)> {
    let collection = entry.get_str("ns").unwrap().strip_prefix(&format!("{}.", database.name()))?.to_owned();
    let command = plain(entry.get_document("command").unwrap().clone());
    match entry.get_str("op").unwrap() {
        "query" => Some((collection, "find", command)),
        "update" => {
            let update = doc! { "update": &collection, "updates": [command] };
            Some((collection, "update", update))
        }
        "remove" => {
            let delete = doc! { "delete": &collection, "deletes": [command] };
            Some((collection, "delete", delete))
        }
        // What moves documents through a pipeline, or changes the one that it finds, is none of these duties'.
        _ if command.contains_key("aggregate") || command.contains_key("findAndModify") => {
            panic!("{command} is new: explain it here")
        }
        _ => None,
    }
}

/// Fills every collection with what is none of the duties' business.
async fn fill(world: &World) {
    let database = raw(world).await;
    let now = world.clock.now();
    let soon = DateTime::from_millis(later(now, HOUR).as_millisecond());
    for collection in [
        "jobs",
        "job_attempts",
        "orders",
        "idempotency",
        "job_totals",
        "notices",
        "challenge_tokens",
        "tokens",
        "certificates",
    ] {
        let record = |n: usize| {
            let (job, order) = (
                JobId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string(),
                OrderId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string(),
            );
            let id = if collection == "orders" { order } else { job };
            let mut record = doc! {
                "_id": &id, "key": &id, "project": "other", "subject": &id, "lists": ["other", &id],
                "alive": false, "live": false, "open": false,
                "state": "succeeded", "finished_at": soon, "expires_at": soon, "notice_at": soon, "n": i32::try_from(n).unwrap(),
            };
            if collection != "certificates" && collection != "tokens" {
                record.insert("expire_at", soon);
            }
            record
        };
        database.collection::<Document>(collection).insert_many((0..BESIDE).map(record)).await.unwrap();
    }
}

/// Puts there what the duties look for, a little of each.
async fn prepare(world: &World) {
    let database = raw(world).await;
    let far = DateTime::from_millis(later(world.clock.now(), HOUR * 24 * 5_000).as_millisecond());
    let past = DateTime::from_millis((world.clock.now() - HOUR * 24 * 400).as_millisecond());
    for collection in ["job_attempts", "orders", "idempotency", "job_totals", "notices", "challenge_tokens"] {
        let records = database.collection::<Document>(collection);
        records.insert_one(doc! { "_id": "far", "project": "other", "expire_at": far }).await.unwrap();
    }
    let jobs = database.collection::<Document>("jobs");
    jobs.insert_one(doc! { "_id": "far", "key": "far", "expire_at": far }).await.unwrap();
    jobs.delete_one(doc! { "_id": "bound/0/queued/end" }).await.unwrap();
    let instances = database.collection::<Document>("instances");
    instances.insert_one(doc! { "_id": "far", "seen_at": far }).await.unwrap();
    database
        .collection::<Document>("tokens")
        .insert_one(doc! { "_id": "dead", "expires_at": past })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_duty_and_what_it_leaves_behind_goes_by_an_index() {
    let world = World::new().await;
    let database = raw(&world).await;
    fill(&world).await;
    prepare(&world).await;
    issued(&world, "a.example.test", HOUR * 7, HOUR * 8).await;
    let deleted = issued(&world, "b.example.test", HOUR * 7, HOUR * 8).await;
    let certificate = world.certificate("c.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    let order = world.order(&certificate, &claim).await;
    world
        .store
        .open_order(&OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() })
        .await
        .unwrap();
    let audit = world.row().await;
    let dead = doc! { "$set": { "alive": false, "state": "dead" } };
    database
        .collection::<Document>("jobs")
        .update_one(doc! { "_id": claim.job.to_string() }, dead)
        .await
        .unwrap();
    let now = world.clock.now();
    let commands = asked(&database, async {
        assert_eq!(world.store.count_finished(1).await.unwrap(), 2);
        let page = Page::parse::<u32>(Some(10), None).unwrap();
        let next = Page { limit: 10, after: Some(format!("{}/", world.project)) };
        assert_eq!(
            world.store.job_totals(world.project, Some(now - HOUR), &page).await.unwrap().items.len(),
            1
        );
        world.store.job_totals(world.project, None, &next).await.unwrap();
        let due = world.store.due_notices(now, 10).await.unwrap();
        assert_eq!(due.len(), 2);
        for due in &due {
            notice(&world, due, 1).await;
        }
        for open in [None, Some(true), Some(false)] {
            world.store.notices(world.project, open, &page).await.unwrap();
            world.store.notices(world.project, open, &next).await.unwrap();
        }
        world
            .store
            .delete_certificate(deleted.id, None, Mutation { audit: &audit, request: None })
            .await
            .unwrap();
        for which in Expiring::ALL {
            assert_eq!(world.store.shorten(which, now, 10, EPOCH).await.unwrap(), 1, "{which:?}");
        }
        assert_eq!(world.store.remove_dead_tokens(now, 10, EPOCH).await.unwrap(), 1);
        assert_eq!(world.store.forget_ahead(now, 10, EPOCH).await.unwrap(), 1);
        assert_eq!(world.store.restore_bounds(EPOCH).await.unwrap(), 1);
        assert_eq!(world.store.shorten_wrong_leases(1).await.unwrap(), 0);
        assert_eq!(world.store.end_wrong_waits(now, 10, 1).await.unwrap(), 0);
        assert_eq!(world.store.mend_lists(10, 1).await.unwrap(), 0);
        assert!(world.store.mend_plans(None, 10, 1).await.unwrap().0.is_some());
        assert_eq!(world.store.old_live_orders(now + HOUR, None, 10).await.unwrap().0.len(), 1);
        let after = order.id.to_string();
        world.store.old_live_orders(now + HOUR, Some(&after), 10).await.unwrap();
        let problem = Problem::new(Class::Protocol, "order-abandoned", "");
        assert!(world.store.end_abandoned_order(&order, &problem, 1, &world.row().await).await.unwrap());
    })
    .await;
    let seen: BTreeSet<(&str, &str)> =
        commands.iter().map(|(collection, verb, _)| (collection.as_str(), *verb)).collect();
    for wanted in SEEN {
        assert!(seen.contains(&wanted), "{wanted:?} was not seen; there were {seen:?}");
    }
    for (_, _, command) in &commands {
        let plan = explain(&database, command).await;
        plan.goes_by_an_index(command);
        let most = plan.keys.max(plan.documents);
        assert!(most <= EXAMINED_MAX, "{plan:?} of {command}");
    }
}
