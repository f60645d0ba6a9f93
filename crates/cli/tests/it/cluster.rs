// SPDX-License-Identifier: Apache-2.0
//! The system as a whole: who leads, whether it is well.

use cap_testkit::scratch::Scratch;
use serde_json::Value;

use crate::world::{text, world};

/// Until two schedulers have found their places, on a machine that is busy with other tests.
const WHOLE_WITHIN: std::time::Duration = std::time::Duration::from_secs(90);

#[tokio::test]
async fn the_leader_is_one_of_the_schedulers() {
    let world = world().await.read().await;
    let shown = world.cli().run(&["leader", "show", "-o", "json"]).await.ends(0).json();
    let holder = shown["holder"].as_str().unwrap().to_owned();
    assert!(["scheduler-0", "scheduler-1"].contains(&holder.as_str()), "{shown}");
    assert_eq!(shown["expired"], false);
    let table = world.cli().run(&["leader", "show"]).await.ends(0).data;
    assert!(table.starts_with("HOLDER") && table.contains("scheduler-"), "{table}");
}

#[tokio::test]
async fn health_needs_no_token_and_deep_health_names_each_check() {
    let world = world().await.read().await;
    world.cli().without("CAP_TOKEN").run(&["health"]).await.ends(0);
    let deep = world.cli().run(&["health", "--deep"]).await.ends(0).data;
    for check in ["mongo", "kek", "schema"] {
        assert!(deep.contains(&format!("[+]{check} ok")), "{check}: {deep}");
    }
    let deep = world.cli().run(&["health", "--deep", "-o", "json"]).await.ends(0).json();
    assert_eq!(deep["healthy"], true);
}

#[tokio::test]
async fn every_process_is_listed_with_what_it_does() {
    let world = world().await.read().await;
    let listed = world.cli().run(&["instance", "list", "-o", "json"]).await.ends(0).json();
    for name in ["api-0", "api-1", "worker-0", "worker-1", "scheduler-0", "scheduler-1"] {
        let one = listed.as_array().unwrap().iter().find(|one| one["name"] == name);
        let one = one.unwrap_or_else(|| panic!("{name} is not in {listed}"));
        assert_eq!(one["role"], name.split('-').next().unwrap());
    }
    let table = world.cli().run(&["instance", "list"]).await.ends(0).data;
    assert!(table.starts_with("NAME") && table.contains("of 32 jobs") && !table.contains("PID"), "{table}");
    assert!(world.cli().run(&["instance", "list", "-o", "wide"]).await.ends(0).data.contains("PID"));
}

#[tokio::test]
async fn a_step_down_hands_the_lead_to_another_and_is_not_for_everybody() {
    let world = world().await.write().await;
    let shown = async || world.cli().run(&["leader", "show", "-o", "json"]).await.ends(0).json();
    let epoch = |leader: &Value| leader["epoch"].as_i64().unwrap();
    // The other scheduler may have been started only now, by another test.
    let first = cap_testkit::wait::until("a leader and a standby", WHOLE_WITHIN, || async {
        let leader = shown().await;
        let is_whole = leader["expired"] == false && leader["standbys"] == 1;
        if is_whole { Ok(leader) } else { Err(cap_testkit::wait::Pending::not_yet(leader)) }
    });
    let first = first.await.unwrap();

    let args = ["token", "create", "watcher", "--role", "viewer", "--expires-in", "1h"];
    let viewer = world.cli().run(&args).await.ends(0).data;
    let viewer = world.cli().with("CAP_TOKEN", viewer.trim_end());
    viewer.run(&["leader", "step-down"]).await.refuses(5, &["admin", "request: req_"]);
    let before = (epoch(&first) - 1).to_string();
    let told = ["leads no more", "request: req_"];
    world.cli().run(&["leader", "step-down", "--epoch", &before, "--force"]).await.refuses(6, &told);
    let rehearsed = world.cli().run(&["leader", "step-down", "--dry-run"]).await.ends(0);
    assert!(rehearsed.data.starts_with("POST /api/v1/cluster/step-down"), "{rehearsed:?}");
    assert!(!rehearsed.talk.contains("was asked"), "{rehearsed:?}");

    // With leases as short as these a busy machine changes the lead by itself: who is meant is then looked up anew.
    let handed_over = cap_testkit::wait::until("a hand-over", WHOLE_WITHIN, || async {
        let first = shown().await;
        let meant = epoch(&first).to_string();
        let ran = world.cli().run(&["leader", "step-down", "--epoch", &meant, "--wait", "-o", "json"]).await;
        if ran.code == Some(6) {
            Err(cap_testkit::wait::Pending::not_yet(ran.talk))
        } else {
            Ok((first, ran))
        }
    });
    let (first, ran) = handed_over.await.unwrap();
    let (next, ran) = (ran.json(), ran.ends(0));
    assert!(ran.talk.contains(first["holder"].as_str().unwrap()), "{ran:?}");
    assert!(epoch(&next) > epoch(&first), "{first}, {next}");
    assert_ne!((&next["holder"], &next["epoch"]), (&first["holder"], &first["epoch"]));
}

#[tokio::test]
async fn top_is_one_snapshot_where_there_is_no_terminal() {
    let world = world().await.read().await;
    let id = world.issued("top.example.test").await;
    let snapshot = world.cli().run(&["top", "-o", "json"]).await.ends(0).json();
    assert!(
        snapshot["cluster"]["leader"]["holder"].as_str().unwrap().starts_with("scheduler-"),
        "{snapshot}"
    );
    let ending = snapshot["projects"][0]["ending"].as_array().unwrap();
    assert!(!ending.is_empty() && ending.len() <= 10, "{snapshot}");
    let found = snapshot["projects"].as_array().unwrap().iter().any(|work| work["project"] == "demo");
    assert!(found && id.starts_with("crt_"), "{snapshot}");
    let page = world.cli().run(&["top"]).await.ends(0).data;
    for part in ["Leader: scheduler-", "Queue: ", "MongoDB: ", "Instances", "Running jobs", "worker-1"] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    assert_eq!(world.cli().run(&["top", "-o", "name"]).await.ends(0).data.lines().count(), 6);
    world.cli().run(&["top", "--project", "none-such"]).await.refuses(4, &["none-such"]);
}

/// A pseudo-terminal by `script`, whose keys come from a pipe: `q` once something was drawn, or Ctrl-C.
#[tokio::test]
async fn top_on_a_terminal_ends_with_q_and_with_ctrl_c_and_leaves_the_terminal_as_it_was() {
    let world = world().await.read().await;
    for key in ["q", "\\003"] {
        let folder = Scratch::create().unwrap();
        let line = format!(
            "cd '{}'; touch out; \
             inside='trap : INT; stty -a >before; \"$CLI\" top; echo $? >code; stty -a >after'; \
             (for n in $(seq 600); do grep -q 'Leader: ' out && break; sleep 0.1; done; printf '{key}'; \
              for n in $(seq 600); do test -s after && break; sleep 0.1; done) \
             | SHELL=/bin/sh TERM=xterm timeout 150 script -qfc \"$inside\" out >/dev/null",
            text(folder.path())
        );
        world.cli().shell(&line).await.ends(0);
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let drawn = read("out");
        assert_eq!(read("code"), "0\n", "{drawn:?}");
        assert_eq!(read("before"), read("after"), "the terminal is another");
        let (opened, closed) = (drawn.find("\x1b[?1049h").unwrap(), drawn.rfind("\x1b[?1049l").unwrap());
        let leader = drawn.find("Leader: scheduler-").unwrap();
        assert!(opened < leader && leader < closed, "{drawn:?}");
        assert!(drawn[closed..].lines().count() <= 3 && drawn[..closed].contains("\x1b[?25h"), "{drawn:?}");
    }
}
