// SPDX-License-Identifier: Apache-2.0
//! What a replica is told: TLS, the wrong KEK, and settings that cannot be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cap_testkit::process::Signal;
use cap_testkit::scratch::Scratch;
use cap_testkit::wait::{Pending, until};

use crate::world::{Quiet, admin, quiet};

/// From start to an end by itself.
const ENDS: Duration = Duration::from_secs(30);
const READY: Duration = Duration::from_secs(60);

fn write_private(path: &Path, bytes: &[u8]) -> String {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Certificate, key, and the certificate as a root.
fn pair(folder: &Path, name: &str) -> (String, String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = write_private(&folder.join(format!("{name}.pem")), made.cert.pem().as_bytes());
    let key = made.signing_key.serialize_pem();
    (certificate, write_private(&folder.join(format!("{name}.key")), key.as_bytes()), made.cert.pem())
}

/// A client that trusts this root and no other.
fn trusting(root: &str) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(root.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([root]).build().unwrap()
}

/// Starts an api that must end by itself; its code and what it said.
async fn ends(quiet: &Quiet, name: &str, env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut launch = quiet.another_api(name);
    for (variable, value) in env {
        launch.env.insert((*variable).to_owned(), (*value).to_owned());
    }
    let process = quiet.spawn(launch);
    (process.wait_exit(ENDS).await.unwrap(), process.log_tail())
}

#[tokio::test]
async fn with_a_certificate_and_its_key_the_api_is_https_and_nothing_else() {
    let (quiet, scratch) = (quiet().await, Scratch::create().unwrap());
    let (certificate, key, root) = pair(scratch.path(), "good");
    let mut launch = quiet.another_api("api-tls");
    launch.env.insert("CAP_API_TLS_CERT_FILE".into(), certificate.clone());
    launch.env.insert("CAP_API_TLS_KEY_FILE".into(), key);
    let address = launch.env["CAP_API_LISTEN"].clone();
    let service = quiet.start(launch);
    service.wait_ready(READY).await.unwrap();
    let trusting = trusting(&root);
    let url = format!("https://{address}/api/v1/projects");
    let answer = trusting.get(&url).bearer_auth(quiet.owner()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let doubting = reqwest::Client::builder().build().unwrap();
    assert!(doubting.get(&url).send().await.is_err(), "a certificate of nobody was trusted");
    let plain = trusting.get(url.replace("https:", "http:")).bearer_auth(quiet.owner()).send().await;
    assert!(plain.is_err(), "{plain:?}");

    let (_, other_key, _) = pair(scratch.path(), "other");
    let files = [("CAP_API_TLS_CERT_FILE", &*certificate), ("CAP_API_TLS_KEY_FILE", &*other_key)];
    let (code, log) = ends(quiet, "api-other-key", &files).await;
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("do not belong together") && log.contains("other.key"), "{log}");
    let (code, log) = ends(quiet, "api-no-key", &files[..1]).await;
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("CAP_API_TLS_KEY_FILE"), "{log}");
    let swapped = [("CAP_API_TLS_CERT_FILE", &*other_key), ("CAP_API_TLS_KEY_FILE", &*other_key)];
    let (code, log) = ends(quiet, "api-no-chain", &swapped).await;
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("other.key"), "{log}");
}

#[tokio::test]
async fn the_wrong_kek_ends_it_with_78_and_writes_nothing() {
    let (quiet, scratch) = (quiet().await, Scratch::create().unwrap());
    let mut key = fs::read(quiet.stack.kek_dir().join("v1.key")).unwrap();
    key[0] ^= 1;
    write_private(&scratch.path().join("v1.key"), &key);
    let dir = scratch.path().display().to_string();
    let _alone = quiet.writing.write().await;
    let before = quiet.writes().await;
    let (code, log) = ends(quiet, "api-wrong-kek", &[("CAP_KEK_DIR", &dir)]).await;
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("KEK"), "{log}");
    assert_eq!(quiet.writes().await, before);
}

#[tokio::test]
async fn a_database_that_the_dns_does_not_know_is_waited_for_behind_tls_as_ever() {
    let (quiet, scratch) = (quiet().await, Scratch::create().unwrap());
    let mut launch = quiet.another_api("api-no-dns");
    let (certificate, key, root) = pair(scratch.path(), "early");
    launch.env.insert("CAP_API_TLS_CERT_FILE".into(), certificate);
    launch.env.insert("CAP_API_TLS_KEY_FILE".into(), key);
    let address = launch.env["CAP_API_LISTEN"].clone();
    // The domain `invalid` never has a name (RFC 6761, 6.4), whether or not a DNS can be asked.
    launch.env.insert("CAP_MONGO_URI".into(), "mongodb+srv://db.cluster.invalid/certautopilot".into());
    let service = quiet.start(launch);
    until("the log to say what is waited for", READY, || async {
        let log = std::fs::read_to_string(service.process().log()).unwrap();
        if log.contains("waiting: MongoDB could not be found in the DNS") {
            Ok(())
        } else {
            Err(Pending::not_yet(log))
        }
    })
    .await
    .unwrap();
    let told = admin(&service).call("GET", "/readyz").send().await;
    assert_eq!(told.status, 503, "{told:?}");
    let client = trusting(&root);
    let url = |path: &str| format!("https://{address}{path}");
    assert_eq!(client.get(url("/livez")).send().await.unwrap().status(), 200);
    let answer = client.get(url("/api/v1/projects")).bearer_auth(quiet.owner()).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(client.get(url("/livez").replace("https:", "http:")).send().await.is_err());
    assert!(service.process().is_running());
    service.signal(Signal::TERM).unwrap();
    assert_eq!(service.wait_exit(ENDS).await.unwrap(), Some(0));
    let (code, log) =
        ends(quiet, "api-no-uri", &[("CAP_MONGO_URI", "mongodb+srv://a.b.test,c.d.test/x")]).await;
    assert_eq!(code, Some(64), "{log}");
}

#[tokio::test]
async fn settings_that_cannot_be_end_it_with_64_and_are_all_told_at_once() {
    let quiet = quiet().await;
    let wrong = [
        ("CAP_API_LISTN", "127.0.0.1:1"),
        ("CAP_NONSENSE", "1"),
        ("CAP_API_LISTEN", "nowhere"),
        ("CAP_SHUTDOWN_DELAY", "soon"),
        ("CAP_KEK_PROVIDER", "paper"),
    ];
    let (code, log) = ends(quiet, "api-misread", &wrong).await;
    assert_eq!(code, Some(64), "{log}");
    for (variable, _) in wrong {
        assert!(log.contains(variable), "{variable}: {log}");
    }
}
