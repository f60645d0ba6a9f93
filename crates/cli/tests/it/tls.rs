// SPDX-License-Identifier: Apache-2.0
//! An API over TLS with a certificate of a private CA: who trusts that CA works with it, everybody else is told why not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cap_testkit::process::{Service, reserve_one};
use cap_testkit::scratch::Scratch;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::run::Cli;
use crate::world::{World, world};

/// The part of the hint that mends a mixed-up scheme.
const SCHEMES: &str = "https:// if the API has TLS, http:// if not";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A root, and a server at 127.0.0.1 that it vouches for.
struct Pki {
    scratch: Scratch,
}

impl Pki {
    fn create() -> Self {
        let scratch = Scratch::create().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let server = server.signed_by(&key, &root).unwrap();
        let files = [("root.pem", root.pem()), ("api.pem", server.pem()), ("api.key", key.serialize_pem())];
        for (name, pem) in files {
            let path = scratch.path().join(name);
            fs::write(&path, pem).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { scratch }
    }

    fn file(&self, name: &str) -> String {
        self.scratch.path().join(name).display().to_string()
    }
}

/// Another api of the shared system, over TLS; its address.
async fn start_over_tls(world: &World, pki: &Pki) -> (Service, String) {
    let mut launch = world.stack.apis[0].process().launch().clone();
    launch.name = "api-tls".into();
    let mut set = |name: &str, value: String| launch.env.insert(name.into(), value);
    set("CAP_INSTANCE_NAME", "api-tls".into());
    for variable in ["CAP_API_LISTEN", "CAP_CHALLENGE_LISTEN", "CAP_ADMIN_LISTEN"] {
        // The lease ends here, and the port is handed out again only after all others.
        set(variable, format!("127.0.0.1:{}", reserve_one().unwrap().port()));
    }
    set("CAP_API_TLS_CERT_FILE", pki.file("api.pem"));
    set("CAP_API_TLS_KEY_FILE", pki.file("api.key"));
    let address = launch.env["CAP_API_LISTEN"].clone();
    let ready_url = format!("http://{}/readyz", launch.env["CAP_ADMIN_LISTEN"]);
    let service = Service::start(world.stack.launcher().clone(), launch, ready_url).unwrap();
    service.wait_ready(READY_WITHIN).await.unwrap();
    (service, address)
}

fn at(cli: Cli, scheme: &str, address: &str) -> Cli {
    cli.with("CAP_API_URL", format!("{scheme}://{address}"))
}

/// Verbs that reach for the API, and what each ends with when it cannot.
const VERBS: [(&[&str], i32); 2] = [(&["health"], 3), (&["project", "list"], 1)];

#[tokio::test]
async fn who_trusts_the_private_ca_works_over_tls_and_nobody_else_does() {
    let world = world().await.read().await;
    let (pki, stranger) = (Pki::create(), Pki::create());
    let (_api, address) = start_over_tls(&world, &pki).await;
    let https = at(world.cli(), "https", &address);
    let trusting = https.clone().with("CAP_CA_FILE", pki.file("root.pem"));
    trusting.clone().without("CAP_TOKEN").run(&["health"]).await.ends(0);
    let listed = trusting.run(&["project", "list", "-o", "json"]).await.ends(0);
    assert_eq!((listed.json()[0]["name"].as_str(), listed.talk.as_str()), (Some("demo"), ""));
    trusting.clone().without("CAP_TOKEN").run(&["project", "list"]).await.refuses(5, &["CAP_TOKEN"]);

    let untrusted = [address.as_str(), "cannot be reached", "invalid peer certificate", "CAP_CA_FILE"];
    for cli in [https.clone(), https.clone().with("CAP_CA_FILE", stranger.file("root.pem"))] {
        for (verb, exit) in VERBS {
            cli.run(verb).await.refuses(exit, &untrusted);
        }
    }
    // The CA vouches for 127.0.0.1 alone.
    let another_name = address.replace("127.0.0.1", "localhost");
    let misnamed = at(trusting.clone(), "https", &another_name);
    misnamed.run(&["health"]).await.refuses(3, &["certificate", "localhost"]);
}

#[tokio::test]
async fn a_ca_file_that_is_none_ends_with_64() {
    let pki = Pki::create();
    let cli = Cli::bare().with("CAP_API_URL", "https://127.0.0.1:1");
    let told = ["the CA certificates", "-----BEGIN CERTIFICATE-----"];
    cli.clone().with("CAP_CA_FILE", pki.file("api.key")).run(&["health"]).await.refuses(64, &told);
    let missing = pki.file("lost.pem");
    cli.with("CAP_CA_FILE", &missing).run(&["health"]).await.refuses(64, &["CAP_CA_FILE", &missing]);
}

#[tokio::test]
async fn http_and_https_that_are_mixed_up_are_told_apart() {
    let world = world().await.read().await;
    let pki = Pki::create();
    let (_api, address) = start_over_tls(&world, &pki).await;
    for (verb, exit) in VERBS {
        let plain = at(world.cli(), "http", &address);
        plain.run(verb).await.refuses(exit, &[&format!("http://{address} cannot be reached"), SCHEMES]);
        let plain_address = world.stack.api_url(0).unwrap().strip_prefix("http://").unwrap();
        let over_tls = at(world.cli(), "https", plain_address).with("CAP_CA_FILE", pki.file("root.pem"));
        let told = format!("https://{plain_address} cannot be reached");
        over_tls.run(verb).await.refuses(exit, &[&told, SCHEMES]);
    }
}
