// SPDX-License-Identifier: Apache-2.0
//! Tokens in files: the first administrator's, once, and those that are made with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cap_testkit::scratch::Scratch;

use crate::world::{Bench, text, world};

#[tokio::test]
async fn a_second_first_administrator_ends_with_6_and_leaves_no_file() {
    let bench = Bench::migrated().await;
    let (first, second) = (bench.scratch.path().join("first"), bench.scratch.path().join("second"));
    let rehearsal = ["admin", "bootstrap", "--token-file", text(&first), "--dry-run"];
    bench.cli.run(&rehearsal).await.ends(0).tells(&["dry run"]);
    assert!(!first.exists());
    let made = bench.cli.run(&["admin", "bootstrap", "--token-file", text(&first)]).await.ends(0);
    let token = fs::read_to_string(&first).unwrap();
    assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!made.data.contains(token.trim()) && !made.talk.contains(token.trim()), "the token was shown");

    let again = bench.cli.run(&["admin", "bootstrap", "--token-file", text(&second)]).await;
    again.refuses(6, &["bootstrapped already"]);
    assert!(!second.exists());
    let over = bench.cli.run(&["admin", "bootstrap", "--token-file", text(&first)]).await;
    over.refuses(1, &["there is a file of that name"]);
    assert_eq!(fs::read_to_string(&first).unwrap(), token, "the file of the first run is as it was");
}

#[tokio::test]
async fn a_token_in_a_file_is_its_owners_works_and_can_be_revoked() {
    let (world, scratch) = (world().await.read().await, Scratch::create().unwrap());
    let file = scratch.path().join("token");
    let args = ["token", "create", "ci", "--role", "operator", "--token-file", text(&file), "-o", "name"];
    let id = world.cli().run(&args).await.ends(0).data.trim_end().to_owned();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bearer = world.cli().without("CAP_TOKEN").with("CAP_TOKEN_FILE", file.display());
    bearer.run(&["cert", "list", "-o", "json"]).await.ends(0);
    world.cli().run(&["token", "revoke", &id, "--yes"]).await.ends(0);
    bearer.run(&["cert", "list"]).await.refuses(5, &["CAP_TOKEN_FILE"]);
}
