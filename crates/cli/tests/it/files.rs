// SPDX-License-Identifier: Apache-2.0
//! Tokens in files: the first administrator's, once, and those that are made with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::scratch::Scratch;
use futures_util::TryStreamExt;

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
    let rehearsed = ["admin", "bootstrap", "--token-file", text(&second), "--dry-run"];
    bench.cli.run(&rehearsed).await.refuses(6, &["bootstrapped already"]);
    let over = bench.cli.run(&["admin", "bootstrap", "--token-file", text(&first)]).await;
    over.refuses(1, &["there is a file of that name"]);
    assert_eq!(fs::read_to_string(&first).unwrap(), token, "the file of the first run is as it was");
}

#[tokio::test]
async fn a_database_that_is_not_migrated_ends_with_3_whichever_verb_meets_it() {
    let bench = Bench::new().await;
    let token = bench.scratch.path().join("token");
    for line in [
        &["schema", "status"][..],
        &["kek", "status"],
        &["admin", "bootstrap", "--token-file", text(&token)],
        &["admin", "bootstrap", "--token-file", text(&token), "--dry-run"],
        &["admin", "recover-token", "--yes"],
    ] {
        bench.cli.run(line).await.ends(3).tells(&["error: ", "hint: run `certautopilot schema migrate`"]);
    }
    assert!(!token.exists());
}

#[tokio::test]
async fn who_has_the_database_and_the_kek_gets_a_new_owners_token_and_is_audited() {
    let (world, scratch) = (world().await.read().await, Scratch::create().unwrap());
    let console = world.cli().without("CAP_API_URL").without("CAP_TOKEN");
    let made = console.run(&["admin", "recover-token", "--yes"]).await.ends(0).tells(&["valid until"]);
    let token = made.data.trim_end();
    assert!(!made.talk.contains(token), "the token was shown twice");
    let owner = world.cli().with("CAP_TOKEN", token);
    let listed = owner.run(&["token", "list", "-o", "json"]).await.ends(0).json();
    let recovered = |listed: &serde_json::Value| {
        listed
            .as_array()
            .unwrap()
            .iter()
            .filter(|token| token["name"] == "recovered")
            .cloned()
            .collect::<Vec<_>>()
    };
    let record = recovered(&listed).pop().unwrap_or_else(|| panic!("{listed}"));
    assert_eq!((&record["role"], &record["project"]), (&"owner".into(), &serde_json::Value::Null));
    let (made_at, ends_at) = (time(&record["created_at"]), time(&record["expires_at"]));
    assert_eq!(ends_at.as_second() - made_at.as_second(), 3_600);

    let file = scratch.path().join("token");
    let args = ["admin", "recover-token", "--yes", "--token-file", text(&file), "-o", "name"];
    let id = console.run(&args).await.ends(0).data.trim_end().to_owned();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bearer = world.cli().without("CAP_TOKEN").with("CAP_TOKEN_FILE", file.display());
    bearer.run(&["project", "list"]).await.ends(0);

    let database = Client::with_uri_str(world.stack.mongo_uri()).await.unwrap().default_database().unwrap();
    let outbox = database.collection::<Document>("audit_outbox");
    let rows: Vec<Document> = outbox.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    let leaves = rows.iter().map(|row| {
        let leaf = row.get_binary_generic("leaf").unwrap();
        serde_json::from_slice::<serde_json::Value>(leaf).unwrap()
    });
    let about: Vec<_> = leaves.filter(|leaf| leaf["target"] == id.as_str()).collect();
    assert_eq!(about.len(), 1, "{about:?}");
    assert_eq!(
        (&about[0]["action"], &about[0]["actor"]),
        (&"admin.token_recovered".into(), &"console".into())
    );
}

#[tokio::test]
async fn a_token_is_recovered_only_where_there_was_one_and_only_when_asked_to() {
    let bench = Bench::migrated().await;
    let recover = ["admin", "recover-token", "--yes"];
    bench.cli.run(&recover).await.refuses(6, &["never had one", "admin bootstrap"]);
    let first = bench.scratch.path().join("first");
    bench.cli.run(&["admin", "bootstrap", "--token-file", text(&first)]).await.ends(0);
    bench.cli.run(&recover[..2]).await.refuses(2, &["new owner's token", "--yes"]);
    let rehearsal = bench.cli.run(&["admin", "recover-token", "--dry-run"]).await.ends(0).tells(&["dry run"]);
    assert_eq!(rehearsal.data, "");
    let over = bench.cli.run(&["admin", "recover-token", "--yes", "--token-file", text(&first)]).await;
    over.refuses(1, &["there is a file of that name"]);
    let another = bench.scratch.path().join("another");
    bench.cli.run(&["kek", "generate", "--dir", text(&another)]).await.ends(0);
    let wrong = bench.cli.clone().with("CAP_KEK_DIR", another.display());
    wrong.run(&recover).await.refuses(78, &["KEK"]);
}

fn time(value: &serde_json::Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
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
