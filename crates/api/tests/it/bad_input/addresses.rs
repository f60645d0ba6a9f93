// SPDX-License-Identifier: Apache-2.0
//! Paths, queries, methods and headers that lead nowhere.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{Table, certificate};

pub(super) fn addresses(table: &mut Table<'_>) {
    let malformed = |names| (400, "malformed-request", names);
    for (query, says) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=-1", "query"),
        ("limit=ten", "query"),
        ("limit=", "query"),
        ("limit=4294967296", "query"),
        ("cursor=%24", "cursor"),
        ("cursor=!!", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("status=broken", "query"),
        ("status[$ne]=x", "query"),
        ("status=$ne", "query"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "query"),
        ("$where=1", "query"),
    ] {
        table.get(&format!("{{p}}/certificates?{query}"), malformed(says));
    }
    // Cursors of other lists: a list knows its items by ids of its own kind.
    for (list, kind) in [
        ("/api/v1/projects", "crt"),
        ("/api/v1/tokens", "prj"),
        ("{p}/issuers", "tok"),
        ("{p}/certificates", "job"),
        ("{p}/jobs", "iss"),
    ] {
        let cursor = BASE64_URL_SAFE_NO_PAD.encode(format!("{kind}_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b"));
        table.get(&format!("{list}?cursor={cursor}"), malformed("not one that this list handed out"));
    }
    for (path, says) in [
        ("/api/v1/projects?limit=0", "limit"),
        ("/api/v1/tokens?cursor[$gt]=", "query"),
        ("{p}/jobs?state=$ne", "query"),
        ("{p}/issuers?name=x", "query"),
        ("/readyz?verbos", "verbose"),
    ] {
        table.get(path, malformed(says));
    }
    for path in [
        "{p}/certificates/1",
        "{p}/certificates/crt_1",
        "{p}/certificates/$ne",
        "{p}/certificates/{%22$ne%22:1}",
        "{p}/certificates/CRT_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b",
        "{p}/certificates/crt_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b",
        "{p}/certificates/prj_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b/versions",
        "{p}/certificates/x/download",
        "{p}/issuers/no-such",
        "{p}/issuers/$ne",
        "{p}/jobs/1",
        "/api/v1/projects/no-such",
        "/api/v1/projects/$ne",
        "/api/v1/projects/%00",
        "/api/v1/projects/no-such/certificates",
        "/api/v1/tokens/tok_1",
        "/api/v1/tokens/$ne",
    ] {
        table.get(path, (404, "not-found", "that this token may see"));
    }
    for path in
        ["/", "/api", "/api/v1", "/api/v1/", "/api/v2/projects", "/api/v1/nothing", "{p}/", "//", "/metrics"]
    {
        table.get(path, (404, "not-found", "/api/v1"));
    }
    for path in ["/api/v1/projects/%ff", "{p}/certificates/%c3%28"] {
        table.get(path, malformed("path"));
    }
    for (method, path) in [
        ("DELETE", "/api/v1/projects"),
        ("PUT", "{p}/certificates"),
        ("POST", "/healthz"),
        ("PATCH", "/api/v1/tokens"),
        ("GET", "{p}/certificates/crt_1/renew"),
        ("FROB", "/api/v1/projects"),
        ("TRACE", "/api/v1/cluster"),
    ] {
        let body = (None, &b""[..]);
        table.raw(&format!("{method} {path}"), (method, path), body, (405, "method-not-allowed", "method"));
    }
    for key in [String::new(), "k".repeat(256), "ключ".into()] {
        let (path, body) = (table.quiet.path("/certificates"), certificate("profile", Value::Null));
        let call = table.quiet.http().call("POST", &path).token(table.quiet.owner()).json(&body);
        table.push("an idempotency key", call.header("idempotency-key", &key), malformed("Idempotency-Key"));
    }
}
