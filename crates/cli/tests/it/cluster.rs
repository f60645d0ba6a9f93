// SPDX-License-Identifier: Apache-2.0
//! The system as a whole: who leads, whether it is well.

use crate::world::world;

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
