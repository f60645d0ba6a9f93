// SPDX-License-Identifier: Apache-2.0
//! How the database carries out what is asked of the queue all the time. The commands are the store's own, as the
//! database's profiler saw them.

use std::collections::BTreeMap;

use cap_core::id::{ClaimId, InstanceId, JobId};
use cap_core::instance::Doing;
use cap_core::job::{JobDraft, Work, partition};
use cap_core::limits::{ARI_PARTITION, ATTENTION, JOB_PARTITIONS, QUEUE_COUNT};
use cap_core::page::Page;
use cap_store::{JobFilter, Mutation, Search};
use cap_testkit::mongo::driver::Database;
use cap_testkit::mongo::driver::bson::{Bson, DateTime, Document, doc};

use crate::instances::Process;
use crate::queue::{enqueue, raw};
use crate::world::{LEASE, World, search};

/// Jobs that are over, beside which claims must cost what they cost without.
const FINISHED: usize = 20_000;
/// What a driver adds to a command; explain takes none of it.
const ENVELOPE: [&str; 10] = [
    "$db",
    "lsid",
    "$clusterTime",
    "$readPreference",
    "txnNumber",
    "readConcern",
    "writeConcern",
    "maxTimeMS",
    "startTransaction",
    "autocommit",
];

/// What the database is asked about jobs while `work` goes on, as commands that can be explained.
pub(crate) async fn asked(database: &Database, work: impl Future) -> Vec<Document> {
    asked_of(database, "jobs", work).await
}

/// The same about another collection.
pub(crate) async fn asked_of(database: &Database, collection: &str, work: impl Future) -> Vec<Document> {
    use futures_util::TryStreamExt;
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    work.await;
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let profile = database.collection::<Document>("system.profile");
    let seen = doc! { "ns": format!("{}.{collection}", database.name()), "op": { "$in": ["query", "command", "remove"] } };
    let seen: Vec<Document> =
        profile.find(seen).sort(doc! { "ts": 1 }).await.unwrap().try_collect().await.unwrap();
    profile.drop().await.unwrap();
    // What has no index is noted again.
    database.run_command(doc! { "profile": 1 }).await.unwrap();
    seen.iter().map(|entry| plain(entry.get_document("command").unwrap().clone())).collect()
}

/// A command without what the driver adds to it.
pub(crate) fn plain(command: Document) -> Document {
    command.into_iter().filter(|(name, _)| !ENVELOPE.contains(&name.as_str())).collect()
}

/// The stages of the winning plan, the pipeline's among them, and how many keys and documents they examined.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) stages: Vec<String>,
    pub(crate) keys: i64,
    pub(crate) documents: i64,
}

pub(crate) async fn explain(database: &Database, command: &Document) -> Plan {
    let explained = doc! { "explain": command.clone(), "verbosity": "executionStats" };
    let explained = database.run_command(explained).await.unwrap();
    let mut plan = Plan { stages: Vec::new(), keys: 0, documents: 0 };
    let cursor = match explained.get_array("stages") {
        Ok(stages) => {
            let names = stages.iter().filter_map(|stage| stage.as_document()?.keys().next());
            plan.stages.extend(names.cloned());
            stages[0].as_document().unwrap().get_document("$cursor").unwrap()
        }
        Err(_) => &explained,
    };
    let winner = cursor.get_document("queryPlanner").unwrap().get_document("winningPlan").unwrap();
    collect(&Bson::Document(winner.clone()), &mut plan.stages);
    let stats = cursor.get_document("executionStats").unwrap();
    plan.keys = number(stats.get("totalKeysExamined"));
    plan.documents = number(stats.get("totalDocsExamined"));
    plan
}

fn number(value: Option<&Bson>) -> i64 {
    value.and_then(|value| value.as_i64().or_else(|| value.as_i32().map(i64::from))).unwrap()
}

fn collect(part: &Bson, stages: &mut Vec<String>) {
    match part {
        Bson::Document(part) => {
            stages.extend(part.get_str("stage").map(str::to_owned));
            part.values().for_each(|part| collect(part, stages));
        }
        Bson::Array(parts) => parts.iter().for_each(|part| collect(part, stages)),
        _ => {}
    }
}

impl Plan {
    /// It goes by an index, and neither looks through the collection nor sorts in memory.
    #[track_caller]
    pub(crate) fn goes_by_an_index(&self, command: &Document) {
        let has = |name: &str| self.stages.iter().any(|stage| stage == name);
        assert!(has("IXSCAN") || has("COUNT_SCAN") || has("IDHACK"), "{self:?} of {command}");
        for bad in ["COLLSCAN", "SORT", "$sort"] {
            assert!(!has(bad), "{self:?} of {command}");
        }
    }
}

/// Puts jobs that are over into the collection, spread over all partitions.
async fn finish(world: &World) {
    let job = |n: usize| {
        let id = JobId::generate(world.clock.as_ref(), world.entropy.as_ref());
        let state = ["succeeded", "dead", "cancelled"][n % 3];
        let p = i32::from(partition(id));
        doc! { "_id": id.to_string(), "key": id.to_string(), "alive": false, "p": p, "state": state }
    };
    let jobs = raw(world).await.collection::<Document>("jobs");
    jobs.insert_many((0..FINISHED).map(job)).await.unwrap();
}

/// The one command that a claim looks for jobs with, and its plan.
async fn claim_plan(world: &World, database: &Database) -> Plan {
    let commands = asked(database, async {
        assert_eq!(world.claim("one", LEASE).await.len(), 3);
    })
    .await;
    let [command] = commands.as_slice() else { panic!("{commands:#?}") };
    assert!(command.contains_key("find"), "{command}");
    let plan = explain(database, command).await;
    plan.goes_by_an_index(command);
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_examine_no_more_keys_beside_twenty_thousand_finished_jobs() {
    let world = World::new().await;
    let database = raw(&world).await;
    let mut plans = Vec::new();
    for round in ["empty", "full"] {
        for n in 0..3 {
            world.certificate(&format!("h{n}.{round}.example.test")).await;
        }
        plans.push(claim_plan(&world, &database).await);
        if round == "empty" {
            let over = doc! { "$unset": { "claim_at": 1 }, "$set": { "state": "succeeded", "alive": false } };
            database.collection::<Document>("jobs").update_many(doc! { "alive": true }, over).await.unwrap();
            finish(&world).await;
        }
    }
    let [empty, full] = plans.as_slice() else { unreachable!() };
    assert!(full.keys <= empty.keys, "{empty:?}, {full:?}");
    assert!(full.documents <= empty.documents, "{empty:?}, {full:?}");
}

/// Among few jobs the planner would take an index by partition as soon as the lane's, and sort in memory.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_lane_is_offered_no_index_by_partition() {
    let world = World::new().await;
    let database = raw(&world).await;
    world.certificate("a.example.test").await;
    let (held, narrow) = (BTreeMap::new(), (0..8).collect::<Vec<u16>>());
    let crowded = Search { partitions: &narrow, is_crowded: true, ..search(&held, world.clock.now()) };
    let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let commands = asked(&database, async {
        assert_eq!(world.store.claim_jobs("one", token, LEASE, &crowded).await.unwrap().claims.len(), 1);
    })
    .await;
    let heads = |command: &&Document| command.to_string().contains("\"lane\": \"");
    let heads: Vec<&Document> = commands.iter().filter(heads).collect();
    assert!(!heads.is_empty(), "{commands:#?}");
    for command in heads {
        let explained = doc! { "explain": command.clone(), "verbosity": "queryPlanner" };
        let explained = database.run_command(explained).await.unwrap().to_string();
        assert!(explained.contains("lane_rank_claim_at") && !explained.contains("\"due\""), "{explained}");
    }
}

/// How far the index is read is for the database's clock alone: no host's narrows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_reads_nothing_that_is_due_later() {
    const LATER: u64 = 2_000;
    /// The year 2100.
    const FAR_MS: i64 = 4_102_444_800_000;
    let world = World::new().await;
    let database = raw(&world).await;
    enqueue(&world, LATER, DateTime::from_millis(FAR_MS)).await;
    for n in 0..3 {
        world.certificate(&format!("now{n}.example.test")).await;
    }
    let plan = claim_plan(&world, &database).await;
    // One key more a partition, where the scan ends.
    assert!(plan.keys <= 3 + 64 && plan.documents <= 3, "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_depth_and_the_oldest_age_go_by_an_index_and_never_beyond_the_cap() {
    const OTHERS: i64 = 50;
    let world = World::new().await;
    let database = raw(&world).await;
    let commands = asked(&database, async { world.store.sample_queue().await.unwrap() }).await;
    assert_eq!(commands.len(), 2, "an idle leader asks for what is due, and for what runs: {commands:#?}");
    finish(&world).await;
    let cap = i64::try_from(QUEUE_COUNT).unwrap();
    enqueue(&world, QUEUE_COUNT + 500, DateTime::from_millis(1)).await;
    let running = i64::try_from(world.claim("one", LEASE).await.len()).unwrap();
    let jobs = database.collection::<Document>("jobs");
    let mut others = Vec::new();
    for n in 0..OTHERS {
        for (kind, p) in
            [("register-issuer", 3), ("drift-scan", JOB_PARTITIONS), ("renewal-look", ARI_PARTITION)]
        {
            // A registration is the oldest of all, so that the oldest of the others is looked for.
            let (id, since) = (format!("{kind}/{n}"), DateTime::from_millis(0));
            others.push(doc! {
                "_id": &id, "key": &id, "alive": true, "p": i32::from(p), "work": { "kind": kind }, "state": "queued",
                "claim_at": since,
            });
        }
    }
    jobs.insert_many(others).await.unwrap();
    let commands = asked(&database, async { world.store.sample_queue().await.unwrap() }).await;
    // The oldest of each part, what runs, what is due for CAs in all and in one partition, two more kinds, and the oldest that is
    // no registration.
    assert_eq!(commands.len(), 7, "{commands:#?}");
    let (oldest, counts): (Vec<Document>, Vec<Document>) =
        commands.into_iter().partition(|command| command.to_string().contains("unionWith"));
    for command in oldest.iter().flat_map(apart) {
        let plan = explain(&database, &command).await;
        plan.goes_by_an_index(&command);
        // Registrations that live are looked at, for their time.
        let documents = if command.to_string().contains("\"key\"") { OTHERS } else { 1 };
        assert!(plan.keys <= 2 * 64 && plan.documents <= documents, "{plan:?} of {command}");
    }
    for command in &counts {
        let plan = explain(&database, command).await;
        plan.goes_by_an_index(command);
        // What runs is looked at, for its kind: as many as there are places. So is what may be the oldest that is no registration.
        let documents = match command.to_string() {
            text if text.contains("$work.kind") => running,
            text if text.contains("\"$ne\"") => cap,
            _ => 0,
        };
        // One key more a partition and state, where the scan goes on to the next.
        assert!(plan.keys <= cap + 1 + 2 * 64 && plan.documents <= documents, "{plan:?} of {command}");
    }
}

/// The parts of a pipeline that are joined with `$unionWith`, as commands of their own.
fn apart(command: &Document) -> Vec<Document> {
    let stages = command.get_array("pipeline").unwrap().iter().map(|stage| stage.as_document().unwrap());
    let (joined, first): (Vec<&Document>, Vec<&Document>) =
        stages.partition(|stage| stage.contains_key("$unionWith"));
    let of = |stages: Vec<Document>| doc! { "aggregate": "jobs", "pipeline": stages, "cursor": {} };
    let others = joined.into_iter().map(|stage| {
        let stages = stage.get_document("$unionWith").unwrap().get_array("pipeline").unwrap().iter();
        of(stages.map(|stage| stage.as_document().unwrap().clone()).collect())
    });
    std::iter::once(of(first.into_iter().cloned().collect())).chain(others).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roll_goes_by_an_index_and_so_does_forgetting() {
    let world = World::new().await;
    let database = raw(&world).await;
    for name in ["api-0", "api-0", "api-1"] {
        Process::new(&world, name).beat(&world, Doing::Api).await;
    }
    let now = world.clock.now();
    let id = InstanceId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let commands = asked_of(&database, "instances", async {
        world.store.roll().await.unwrap();
        world.store.roll_of("api", "api-0").await.unwrap();
        world.store.forget_replaced(id, "api", "api-1", now).await.unwrap();
    })
    .await;
    let [all, called, forgotten] = commands.as_slice() else { panic!("{commands:#?}") };
    for command in [all, called] {
        explain(&database, command).await.goes_by_an_index(command);
    }
    let plan = explain(&database, called).await;
    assert_eq!((plan.keys, plan.documents), (2, 2), "{plan:?}");
    // The profiler keeps what was looked for; how it is found does not depend on what is done with it.
    let look = doc! { "find": "instances", "filter": forgotten.get_document("q").unwrap().clone() };
    let plan = explain(&database, &look).await;
    plan.goes_by_an_index(&look);
    assert!(plan.keys <= 1, "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_soonest_is_found_without_a_look_at_the_rest() {
    const REST: usize = 2_000;
    let world = World::new().await;
    let database = raw(&world).await;
    let project = world.project.to_string();
    let one = |n: usize, project: &str, status: &str| {
        let end = DateTime::from_millis(i64::try_from(n).unwrap());
        doc! { "_id": format!("{status}-{project}-{n}"), "project": project, "status": status, "version": { "not_after": end } }
    };
    let many = (0..REST).flat_map(|n| {
        ["valid", "renewing", "failing", "requested"]
            .into_iter()
            .flat_map(move |status| ["prj_another", "own"].map(|whose| (n, whose, status)))
    });
    let many = many.map(|(n, whose, status)| one(n, if whose == "own" { &project } else { whose }, status));
    database.collection::<Document>("certificates").insert_many(many).await.unwrap();
    let commands = asked_of(&database, "certificates", async {
        // They are no whole certificates, so that they cannot be read; they are looked for all the same.
        let _ = world.store.failing_soonest(world.project).await;
        // Half of them ended before.
        let now = jiff::Timestamp::from_millisecond(i64::try_from(REST / 2).unwrap()).unwrap();
        let _ = world.store.ending_soonest(world.project, now).await;
    })
    .await;
    assert_eq!(commands.len(), 2, "{commands:#?}");
    for command in &commands {
        let plan = explain(&database, command).await;
        plan.goes_by_an_index(command);
        assert!(plan.keys <= ATTENTION + 4 && plan.documents <= ATTENTION + 2, "{plan:?} of {command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_through_the_whole_collection_and_a_sort_in_memory_are_noticed() {
    let world = World::new().await;
    let database = raw(&world).await;
    let bad = doc! { "find": "jobs", "filter": { "attempt": 1 }, "sort": { "owner": 1 } };
    let plan = explain(&database, &bad).await;
    for stage in ["COLLSCAN", "SORT"] {
        assert!(plan.stages.iter().any(|seen| seen == stage), "{plan:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_a_project_is_counted_in_the_index_alone_where_it_is_less_than_asked_for() {
    let world = World::new().await;
    let database = raw(&world).await;
    let certificates = database.collection::<Document>("certificates");
    let project = world.project.to_string();
    let status = |n: usize| ["requested", "valid"][n % 2];
    let many = (0..200).map(|n| doc! { "_id": format!("crt_{n}"), "project": &project, "status": status(n) });
    certificates.insert_many(many).await.unwrap();
    let mut counted = 0;
    let work = async { counted = world.store.waiting_certificates(world.project, 101).await.unwrap() };
    let commands = asked_of(&database, "certificates", work).await;
    assert_eq!(counted, 100);
    let [command] = commands.as_slice() else { panic!("{commands:#?}") };
    let plan = explain(&database, command).await;
    plan.goes_by_an_index(command);
    assert!(plan.keys <= 102 && plan.documents == 0, "{plan:?} of {command}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_waits_only_that_counts_for_which_a_job_lives_and_what_was_cancelled_is_not_read() {
    let world = World::new().await;
    let database = raw(&world).await;
    let mut made = Vec::new();
    for n in 0..60 {
        made.push(world.certificate(&format!("w{n}.example.test")).await);
    }
    let waiting = async |most: u64| world.store.waiting_certificates(world.project, most).await.unwrap();
    assert_eq!((waiting(60).await, waiting(10).await), (60, 10));
    for certificate in &made[..50] {
        let filter = JobFilter { subject: Some(certificate.id.to_string()), ..JobFilter::default() };
        let page = Page { after: None, limit: 1 };
        let job = world.store.jobs(world.project, &filter, &page).await.unwrap().items.remove(0);
        let audit = world.row().await;
        let mutation = Mutation { audit: &audit, request: None };
        world.store.cancel_job(world.project, job.id, mutation).await.unwrap().unwrap();
    }
    let mut counted = 0;
    let work = async { counted = waiting(60).await };
    let commands = asked(&database, work).await;
    assert_eq!(counted, 10);
    let [command] = commands.as_slice() else { panic!("{commands:#?}") };
    let plan = explain(&database, command).await;
    plan.goes_by_an_index(command);
    assert!(plan.keys <= 11 && plan.documents <= 10, "{plan:?} of {command}");

    // What is asked for again waits again; what failed once does not wait for its first attempt.
    let jobs = database.collection::<Document>("jobs");
    let own = doc! { "subject": made[59].id.to_string() };
    jobs.update_one(own, doc! { "$set": { "failures": 1 } }).await.unwrap();
    assert_eq!(waiting(60).await, 9);
    let work = Work::Issue { certificate: made[0].id, made_for: None };
    let job = JobDraft::now(world.project, work, 1, world.clock.as_ref(), world.entropy.as_ref());
    let audit = world.row().await;
    world.store.request_renewal(None, &job, Mutation { audit: &audit, request: None }).await.unwrap();
    assert_eq!(waiting(60).await, 10);
}

/// What every test of the store ends with looks at this; so here is that it can fail.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_store_asks_without_an_index_is_noted_and_what_a_test_asks_is_not() {
    use cap_testkit::mongo::{driver, scans};
    let mut world = World::new().await;
    world.may_scan();
    world.certificate("a.example.test").await;
    let as_app = async |app: &str| {
        let mut options = driver::options::ClientOptions::parse(&world.uri).await.unwrap();
        options.app_name = Some(app.to_owned());
        driver::Client::with_options(options)
            .unwrap()
            .default_database()
            .unwrap()
            .collection::<Document>("jobs")
    };
    let without = doc! { "attempt": 7 };
    as_app("somebody").await.find_one(without.clone()).await.unwrap();
    assert_eq!(scans(&world.uri).await.unwrap(), Vec::<String>::new());
    let jobs = as_app("test").await;
    jobs.find_one(without.clone()).await.unwrap();
    jobs.update_many(without.clone(), doc! { "$set": { "owner": "nobody" } }).await.unwrap();
    jobs.delete_many(without.clone()).await.unwrap();
    jobs.count_documents(without.clone()).await.unwrap();
    jobs.find_one_and_update(without, doc! { "$set": { "owner": "nobody" } }).await.unwrap();
    jobs.find_one(doc! { "state": { "$ne": "none" } }).sort(doc! { "owner": 1 }).await.unwrap();
    jobs.find_one(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    let noted = scans(&world.uri).await.unwrap();
    assert_eq!(noted.len(), 6, "{noted:#?}");
}
