// SPDX-License-Identifier: Apache-2.0
//! Issuers' accounts from the command line.

use cap_testkit::scratch::Scratch;

use crate::world::{text, world};

/// 33 octets, as a CA hands them out.
const HMAC_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4";

#[tokio::test]
async fn the_key_of_an_external_account_comes_from_a_file_or_stdin_and_is_shown_nowhere() {
    let world = world().await.read().await;
    let (cli, scratch) = (world.cli(), Scratch::create().unwrap());
    let file = scratch.path().join("hmac.key");
    std::fs::write(&file, format!("{HMAC_KEY}\n")).unwrap();
    let create = ["issuer", "create", "external", "--directory-url", "https://127.0.0.1:1/dir"];
    let bound = [&create[..], &["--eab-kid", "kid-1", "--eab-hmac-key-file", text(&file)]].concat();

    let rehearsed = cli.run(&[&bound[..], &["--dry-run", "-o", "json"]].concat()).await.ends(0);
    assert_eq!(rehearsed.json()["body"]["eab_hmac_key"], "[REDACTED]");
    let made = cli.run(&[&bound[..], &["-o", "json"]].concat()).await.ends(0);
    assert_eq!(made.json()["eab_kid"], "kid-1");
    for ran in [rehearsed, made, cli.run(&["issuer", "get", "external", "-o", "wide"]).await.ends(0)] {
        assert!(!ran.data.contains(HMAC_KEY) && !ran.talk.contains(HMAC_KEY), "{ran:?}");
    }
    let line = format!(
        "echo {HMAC_KEY} | $CLI issuer update external --eab-kid kid-2 --eab-hmac-key-file - -o json"
    );
    assert_eq!(cli.shell(&line).await.ends(0).json()["eab_kid"], "kid-2");
    let cleared = cli.run(&["issuer", "update", "external", "--clear-eab", "-o", "json"]).await.ends(0);
    assert!(cleared.json()["eab_kid"].is_null());

    // One without the other, a key in a flag, a file that is none.
    cli.run(&[&create[..], &["--eab-kid", "kid-1"]].concat()).await.ends(2);
    cli.run(&[&create[..], &["--eab-hmac-key", HMAC_KEY]].concat()).await.ends(2);
    let none = text(scratch.path()).to_owned() + "/none";
    let args = [&create[..], &["--eab-kid", "kid-1", "--eab-hmac-key-file", &none]].concat();
    cli.run(&args).await.refuses(2, &["--eab-hmac-key-file", "cannot be read"]);
    cli.run(&["issuer", "delete", "external", "--yes"]).await.ends(0);
}

#[tokio::test]
async fn an_accounts_key_is_rolled_and_the_account_closed() {
    let world = world().await.read().await;
    let cli = world.cli();
    let (directory, roots) = (world.stack.ca().directory_url(), world.stack.ca().ca_file());
    let create = ["issuer", "create", "passing", "--directory-url", directory, "--trust-roots", text(roots)];
    let made = cli.run(&[&create[..], &["--wait", "-o", "json"]].concat()).await.ends(0).json();
    let rehearsed = cli.run(&["issuer", "roll-key", "passing", "--dry-run"]).await.ends(0).data;
    assert_eq!(rehearsed, "POST /api/v1/projects/demo/issuers/passing/roll-key\n");
    let rolled = cli.run(&["issuer", "roll-key", "passing", "--wait", "-o", "json"]).await.ends(0).json();
    assert!(rolled["key_rollover"].is_null() && rolled["account_url"] == made["account_url"], "{rolled}");

    cli.run(&["issuer", "deactivate", "passing"]).await.refuses(2, &["for ever", "--yes"]);
    let close = ["issuer", "deactivate", "passing", "--yes", "--wait", "-o", "json"];
    assert_eq!(cli.run(&close).await.ends(0).json()["status"], "deactivated");
    cli.run(&close).await.ends(0);
    cli.run(&["issuer", "roll-key", "passing"]).await.refuses(6, &["is deactivated", "request: req_"]);
    cli.run(&["issuer", "deactivate", "unheard-of", "--yes"])
        .await
        .refuses(4, &["unheard-of", "request: req_"]);
    cli.run(&["issuer", "delete", "passing", "--yes"]).await.ends(0);
}
