// SPDX-License-Identifier: Apache-2.0
//! The schema: looked at, brought to this build's, left alone.

use cap_testkit::mongo::{MongoUser, ReplicaSet, ReplicaSetOptions};
use cap_testkit::scratch::Scratch;

use crate::run::Cli;
use crate::world::{Bench, text};

#[tokio::test]
async fn a_second_migration_changes_nothing() {
    let bench = Bench::new().await;
    bench.cli.run(&["schema", "status"]).await.ends(3).tells(&["schema migrate"]);
    bench.cli.run(&["schema", "migrate", "--dry-run"]).await.ends(0).tells(&["dry run"]);
    bench.cli.run(&["schema", "status"]).await.ends(3);

    let first = bench.cli.run(&["schema", "migrate", "-o", "json"]).await.ends(0).json();
    assert!(!first["applied"].as_array().unwrap().is_empty(), "{first}");
    let status = bench.cli.run(&["schema", "status", "-o", "json"]).await.ends(0).json();
    assert_eq!(status["state"], "current");
    let kek = bench.cli.run(&["kek", "status"]).await.ends(0).data;

    let second = bench.cli.run(&["schema", "migrate", "-o", "json"]).await.ends(0).json();
    assert_eq!(second["applied"], serde_json::json!([]));
    let told = bench.cli.run(&["schema", "migrate"]).await.ends(0).tells(&["current already"]);
    assert_eq!(told.data, "");
    assert_eq!(bench.cli.run(&["schema", "status", "-o", "json"]).await.ends(0).json(), status);
    assert_eq!(bench.cli.run(&["kek", "status"]).await.ends(0).data, kek, "cluster and canary are the same");
}

#[tokio::test]
async fn a_database_that_is_away_is_told_with_what_to_do() {
    let away = Cli::bare().with("CAP_MONGO_URI", "mongodb://127.0.0.1:1/x?replicaSet=none");
    let ran = away.run(&["schema", "status"]).await;
    assert_ne!(ran.code, Some(0));
    let code = ran.code.unwrap();
    ran.refuses(code, &["database"]);
}

#[tokio::test]
async fn a_wrong_password_ends_with_69_and_is_not_repeated() {
    let options = ReplicaSetOptions { members: 1, asks_for_passwords: true, ..ReplicaSetOptions::default() };
    let set = ReplicaSet::start_with(options).await.unwrap();
    let scratch = Scratch::create().unwrap();
    let kek = scratch.path().join("kek");
    let cli = Cli::bare().with("CAP_KEK_DIR", kek.display());
    cli.run(&["kek", "generate", "--dir", text(&kek)]).await.ends(0);
    let user = set.create_documented_user("certautopilot", "right").await.unwrap();
    let with = |user: &MongoUser| cli.clone().with("CAP_MONGO_URI", set.uri_as(user, "certautopilot"));
    let stranger = with(&MongoUser { password: "hunter2".into(), ..user.clone() });
    for verb in [
        &["schema", "status"][..],
        &["schema", "migrate"],
        &["kek", "status"],
        &["admin", "recover-token", "--yes"],
    ] {
        let ran = stranger.run(verb).await.refuses(69, &["MongoDB refused to", "CAP_MONGO_URI"]);
        assert!(!ran.talk.contains("hunter2"), "{}", ran.talk);
    }
    with(&user).run(&["schema", "migrate"]).await.ends(0);
    with(&user).run(&["schema", "status"]).await.ends(0);
}
