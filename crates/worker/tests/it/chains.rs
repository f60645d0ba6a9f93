// SPDX-License-Identifier: Apache-2.0
//! The chain that is taken, at a CA that offers several.

use cap_core::certificate::presented;
use cap_testkit::ca::PebbleOptions;
use cap_testkit::progress::skip;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use crate::bench;
use crate::pem;

/// Roots that Pebble has beside its first.
const ALTERNATES: u8 = 2;

fn subject(root_pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(&der).unwrap();
    root.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
}

fn topmost_issuer(chain_pem: &str) -> String {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    let (_, topmost) = x509_parser::parse_x509_certificate(chain.last().unwrap()).unwrap();
    topmost.issuer().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_preferred_chain_is_taken_where_the_ca_offers_it_and_its_default_otherwise() {
    let mut options = bench::workers(1);
    let env = [("PEBBLE_ALTERNATE_ROOTS".to_owned(), ALTERNATES.to_string())];
    options.pebble = PebbleOptions { env: env.into(), ..PebbleOptions::default() };
    let (_stack, bench) = bench::own(options).await;
    let mut roots = Vec::new();
    for number in 0..=ALTERNATES {
        roots.push(subject(&bench.ca.issuance_root_pem_of(number).await.unwrap()));
    }
    let default = bench.request("default.example.test").await;
    let taken = bench.valid(&default).await["version"]["chain_issuer"].as_str().unwrap().to_owned();
    assert!(roots.contains(&taken), "{taken} is none of {roots:?}");
    let others: Vec<&String> = roots.iter().filter(|root| **root != taken).collect();
    if others.is_empty() {
        skip("other chains than the default", "this CA has one root");
        return;
    }
    let mut wanted: Vec<&str> = others.iter().map(|root| root.as_str()).collect();
    wanted.extend([taken.as_str(), "No Such Root"]);
    for (at, preferred) in wanted.iter().enumerate() {
        let name = format!("chain-{at}.example.test");
        let body = json!({
            "names": [name], "issuer": "pebble", "preferred_chain": preferred, "profile": bench.profile(),
        });
        let made = bench.api.post(&bench.path("certificates"), &body).await.unwrap();
        let id = made["id"].as_str().unwrap();
        let record = bench.valid(id).await;
        assert_eq!(record["preferred_chain"], *preferred);
        let expected = if *preferred == "No Such Root" { taken.as_str() } else { preferred };
        assert_eq!(record["version"]["chain_issuer"], expected, "the version says which it is");
        let fullchain = bench.download(id, "fullchain").await;
        assert_eq!(topmost_issuer(&fullchain), expected);
        assert!(pem::count(&fullchain) > 1 && presented(&fullchain).unwrap().names_count == 1);
        bench.keys_match(&[id.to_owned()]).await;
    }
}
