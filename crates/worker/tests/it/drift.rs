// SPDX-License-Identifier: Apache-2.0
//! Drift, end to end: a real server that does not load what was renewed is found out, and nothing is looked at that nobody
//! wants looked at.

use cap_testkit::process::series;
use cap_testkit::site::Site;
use cap_testkit::stack::{Role, Stack};
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::bench::{self, Bench, PATIENCE};

struct Drill {
    stack: Stack,
    bench: Bench,
}

impl Drill {
    async fn start() -> Self {
        let mut options = bench::workers(1).with(Role::Worker, "CAP_OUTBOUND_PRIVATE", "127.0.0.0/8");
        options.schedulers = 1;
        let (stack, bench) = bench::own(options).await;
        Self { stack, bench }
    }

    /// A certificate that is served at this site.
    async fn certificate(&self, name: &str, site: &Site) -> String {
        let body = json!({
            "names": [name], "issuer": "pebble", "challenge": "http-01", "profile": self.bench.profile(),
            "drift": { "host": site.address().ip(), "port": site.address().port() },
        });
        let made = self.bench.api.post(&self.bench.path("certificates"), &body).await.unwrap();
        let id = made["id"].as_str().unwrap().to_owned();
        self.bench.valid(&id).await;
        id
    }

    async fn load(&self, site: &Site, certificate: &str) {
        let chain = self.bench.download(certificate, "fullchain").await;
        site.load(&chain, &self.bench.download(certificate, "key").await).unwrap();
    }

    async fn turn(&self, on: bool) {
        let body = json!({ "drift": { "enabled": on, "interval": "5m" } });
        let path = self.bench.path("");
        let path = path.trim_end_matches('/');
        answered(async || self.bench.api.patch(path, &body).await).await.unwrap();
    }

    async fn point(&self, certificate: &str, target: &Value) {
        let (path, body) =
            (self.bench.path(&format!("certificates/{certificate}")), json!({ "drift": target }));
        answered(async || self.bench.api.patch(&path, &body).await).await.unwrap();
    }

    async fn scan(&self, certificate: &str) -> anyhow::Result<Value> {
        let path = self.bench.path(&format!("certificates/{certificate}/drift-scan"));
        answered(async || self.bench.api.post(&path, &json!({})).await).await
    }

    async fn get(&self, path: &str) -> Value {
        let path = self.bench.path(path);
        answered(async || self.bench.api.get(&path).await).await.unwrap()
    }

    async fn record(&self, certificate: &str) -> Value {
        self.get(&format!("certificates/{certificate}")).await
    }

    /// Waits until a scan found this; answers what it saw.
    async fn found(&self, certificate: &str, state: &str) -> Value {
        wait::until(&format!("{certificate} to be {state}"), PATIENCE, || async {
            let drift = self.record(certificate).await["drift"].clone();
            if drift["state"] == state { Ok(drift) } else { Err(Pending::not_yet(drift)) }
        })
        .await
        .unwrap()
    }

    async fn scanned(&self, certificate: &str, state: &str) -> Value {
        self.scan(certificate).await.unwrap();
        self.found(certificate, state).await
    }

    /// Waits until the leader counts so many of this state.
    async fn counted(&self, state: &str, count: f64) {
        let name = format!("certautopilot_drift{{state=\"{state}\"}}");
        wait::until(&format!("{count} {state} to be counted"), PATIENCE, || async {
            let metrics = self.stack.schedulers[0].metrics().await.map_err(Pending::not_yet)?;
            match series(&metrics, &name) {
                Some(shown) if (shown - count).abs() < 0.5 => Ok(()),
                shown => Err(Pending::not_yet(format!("{shown:?}"))),
            }
        })
        .await
        .unwrap();
    }
}

/// What the API answers once it has a database: on a machine that is busy it has none for moments.
async fn answered(ask: impl AsyncFn() -> anyhow::Result<Value>) -> anyhow::Result<Value> {
    let answer = wait::until("an answer", PATIENCE, || async {
        match ask().await {
            Err(error) if error.to_string().contains(": 503 ") => Err(Pending::not_yet(error)),
            answer => Ok(answer),
        }
    });
    answer.await.unwrap()
}

#[tokio::test]
async fn a_renewal_is_drift_until_the_server_loads_it_and_off_means_off() {
    let drill = Drill::start().await;
    let (site, other) = (Site::start().await.unwrap(), Site::start().await.unwrap());
    let certificate = drill.certificate("served.example.test", &site).await;
    drill.load(&site, &certificate).await;

    // Off, as every project is: nobody may ask for it either, and is told what to do.
    let refused = drill.scan(&certificate).await.unwrap_err().to_string();
    assert!(refused.contains(": 409 ") && refused.contains("--drift on"), "{refused}");
    assert!(drill.record(&certificate).await["drift"]["state"].is_null());
    drill.counted("served", 0.0).await;
    drill.counted("drifted", 0.0).await;
    drill.counted("unreachable", 0.0).await;
    assert_eq!(site.connections(), 0);

    // On: the leader has it scanned unasked.
    drill.turn(true).await;
    let first = drill.found(&certificate, "served").await;
    let version = drill.record(&certificate).await["version"].clone();
    assert_eq!(first["names"][0]["address"], site.address().to_string());
    assert_eq!(first["names"][0]["fingerprint_sha256"], version["fingerprint_sha256"]);
    assert_eq!(first["version"], version["id"]);
    assert_eq!(site.connections(), 1);

    // Renewed, and not loaded.
    let path = drill.bench.path(&format!("certificates/{certificate}/renew"));
    drill.bench.api.post(&path, &json!({})).await.unwrap();
    let renewed = wait::until("the renewal", PATIENCE, || async {
        let record = drill.record(&certificate).await;
        if record["version"]["number"] == 2 { Ok(record) } else { Err(Pending::not_yet(record)) }
    });
    let renewed = renewed.await.unwrap();
    assert!(renewed["drift"]["state"].is_null(), "what was seen of version 1 says nothing of version 2");
    let drifted = drill.scanned(&certificate, "drifted").await;
    let seen = &drifted["names"][0];
    assert_eq!(
        seen["fingerprint_sha256"], version["fingerprint_sha256"],
        "the old version is served: {seen}"
    );
    assert_eq!(seen["serial"], version["serial"]);
    assert_eq!(seen["not_after"], version["not_after"]);
    assert!(seen["issuer"].as_str().unwrap().contains("Pebble"), "{seen}");
    let list = drill.get("drift?state=drifted").await;
    assert_eq!(list["items"][0]["id"], certificate.as_str(), "{list}");
    drill.counted("drifted", 1.0).await;

    // Loaded.
    drill.load(&site, &certificate).await;
    drill.scanned(&certificate, "served").await;
    let list = drill.get("drift?state=drifted").await;
    assert_eq!(list["items"], json!([]));
    drill.counted("drifted", 0.0).await;

    // Off again: what was known goes, and nobody connects, however it is asked for.
    drill.turn(false).await;
    let came = site.connections();
    assert!(drill.scan(&certificate).await.is_err());
    wait::until("the certificate to follow its project", PATIENCE, || async {
        let drift = drill.record(&certificate).await["drift"].clone();
        if drift["state"].is_null() { Ok(()) } else { Err(Pending::not_yet(drift)) }
    })
    .await
    .unwrap();
    drill.counted("served", 0.0).await;
    assert_eq!(site.connections(), came, "somebody came although the project is off");
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn what_cannot_be_seen_says_why_and_where_nobody_may_connect_nobody_does() {
    let drill = Drill::start().await;
    drill.turn(true).await;
    let site = Site::start().await.unwrap();
    let certificate = drill.certificate("unseen.example.test", &site).await;
    let detail = |drift: &Value| drift["names"][0]["detail"].as_str().unwrap_or_default().to_owned();

    // It has loaded nothing: it is there and shows nothing.
    let seen = drill.scanned(&certificate, "unreachable").await;
    assert!(detail(&seen).contains("the TLS handshake failed"), "{seen}");
    site.load_foreign("somebody.example.test").unwrap();
    let seen = drill.scanned(&certificate, "drifted").await;
    assert!(seen["names"][0]["issuer"].is_string(), "{seen}");

    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let gone = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let gone_port = gone.local_addr().unwrap().port();
    drop(gone);
    let silent_port = silent.local_addr().unwrap().port();
    for (target, why) in [
        (json!({ "host": "127.0.0.1", "port": gone_port }), "no connection"),
        (json!({ "host": "127.0.0.1", "port": silent_port }), "did not shake hands"),
        (json!({ "host": "10.1.2.3" }), "CAP_OUTBOUND_PRIVATE"),
        (json!({ "host": "169.254.169.254", "port": 80 }), "never connects to"),
        (Value::Null, "DNS"),
    ] {
        drill.point(&certificate, &target).await;
        drill.scan(&certificate).await.unwrap();
        wait::until(&format!("{target} to be unreachable: {why}"), PATIENCE, || async {
            let drift = drill.record(&certificate).await["drift"].clone();
            let told = drift["state"] == "unreachable" && detail(&drift).contains(why);
            if told { Ok(()) } else { Err(Pending::not_yet(drift)) }
        })
        .await
        .unwrap();
    }

    // It is looked for elsewhere while the place before is being looked at: the same job goes on there.
    drill.point(&certificate, &json!({ "host": "127.0.0.1", "port": silent_port })).await;
    let job = drill.scan(&certificate).await.unwrap()["id"].as_str().unwrap().to_owned();
    let is = async |state: &str| {
        let what = format!("the scan to be {state}");
        let seen = wait::until(&what, PATIENCE, || async {
            let job = drill.get(&format!("jobs/{job}")).await;
            if job["state"] == state { Ok(job) } else { Err(Pending::not_yet(job)) }
        });
        seen.await.unwrap()
    };
    is("running").await;
    let (host, port) = (site.address().ip(), site.address().port());
    drill.point(&certificate, &json!({ "host": host, "port": port })).await;
    let ended = is("succeeded").await;
    assert_eq!(ended["attempt"], 2, "what it saw is of no use to anybody: {ended}");
    assert_eq!(drill.record(&certificate).await["drift"]["state"], "drifted");
}
