// SPDX-License-Identifier: Apache-2.0
//! Drift from the command line: turned on, scanned, listed, and an exit code for scripts.

use cap_testkit::site::Site;

use crate::world::World;

#[tokio::test]
async fn drift_is_turned_on_scanned_and_told_and_a_check_ends_with_3() {
    // A system of its own: what is looked at are all certificates of a project.
    let world = World::start().await;
    let site = Site::start().await.unwrap();
    site.load_foreign("foreign.example.test").unwrap();
    let cli = world.cli();
    let port = site.address().port().to_string();
    let mut request =
        vec!["cert", "request", "drift.example.test", "--issuer", "local-ca", "--wait", "-o", "name"];
    request.extend(["--drift-host", "127.0.0.1", "--drift-port", &port]);
    let id = cli.run(&request).await.ends(0).data.trim_end().to_owned();
    let scan = ["drift", "scan", "drift.example.test", "--wait"];
    cli.run(&scan).await.refuses(6, &["--drift on"]);
    assert_eq!(site.connections(), 0);

    let turned = ["project", "update", "demo", "--drift", "on", "--drift-interval", "1h", "-o", "wide"];
    let turned = cli.run(&turned).await.ends(0).data;
    assert!(turned.contains("every 1h at port 443"), "{turned}");
    let rehearsed = cli.run(&[&scan[..], &["--dry-run"]].concat()).await.ends(0).data;
    assert!(rehearsed.contains(&format!("/certificates/{id}/drift-scan")), "{rehearsed}");

    let scanned = cli.run(&scan).await.ends(0).data;
    let lines: Vec<&str> = scanned.lines().collect();
    assert!(lines[0].contains("DRIFT") && lines[1].contains("drifted"), "{scanned}");
    assert!(
        lines[1].contains(&format!("drift.example.test: drifted at 127.0.0.1:{port}: serial ")),
        "{scanned}"
    );
    let described = cli.run(&["cert", "describe", "drift.example.test"]).await.ends(0).data;
    assert!(described.contains("\nDrift         drifted, scanned "), "{described}");
    assert!(described.contains(&format!("looked at: 127.0.0.1, port {port}\n")), "{described}");

    let list = ["drift", "list"];
    cli.run(&list).await.ends(0);
    let checked = cli.run(&[&list[..], &["--check"]].concat()).await.ends(3);
    assert!(
        checked.data.contains(&id) && checked.talk.contains("1 serve another certificate"),
        "{checked:?}"
    );
    let served = cli.run(&[&list[..], &["--state", "served", "-o", "json"]].concat()).await.ends(0);
    assert_eq!(served.json(), serde_json::json!([]));

    let [chain, key] =
        ["fullchain", "key"].map(|format| ["cert", "download", "drift.example.test", "--format", format]);
    let (chain, key) = (cli.run(&chain).await.ends(0).data, cli.run(&key).await.ends(0).data);
    site.load(&chain, &key).unwrap();
    let all = cli.run(&["drift", "scan", "--all", "--wait"]).await.ends(0).data;
    assert!(all.contains("served"), "{all}");
    cli.run(&[&list[..], &["--check"]].concat()).await.ends(0);
}
