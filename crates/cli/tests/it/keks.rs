// SPDX-License-Identifier: Apache-2.0
//! Key encryption keys: made, told apart, and refused when they are others.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cap_testkit::scratch::Scratch;

use crate::run::Cli;
use crate::world::{Bench, text};

#[tokio::test]
async fn two_keys_are_two_versions_their_owners_alone() {
    let scratch = Scratch::create().unwrap();
    let dir = scratch.path().join("kek");
    let generate = ["kek", "generate", "--dir", text(&dir), "-o", "json"];
    for version in [1, 2] {
        let made = Cli::bare().run(&generate).await.ends(0).tells(&["Keep a copy"]).json();
        assert_eq!(made["version"], version);
        let file = dir.join(format!("v{version}.key"));
        assert_eq!(made["path"], text(&file));
        let seen = fs::metadata(&file).unwrap();
        assert_eq!((seen.len(), seen.permissions().mode() & 0o777), (32, 0o600));
    }
    assert_ne!(fs::read(dir.join("v1.key")).unwrap(), fs::read(dir.join("v2.key")).unwrap());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing else is left behind");
    Cli::bare().run(&["kek", "generate", "--dir", text(&dir), "--dry-run"]).await.ends(0);
    assert!(!dir.join("v3.key").exists());
}

#[tokio::test]
async fn the_kek_of_another_cluster_ends_with_78_wherever_it_is_used() {
    let bench = Bench::migrated().await;
    let status = bench.cli.run(&["kek", "status", "-o", "json"]).await.ends(0).json();
    assert_eq!((&status["opens"], &status["active_version"]), (&true.into(), &1.into()));
    let another = bench.scratch.path().join("another");
    bench.cli.run(&["kek", "generate", "--dir", text(&another)]).await.ends(0);
    let wrong = bench.cli.clone().with("CAP_KEK_DIR", another.display());
    let status = wrong.run(&["kek", "status", "-o", "json"]).await.ends(78).tells(&["hint: "]);
    assert_eq!(status.json()["opens"], false);
    wrong.run(&["schema", "migrate"]).await.refuses(78, &["KEK"]);
    let token = bench.scratch.path().join("token");
    wrong.run(&["admin", "bootstrap", "--token-file", text(&token)]).await.refuses(78, &["KEK"]);
    assert!(!token.exists());
}

#[tokio::test]
async fn a_key_that_others_may_read_is_refused() {
    let bench = Bench::migrated().await;
    let key = bench.scratch.path().join("kek").join("v1.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    bench.cli.run(&["kek", "status"]).await.ends(64).tells(&["v1.key"]);
}

#[tokio::test]
async fn a_key_is_made_in_the_folder_that_this_host_is_told_and_nowhere_without_one() {
    let scratch = Scratch::create().unwrap();
    let dir = scratch.path().join("kek");
    let told = Cli::bare().with("CAP_KEK_DIR", dir.display());
    told.run(&["kek", "generate"]).await.ends(0);
    assert!(dir.join("v1.key").exists());
    let other = scratch.path().join("other");
    told.run(&["kek", "generate", "--dir", text(&other)]).await.ends(0);
    assert!(other.join("v1.key").exists() && !dir.join("v2.key").exists());
    Cli::bare().run(&["kek", "generate"]).await.refuses(2, &["neither --dir nor CAP_KEK_DIR is given"]);
}

#[tokio::test]
async fn a_folder_that_others_may_write_is_refused() {
    let bench = Bench::migrated().await;
    let dir = bench.scratch.path().join("kek");
    for mode in [0o770, 0o707] {
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        bench
            .cli
            .run(&["kek", "status"])
            .await
            .refuses(64, &["others may write the KEK folder", "chmod go-w"]);
        bench.cli.run(&["kek", "generate"]).await.refuses(1, &["others may write the KEK folder"]);
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    bench.cli.run(&["kek", "status"]).await.ends(0);
}

#[tokio::test]
async fn the_name_form_is_a_line_for_each_thing_and_nothing_else() {
    let bench = Bench::new().await;
    assert_eq!(bench.cli.run(&["schema", "status", "-o", "name"]).await.ends(3).data, "older\n");
    let applied = bench.cli.run(&["schema", "migrate", "-o", "name"]).await.ends(0).data;
    assert!(
        applied.starts_with("1\n") && applied.lines().all(|line| line.parse::<u32>().is_ok()),
        "{applied}"
    );
    assert_eq!(bench.cli.run(&["schema", "status", "-o", "name"]).await.ends(0).data, "current\n");
    bench.cli.run(&["kek", "generate"]).await.ends(0);
    assert_eq!(bench.cli.run(&["kek", "status", "-o", "name"]).await.ends(0).data, "v1\nv2\n");
}
