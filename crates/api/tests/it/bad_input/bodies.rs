// SPDX-License-Identifier: Apache-2.0
//! Bodies that cannot be read.

use serde_json::json;

use super::{BODY_OCTETS, CERTIFICATES, ISSUERS, Table, certificate, issuer};

pub(super) fn bodies(table: &mut Table<'_>) {
    let json = Some("application/json");
    let malformed = |names| (400, "malformed-request", names);
    let good = certificate("challenge", json!("http-01")).to_string();
    let good = good.as_bytes();
    let post = ("POST", CERTIFICATES);
    for broken in ["", "{", "[]", "null", "\"names\"", "{\"names\":[\"a.example.test\"],}", "{} {}", "\u{0}"]
    {
        table.raw(&format!("the body {broken:?}"), post, (json, broken.as_bytes()), malformed("body"));
    }
    table.raw("a body that is not UTF-8", post, (json, b"{\"issuer\":\"\xff\"}"), malformed("body"));
    table.raw("a body that nests", post, (json, "[".repeat(100_000).as_bytes()), malformed("body"));
    for kind in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonp")]
    {
        table.raw(
            &format!("{kind:?}"),
            post,
            (kind, good),
            (415, "unsupported-media-type", "application/json"),
        );
    }
    let mut large = good.to_vec();
    large.resize(BODY_OCTETS + 1, b' ');
    table.raw("an octet too many", post, (json, &large), (413, "body-too-large", "1 MiB"));
    table.raw(
        "large and not read",
        ("POST", "{p}/certificates/crt_1/renew"),
        (json, &large),
        (413, "body-too-large", "1 MiB"),
    );
    table.post(
        "an unknown field",
        CERTIFICATES,
        &certificate("nmes", json!(["a.example.test"])),
        malformed("nmes"),
    );
    table.post(
        "an unknown field in a field",
        CERTIFICATES,
        &certificate("key", json!({ "size": 1 })),
        malformed("size"),
    );
    table.post("no names", CERTIFICATES, &json!({ "issuer": "ca" }), malformed("names"));
    table.post("no issuer", CERTIFICATES, &json!({ "names": ["a.example.test"] }), malformed("issuer"));
    table.post(
        "a field twice is an unknown one",
        ISSUERS,
        &issuer("account_key", json!("x")),
        malformed("account_key"),
    );
    let operator = json!({ "$ne": null });
    for (member, wrong) in [
        ("names", json!("a.example.test")),
        ("names", json!([1])),
        ("names", json!([null])),
        ("names", json!([["a.example.test"]])),
        ("names", json!([operator])),
        ("names", operator.clone()),
        ("issuer", json!(1)),
        ("issuer", operator.clone()),
        ("issuer", json!({ "$gt": "" })),
        ("key", json!("ecdsa-p256")),
        ("key", json!(["ecdsa-p256"])),
        ("key", json!({ "type": "rsa-512" })),
        ("key", json!({ "type": operator })),
        ("challenge", json!("dns-02")),
        ("challenge", operator.clone()),
        ("profile", json!(7)),
        ("profile", operator.clone()),
        ("auto_renew", json!("yes")),
        ("auto_renew", json!(1)),
    ] {
        table.post(
            &format!("{member} {wrong}"),
            CERTIFICATES,
            &certificate(member, wrong),
            malformed("body"),
        );
    }
    for (member, wrong) in [
        ("name", operator.clone()),
        ("directory_url", operator.clone()),
        ("contact", json!("mailto:a@b.example")),
    ] {
        table.post(&format!("{member} {wrong}"), ISSUERS, &issuer(member, wrong), malformed("body"));
    }
    table.post(
        "an operator as a project's name",
        "/api/v1/projects",
        &json!({ "name": operator }),
        malformed("body"),
    );
    for (path, array) in [
        ("/api/v1/projects", json!(["positional"])),
        ("/api/v1/tokens", json!(["positional", "viewer", null, "1h"])),
        (ISSUERS, json!(["positional", "https://ca.example.test/dir", null, []])),
        (CERTIFICATES, json!([["a.example.test"], "ca"])),
    ] {
        table.post(&format!("an array at {path}"), path, &array, malformed("must be a JSON object"));
    }
    let token = json!({ "name": "a", "role": "root" });
    table.post("an unknown role", "/api/v1/tokens", &token, malformed("root"));
    let token = json!({ "name": "a", "role": "viewer", "project": operator });
    table.post("an operator as a token's project", "/api/v1/tokens", &token, malformed("body"));
}
