// SPDX-License-Identifier: Apache-2.0
//! The members of a cluster: all are shown, who goes without a word is lost, who says goodbye is gone, and a leader that
//! is asked to leave leaves.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::mongo::{ReplicaSet, ReplicaSetOptions};
use cap_testkit::process::{Service, Signal, reserve_one};
use cap_testkit::progress::say;
use cap_testkit::stack::ApiClient;
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::bench::{Bench, raw};
use crate::world::{LONG_LEASE, Leader, World, metric, wait_metric};

const LEADER: &str = "certautopilot_leader";
const PLANNED: &str = "certautopilot_renewals_planned_total";
/// Three beats that do not come, and a few looks.
const SHOWN_WITHIN: Duration = Duration::from_secs(90);
/// Well before the lease can end.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(8);
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Two apis, two workers, three schedulers; each test takes it for writing and leaves it whole.
async fn crowd() -> &'static RwLock<World> {
    static CROWD: OnceLock<RwLock<World>> = OnceLock::new();
    let start = || {
        CROWD.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            RwLock::new(runtime.block_on(World::crowd(LONG_LEASE)))
        })
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// Waits until the cluster is told as `judge` wants it.
async fn wait_cluster<T>(world: &World, what: &str, judge: impl Fn(&Value) -> Option<T>) -> T {
    let (api, judge) = (world.api(), &judge);
    wait::until(what, SHOWN_WITHIN, || async {
        let cluster = api.get("/api/v1/cluster").await.map_err(Pending::not_yet)?;
        judge(&cluster).ok_or_else(|| Pending::not_yet(&cluster))
    })
    .await
    .unwrap()
}

fn named<'a>(cluster: &'a Value, name: &str) -> Vec<&'a Value> {
    cluster["instances"].as_array().unwrap().iter().filter(|one| one["name"] == name).collect()
}

fn warned(cluster: &Value, of: &str) -> bool {
    cluster["warnings"].as_array().unwrap().iter().any(|warning| warning.as_str().unwrap().contains(of))
}

/// All seven are ready, nothing is amiss, the leader has said that it leads, and the other schedulers stand by.
async fn wait_whole(world: &World) -> Value {
    wait_cluster(world, "seven ready instances", |cluster| {
        let all = cluster["instances"].as_array().unwrap();
        let ready = all.iter().filter(|one| one["state"] == "ready").count();
        let is_whole = (ready, all.len(), &cluster["leader"]["standbys"]) == (7, 7, &json!(2));
        let epoch = &cluster["leader"]["epoch"];
        let is_led = all.iter().any(|one| one["standing"] == "leads" && one["epoch"] == *epoch);
        (is_whole && is_led && cluster["leader"]["expired"] == false).then(|| cluster.clone())
    })
    .await
}

#[tokio::test]
async fn all_are_shown_who_is_killed_is_lost_and_who_says_goodbye_is_gone() {
    let mut world = crowd().await.write().await;
    let leader = world.heal().await;
    let cluster = wait_whole(&world).await;
    let names: Vec<&str> =
        cluster["instances"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    let expected = ["api-0", "api-1", "worker-0", "worker-1", "scheduler-0", "scheduler-1", "scheduler-2"];
    assert_eq!(names, expected);
    for (one, name) in cluster["instances"].as_array().unwrap().iter().zip(expected) {
        assert_eq!(one["role"], name.split('-').next().unwrap());
        assert_eq!(one["version"], env!("CARGO_PKG_VERSION"));
        assert!(one["started_at"].is_string() && one["pid"].is_u64() && one["host"].is_string(), "{one}");
    }
    assert_eq!(named(&cluster, "worker-0")[0]["concurrency"], 32);
    assert_eq!(named(&cluster, &leader.holder)[0]["standing"], "leads");
    assert_eq!(named(&cluster, &leader.holder)[0]["epoch"], leader.epoch);
    assert_eq!((&cluster["version_skew"], &cluster["warnings"]), (&json!(false), &json!([])));
    assert!(cluster["leader"]["since"].is_string() && cluster["leases"][0]["name"].is_string(), "{cluster}");
    assert_eq!(cluster["database"]["members"].as_array().unwrap().len(), 3);
    assert!(cluster["database"]["primary"].is_string(), "{cluster}");

    let pid = world.stack.workers[1].pid();
    world.stack.workers[1].kill9().unwrap();
    let lost = wait_cluster(&world, "worker-1 to be lost", |cluster| {
        let one = named(cluster, "worker-1");
        (one.len() == 1 && one[0]["state"] == "lost").then(|| cluster.clone())
    })
    .await;
    assert!(warned(&lost, "worker worker-1 is lost") && named(&lost, "worker-1")[0]["pid"] == pid, "{lost}");
    let counted = |role: &str, state: &str, count: f64| {
        let series = format!("certautopilot_instances{{role=\"{role}\",state=\"{state}\"}}");
        (series, count)
    };
    for (series, count) in
        [counted("worker", "lost", 1.0), counted("worker", "ready", 1.0), counted("scheduler", "ready", 3.0)]
    {
        wait_series(world.scheduler(&leader.holder), &series, count).await;
    }
    for scheduler in world.stack.schedulers.iter().filter(|one| one.name() != leader.holder) {
        let page = scheduler.metrics().await.unwrap();
        assert!(!page.contains("certautopilot_instances"), "{} stands by: {page}", scheduler.name());
    }

    world.stack.workers[1].restart().unwrap();
    world.stack.workers[1].wait_ready(READY_WITHIN).await.unwrap();
    let again = wait_whole(&world).await;
    assert_ne!(named(&again, "worker-1")[0]["pid"], pid);
    assert_eq!(again["warnings"], json!([]));

    for service in [&world.stack.workers[0], &world.stack.apis[1]] {
        assert!(service.signal(Signal::TERM).unwrap());
        assert_eq!(
            service.wait_exit(READY_WITHIN).await.unwrap(),
            Some(0),
            "{}",
            service.process().log_tail()
        );
    }
    let cluster = world.api().get("/api/v1/cluster").await.unwrap();
    assert!(named(&cluster, "worker-0").is_empty() && named(&cluster, "api-1").is_empty(), "{cluster}");
    world.stack.workers[0].restart().unwrap();
    world.stack.apis[1].restart().unwrap();
    wait_whole(&world).await;
}

async fn wait_series(service: &Service, series: &str, wanted: f64) {
    wait::until(&format!("{series} {wanted}"), SHOWN_WITHIN, || async {
        let page = service.metrics().await.map_err(Pending::not_yet)?;
        let value = cap_testkit::process::series(&page, series);
        if value.is_some_and(|value| (value - wanted).abs() < 0.5) {
            Ok(())
        } else {
            Err(Pending::not_yet(page))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_leader_that_is_asked_to_leave_leaves_and_nothing_is_planned_twice() {
    const PATH: &str = "/api/v1/cluster/step-down";
    let mut world = crowd().await.write().await;
    let first = world.heal().await;
    wait_whole(&world).await;
    let certificates = world.issued(&["asked.example.test"]).await;
    let api = world.api();

    let viewer = json!({ "name": "viewer", "role": "viewer", "expires_in": "1h" });
    let viewer = api.post("/api/v1/tokens", &viewer).await.unwrap();
    let viewer = ApiClient::new(world.stack.api_url(0).unwrap(), viewer["token"].as_str().unwrap()).unwrap();
    let refused = format!("{:#}", viewer.post(PATH, &json!({})).await.unwrap_err());
    assert!(refused.contains(": 403 ") && refused.contains("the role admin"), "{refused}");
    let old = json!({ "epoch": first.epoch - 1 });
    let refused = format!("{:#}", api.post(PATH, &old).await.unwrap_err());
    assert!(refused.contains(": 409 ") && refused.contains("leads no more"), "{refused}");
    assert_eq!(world.leader_after(0).await, first);
    assert!((metric(world.scheduler(&first.holder), LEADER).await.unwrap() - 1.0).abs() < 0.1);

    world.make_due(&certificates, 0).await;
    let planned = planned(&world).await;
    let began = Instant::now();
    let asked = api.post(PATH, &json!({})).await.unwrap();
    assert_eq!(asked, json!({ "holder": first.holder, "epoch": first.epoch }));
    let next = world.leader_after(first.epoch).await;
    let took = began.elapsed();
    say(format_args!(
        "takeover after a step-down by the API: {took:?} ({} to {})",
        first.holder, next.holder
    ));
    assert!(took < HANDED_OVER_WITHIN, "the lease was waited for: {took:?}");
    assert_eq!(next.epoch, first.epoch + 1);
    assert_ne!(next.holder, first.holder);
    assert!(world.scheduler(&first.holder).process().is_running());
    wait_metric(world.scheduler(&next.holder), LEADER, 1.0).await;
    wait_metric(world.scheduler(&first.holder), LEADER, 0.0).await;

    // Who was asked is no candidate for the length of a lease, and stands by again then.
    let standing = |cluster: &Value| named(cluster, &first.holder)[0]["standing"].as_str().map(str::to_owned);
    for wanted in ["stands_back", "stands_by"] {
        wait_cluster(&world, wanted, |cluster| (standing(cluster)? == wanted).then_some(())).await;
    }
    world.wait_version(&certificates[0], 2).await;
    world.assert_issued(&certificates[0], "asked.example.test", 2).await;
    let now = self::planned(&world).await;
    assert!((now - planned).abs() <= 1.0, "planned {now} times, {planned} before");
    assert_eq!(world.leader_after(0).await, next);
    assert_eq!(audited(&world, &first).await, 1);
}

/// Renewals that all schedulers have planned.
async fn planned(world: &World) -> f64 {
    let mut sum = 0.0;
    for scheduler in &world.stack.schedulers {
        sum += metric(scheduler, PLANNED).await.unwrap();
    }
    sum
}

/// Audit rows that say that this leader was asked to leave.
async fn audited(world: &World, leader: &Leader) -> usize {
    let outbox = raw(&world.database).await.collection::<Document>("audit_outbox");
    let mut rows = outbox.find(doc! {}).await.unwrap();
    let mut found = 0;
    while rows.advance().await.unwrap() {
        let row: Document = rows.deserialize_current().unwrap();
        let leaf: Value = serde_json::from_slice(row.get_binary_generic("leaf").unwrap()).unwrap();
        let is_it = leaf["action"] == "leader.step_down_requested" && leaf["target"] == leader.holder;
        found += usize::from(is_it && leaf["details"]["epoch"] == leader.epoch);
    }
    found
}

#[tokio::test]
async fn a_leader_without_a_standby_is_asked_by_force_alone() {
    const PATH: &str = "/api/v1/cluster/step-down";
    let mut world = crowd().await.write().await;
    let first = world.heal().await;
    for scheduler in world.stack.schedulers.iter().filter(|one| one.name() != first.holder) {
        assert!(scheduler.signal(Signal::TERM).unwrap());
        assert_eq!(scheduler.wait_exit(READY_WITHIN).await.unwrap(), Some(0));
    }
    let api = world.api();
    let refused = format!("{:#}", api.post(PATH, &json!({})).await.unwrap_err());
    assert!(refused.contains(": 409 ") && refused.contains("no other scheduler stands by"), "{refused}");
    assert_eq!(world.leader_after(0).await, first);
    api.post(PATH, &json!({ "force": true, "epoch": first.epoch })).await.unwrap();
    wait_cluster(&world, "nobody to lead", |cluster| cluster["leader"]["expired"].as_bool()?.then_some(()))
        .await;
    let refused = format!("{:#}", api.post(PATH, &json!({ "force": true })).await.unwrap_err());
    assert!(refused.contains(": 409 ") && refused.contains("no scheduler leads at the moment"), "{refused}");
    // Nobody else being there, it leads again once it has stood back.
    let again = world.leader_after(first.epoch).await;
    assert_eq!((again.holder.as_str(), again.epoch), (first.holder.as_str(), first.epoch + 1));
    world.heal().await;
    wait_whole(&world).await;
}

#[tokio::test]
async fn two_living_processes_of_one_name_are_both_shown_and_say_so() {
    let mut world = crowd().await.write().await;
    world.heal().await;
    wait_whole(&world).await;
    let mut launch = world.stack.schedulers[0].process().launch().clone();
    "another-scheduler-0".clone_into(&mut launch.name);
    let address = format!("127.0.0.1:{}", reserve_one().unwrap().port());
    launch.env.insert("CAP_ADMIN_LISTEN".into(), address.clone());
    launch.address.clone_from(&address);
    let ready = format!("http://{address}/readyz");
    let second = Service::start(world.stack.launcher().clone(), launch, ready).unwrap();
    second.wait_ready(READY_WITHIN).await.unwrap();
    wait_cluster(&world, "two schedulers called scheduler-0", |cluster| {
        let both = named(cluster, "scheduler-0");
        let warned = warned(cluster, "2 living scheduler processes are called scheduler-0");
        (both.len() == 2 && warned && cluster["leader"]["standbys"] == 3).then_some(())
    })
    .await;
    for process in [&second, &world.stack.schedulers[0]] {
        wait_told(process, "give each a CAP_INSTANCE_NAME of its own").await;
    }
    assert!(second.signal(Signal::TERM).unwrap());
    assert_eq!(second.wait_exit(READY_WITHIN).await.unwrap(), Some(0));
    wait_whole(&world).await;
}

/// Waits until a log has these words.
async fn wait_told(service: &Service, words: &str) {
    wait::until(&format!("{} to say: {words}", service.name()), SHOWN_WITHIN, || async {
        let log = std::fs::read_to_string(service.process().log()).map_err(Pending::not_yet)?;
        if log.contains(words) { Ok(()) } else { Err(Pending::not_yet(service.process().log_tail())) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_process_whose_database_is_away_goes_on_and_tells_of_itself_again() {
    const EXIT_WITHIN: Duration = Duration::from_secs(25);
    let set = ReplicaSet::start_with(ReplicaSetOptions { members: 1, ..ReplicaSetOptions::default() });
    let set = set.await.unwrap();
    let bench = Bench::new(set.uri_for("certautopilot"));
    let kek = bench.kek("kek").await;
    bench.migrate(&kek).await;
    let scheduler = bench.scheduler(&kek, "scheduler-0", "3s");
    scheduler.wait_ready(READY_WITHIN).await.unwrap();
    wait_metric(&scheduler, LEADER, 1.0).await;
    set.pause(0).unwrap();
    wait_told(&scheduler, "the cluster could not be told that this process is there").await;
    assert!(scheduler.process().is_running());
    set.resume(0).unwrap();
    wait_told(&scheduler, "the cluster knows of this process again").await;
    wait_metric(&scheduler, LEADER, 1.0).await;
    let instances = raw(&bench.mongo_uri).await.collection::<Document>("instances");
    assert_eq!(instances.count_documents(doc! {}).await.unwrap(), 1);

    set.pause(0).unwrap();
    assert!(scheduler.signal(Signal::TERM).unwrap());
    let exit = scheduler.wait_exit(EXIT_WITHIN).await.unwrap();
    assert_eq!(exit, Some(0), "{}", scheduler.process().log_tail());
    set.resume(0).unwrap();
}
