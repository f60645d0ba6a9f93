// SPDX-License-Identifier: Apache-2.0
//! Data on stdout, talk on stderr, and nothing for a terminal where there is none.

use crate::run::Cli;
use crate::world::{Bench, world};

#[tokio::test]
async fn stdout_holds_data_alone_even_while_something_is_waited_for() {
    let world = world().await.read().await;
    let args = ["cert", "request", "parsed.example.test", "--issuer", "local-ca", "--wait", "-o", "json"];
    let ran = world.cli().run(&args).await.ends(0).tells(&["waiting until it is issued"]);
    assert_eq!(ran.json()["status"], "valid");
    let refused = world.cli().run(&["cert", "get", "nobodys.example.test", "-o", "json"]).await.ends(4);
    assert_eq!(refused.data, "");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let world = world().await.read().await;
    world.issued("piped.example.test").await;
    let line = "set -o pipefail; \"$CLI\" cert list -o json | head -1";
    let ran = world.cli().shell(line).await.ends(0);
    assert_eq!((ran.data.as_str(), ran.talk.as_str()), ("[\n", ""));
    // Here nobody reads from the beginning, so that the write cannot but fail.
    for verb in ["cert list", "cert describe piped.example.test", "--help", "completion bash", "version"] {
        let line = format!("exec 3> >(:); wait $!; \"$CLI\" {verb} >&3; echo $? >&2");
        let ran = world.cli().shell(&line).await;
        assert_eq!((ran.data.as_str(), ran.talk.as_str()), ("", "0\n"), "{verb}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_changes_neither_what_is_done_nor_its_code() {
    let world = world().await.read().await;
    // Nobody hears that it waits, and it waits all the same.
    let request = "cert request unheard.example.test --issuer local-ca --wait -o json";
    let ran = world.cli().shell(&format!("exec 3> >(:); wait $!; \"$CLI\" {request} 2>&3")).await.ends(0);
    assert_eq!(ran.json()["status"], "valid");
    let bench = Bench::new().await;
    let line = "exec 3> >(:); wait $!; \"$CLI\" schema status >&3";
    bench.cli.shell(line).await.refuses(3, &["schema migrate"]);
}

/// Runs the program on a terminal, both of whose streams come out as one.
async fn on_a_terminal(cli: &Cli, args: &str) -> String {
    let line = format!("script -qec '\"$CLI\" {args}' /dev/null");
    cli.shell(&line).await.data
}

#[tokio::test]
async fn colours_are_for_terminals_whose_owners_want_them() {
    let cli = Cli::bare().with("TERM", "xterm").with("CAP_API_URL", "http://127.0.0.1:1");
    let red = "\x1b[1;31merror:";
    let shown = on_a_terminal(&cli, "cert list -p demo").await;
    assert!(shown.contains(red), "{shown:?}");
    for (cli, args) in [
        (cli.clone().with("NO_COLOR", "1"), "cert list -p demo"),
        (cli.clone(), "cert list -p demo --no-color"),
        (cli.clone().with("NO_COLOR", "1"), "cert lost"),
    ] {
        let shown = on_a_terminal(&cli, args).await;
        assert!(shown.contains("error:") && !shown.contains('\x1b'), "{args}: {shown:?}");
    }
}

#[tokio::test]
async fn secrets_are_not_shown_on_a_terminal() {
    let world = world().await.read().await;
    let id = world.issued("unshown.example.test").await;
    let cli = world.cli().with("TERM", "xterm");
    let key = on_a_terminal(&cli, &format!("cert download {id} --format key")).await;
    assert!(!key.contains("PRIVATE KEY") && key.contains("stdout is a terminal"), "{key}");
    let token = on_a_terminal(&cli, "token create unshown --role viewer").await;
    assert!(token.contains("the token is not shown"), "{token}");
    let tokens = world.cli().run(&["token", "list"]).await.ends(0).data;
    assert!(!tokens.contains("unshown"), "a token that nobody has was made: {tokens}");
}
