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
