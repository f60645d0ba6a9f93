// SPDX-License-Identifier: Apache-2.0
//! Values that can be read and make no sense.

use serde_json::json;

use super::{CERTIFICATES, ISSUERS, Table, certificate, issuer};

pub(super) fn names(table: &mut Table<'_>) {
    let long = format!("{}.example.test", "a".repeat(64));
    let many_labels = format!("{}example.test", "a.".repeat(130));
    for wrong in [
        "",
        " ",
        ".",
        "..",
        "a..b.example",
        ".a.example",
        "localhost",
        "-a.example",
        "a-.example",
        "a_b.example",
        "*",
        "*.",
        "a.*.example",
        "**.example",
        "w*.example",
        "1.2.3.4.5",
        "256.1.1.1",
        "a.123",
        "http://a.example",
        "a.example:443",
        "a.example/x",
        "a b.example",
        " a.example",
        "a.example\n",
        "a.example\u{0}",
        "a@b.example",
        "１.２.３.４",
        "$ne",
        "$where.example",
        "a.example\\",
        "[::1]",
        "::1%eth0",
        "fe80::1::2",
        "xn--zzzzzz-.example",
        "\u{202e}a.example",
        "a.example,b.example",
        &long,
        &many_labels,
    ] {
        let body = certificate("names", json!(["good.example.test", wrong]));
        table.post(
            &format!("the name {wrong:?}"),
            CERTIFICATES,
            &body,
            (422, "invalid", "neither a DNS name nor an IP"),
        );
    }
    for (wrong, says) in [
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "broadcast"),
        ("224.0.0.1", "multicast"),
        ("a_b.example", "underscore"),
        ("a.example:443", "has a port"),
        ("http://a.example", "is a URL"),
        ("[::1]", "brackets"),
        ("a b.example", "white space"),
    ] {
        let body = certificate("names", json!([wrong]));
        table.post(&format!("{wrong} by its reason"), CERTIFICATES, &body, (422, "invalid", says));
    }
    let many: Vec<String> = (0..101).map(|n| format!("h{n}.example.test")).collect();
    for (what, wrong, says) in [
        ("none", json!([]), "at least one"),
        ("101", json!(many), "at most 100"),
        ("twice", json!(["a.example.test", "a.example.test"]), "a.example.test is named twice"),
        ("twice, spelt otherwise", json!(["bücher.example", "XN--bcher-kva.example."]), "named twice"),
        ("one address, twice", json!(["::ffff:192.0.2.1", "192.0.2.1"]), "named twice"),
        ("a wildcard over HTTP-01", json!(["*.example.test"]), "wildcard"),
    ] {
        table.post(
            &format!("names: {what}"),
            CERTIFICATES,
            &certificate("names", wrong),
            (422, "invalid", says),
        );
    }
}

pub(super) fn values(table: &mut Table<'_>) {
    for wrong in ["no-such", "", "$ne", "iss_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b", &"x".repeat(10_000)] {
        let body = certificate("issuer", json!(wrong));
        table.post("an unknown issuer", CERTIFICATES, &body, (422, "invalid", "no issuer"));
    }
    for wrong in ["", " ", "a b", "é", "$ne", &"p".repeat(65)] {
        let body = certificate("profile", json!(wrong));
        table.post(&format!("the profile {wrong:?}"), CERTIFICATES, &body, (422, "invalid", "profile name"));
    }
    let url = |rest: &str| format!("https://{rest}");
    for wrong in [
        String::new(),
        "ca".into(),
        "http://ca.example.test/dir".into(),
        "file:///etc/passwd".into(),
        url("user@ca.example.test/"),
        url("u:p@ca.example.test/"),
        url("ca.example.test/dir?x=1"),
        url("ca.example.test/#x"),
        url(""),
        url(&"a".repeat(3_000)),
    ] {
        let body = issuer("directory_url", json!(wrong));
        table.post(&format!("the directory {wrong:.40}"), ISSUERS, &body, (422, "invalid", "directory URL"));
    }
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for wrong in ["", "hello", "-----BEGIN CERTIFICATE-----\n", broken] {
        let body = issuer("trust_roots_pem", json!(wrong));
        table.post(&format!("the roots {wrong:?}"), ISSUERS, &body, (422, "invalid", "trust_roots_pem"));
    }
    for (label, says) in [
        ("PRIVATE KEY", "it holds a private key (PRIVATE KEY)"),
        ("EC PRIVATE KEY", "it holds a private key (EC PRIVATE KEY)"),
        ("X509 CRL", "it holds a block \"X509 CRL\""),
    ] {
        let pasted = format!("{broken}-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let body = issuer("trust_roots_pem", json!(pasted));
        table.post(&format!("roots with a {label}"), ISSUERS, &body, (422, "invalid", says));
    }
    for wrong in [
        "",
        "ops@example.test",
        "mailto:",
        "mailto:a",
        "mailto:a@b.example,c@d.example",
        "tel:+1",
        "mailto:$ne@b.example",
    ] {
        let body = issuer("contact", json!([wrong]));
        table.post(&format!("the contact {wrong:?}"), ISSUERS, &body, (422, "invalid", "contact"));
    }
    for wrong in ["", "A", "a_b", "-a", "a-", "a b", "$ne", "_cluster", "a.b", "ä", &"a".repeat(64)] {
        let invalid = (422, "invalid", "usable name");
        table.post(&format!("a project {wrong:?}"), "/api/v1/projects", &json!({ "name": wrong }), invalid);
        table.post(&format!("an issuer {wrong:?}"), ISSUERS, &issuer("name", json!(wrong)), invalid);
        let token = json!({ "name": wrong, "role": "viewer" });
        table.post(&format!("a token {wrong:?}"), "/api/v1/tokens", &token, invalid);
    }
    for wrong in ["", "0s", "366d", "1 d", "-1d", "tomorrow", "99999999999999999999d"] {
        let token = json!({ "name": "a", "role": "viewer", "expires_in": wrong });
        table.post(&format!("a life of {wrong:?}"), "/api/v1/tokens", &token, (422, "invalid", "expires_in"));
    }
    let token = json!({ "name": "a", "role": "owner", "project": "own" });
    table.post("an owner of one project", "/api/v1/tokens", &token, (422, "invalid", "whole organisation"));
    let token = json!({ "name": "a", "role": "viewer", "project": "no-such" });
    table.post("a token of no project", "/api/v1/tokens", &token, (404, "not-found", "no-such"));
}
