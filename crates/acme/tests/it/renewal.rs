// SPDX-License-Identifier: Apache-2.0
//! Renewal information and replacements (RFC 9773) of a real CA.

use std::time::Duration;

use cap_core::certificate::{Issued, spki_sha256};
use cap_core::clock::{later, until};
use cap_core::order::{CaError, Seen};
use cap_core::renewal_info::AriId;
use cap_testkit::ca::Pebble;
use cap_testkit::progress::skip;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::bench::{Bench, csr, patiently, until_not};

/// Civil time stands still for the client.
const NOW: &str = "2026-10-21T07:28:00Z";
/// Certificates until one can be replaced at most: one in 256 cannot.
const TRIES: u32 = 4;

/// Whether this CA can say when to renew.
fn offers_it(ca: &Pebble) -> bool {
    if !ca.flavor().renewal_info {
        skip("renewal information", "this CA offers none: it is an older Pebble");
    }
    ca.flavor().renewal_info
}

/// Orders a certificate that replaces another, and reads it.
async fn issue(bench: &Bench, ca: &Pebble, name: &str, replaces: Option<&AriId>) -> Issued {
    let (_, _, mut order) = bench.replace(ca, name, replaces).await.unwrap();
    bench.answer(&mut order).await;
    order.submit().await.unwrap();
    assert_eq!(until_not(&mut order, &[Seen::Pending]).await, Seen::Ready);
    order.finalize(&csr(name)).await.unwrap();
    assert_eq!(until_not(&mut order, &[Seen::Processing]).await, Seen::Valid);
    let chain = order.certificate().await.unwrap().pem;
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    Issued::accept(chain.clone(), &spki_sha256(&leaf).unwrap(), &[name.parse().unwrap()]).unwrap()
}

#[tokio::test]
async fn a_ca_says_when_it_wants_a_certificate_renewed() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let name = "when.renewal.test";
    let issued = issue(&bench, &ca, name, None).await;
    let id = issued.ari_id.clone().unwrap();
    if !offers_it(&ca) {
        assert!(!bench.account.offers_renewal_info());
        let error = bench.account.renewal_info(&id).await.unwrap_err();
        assert!(
            matches!(&error, CaError::Refused(problem) if problem.kind == "renewal-info-not-offered"),
            "{error}"
        );
        assert_eq!(bench.counted("certautopilot_acme_requests_total", &[("action", "renewal_info")]), 0.0);
        return;
    }
    assert!(bench.account.offers_renewal_info());
    let info = patiently(async || bench.account.renewal_info(&id).await).await;
    assert!(
        info.start < info.end && info.start > issued.not_before && info.end < issued.not_after,
        "{info:?}"
    );
    let now: Timestamp = NOW.parse().unwrap();
    assert_eq!(info.retry_after.map(|at| until(now, at)), Some(Duration::from_secs(6 * 3_600)));
    assert_eq!(info.explanation_url, None);
    let requests = "certautopilot_acme_requests_total";
    assert!(bench.counted(requests, &[("action", "renewal_info"), ("status", "2xx")]) >= 1.0);

    // It changes its mind, and says why.
    let moved = r#"{"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01-03T04:00:00Z"},"explanationURL":"https://ca.example.test/incident"}"#;
    ca.set_renewal_info(&issued.chain_pem, moved).await.unwrap();
    let info = patiently(async || bench.account.renewal_info(&id).await).await;
    assert_eq!(info.start, "2026-01-02T04:00:00Z".parse().unwrap());
    assert_eq!(info.end, later(info.start, Duration::from_secs(86_400)));
    assert_eq!(info.explanation_url.as_deref(), Some("https://ca.example.test/incident"));

    // Nonsense is nobody's word, and does not stop us from asking of others.
    for nonsense in ["<html>", "{}", r#"{"suggestedWindow":{"start":"soon","end":"later"}}"#] {
        ca.set_renewal_info(&issued.chain_pem, nonsense).await.unwrap();
        let error = bench.account.renewal_info(&id).await.unwrap_err();
        assert!(
            matches!(&error, CaError::Refused(problem) if problem.kind == "renewal-info-unreadable"),
            "{nonsense}: {error}"
        );
    }
    let (authority, _) = id.parts();
    let unknown = AriId::try_from(format!("{authority}.AQIDBA")).unwrap();
    let error = bench.account.renewal_info(&unknown).await.unwrap_err();
    assert!(matches!(error, CaError::Refused(_)), "{error}");
}

#[tokio::test]
async fn a_certificate_is_replaced_once() {
    let ca = Pebble::shared().await.unwrap();
    if !offers_it(&ca) {
        return;
    }
    let bench = Bench::of(&ca).await;
    let mut tries = 0;
    let (name, first) = loop {
        tries += 1;
        assert!(tries <= TRIES, "{TRIES} certificates in a row that this CA does not find");
        let name = format!("once-{tries}.renewal.test");
        let first = issue(&bench, &ca, &name, None).await.ari_id.unwrap();
        if Pebble::finds(&first.to_string()) {
            break (name, first);
        }
    };
    let name = name.as_str();
    assert!(ca.counts().await.unwrap().replaced(&[name]).is_empty());
    let second = issue(&bench, &ca, name, Some(&first)).await.ari_id.unwrap();
    assert_ne!(first, second);
    assert_eq!(ca.counts().await.unwrap().replaced(&[name]), [first.to_string()]);

    // Pebble notes that it was replaced a moment after it issued.
    let refused = cap_testkit::wait::until("the CA to know", Duration::from_secs(20), || async {
        match bench.replace(&ca, name, Some(&first)).await {
            Err(CaError::Refused(problem)) => Ok(problem),
            Err(error) => Err(cap_testkit::wait::Pending::not_yet(error)),
            Ok(_) => Err(cap_testkit::wait::Pending::not_yet("it was accepted")),
        }
    });
    let refused = refused.await.unwrap();
    assert_eq!(refused.kind, "urn:ietf:params:acme:error:alreadyReplaced");
    assert!(ca.counts().await.unwrap().refused_replacements.contains(&first.to_string()));
    // The one after it can be.
    if !Pebble::finds(&second.to_string()) {
        return skip("a second replacement", "this CA does not find what it issued");
    }
    issue(&bench, &ca, name, Some(&second)).await;
    assert_eq!(ca.counts().await.unwrap().replaced(&[name]).last(), Some(&second.to_string()));
}
