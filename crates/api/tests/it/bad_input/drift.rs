// SPDX-License-Identifier: Apache-2.0
//! Settings of drift scans that cannot be.

use serde_json::{Value, json};

use super::{CERTIFICATES, Table, certificate};

fn project(table: &mut Table<'_>, drift: &Value, want: (u16, &'static str, &str)) {
    let body = json!({ "drift": drift }).to_string();
    let what = format!("a project's drift {drift}");
    table.raw(&what, ("PATCH", "{p}"), (Some("application/json"), body.as_bytes()), want);
}

pub(super) fn drift(table: &mut Table<'_>) {
    let malformed = |names| (400, "malformed-request", names);
    let invalid = |names| (422, "invalid", names);
    for (host, why) in [
        ("", "drift.host"),
        ("*.example.test", "wildcard"),
        ("https://a.example.test", "URL"),
        ("a.example.test:443", "port"),
        ("localhost", "single label"),
        ("0.0.0.0", "unspecified"),
    ] {
        let body = certificate("drift", json!({ "host": host }));
        table.post(&format!("drift.host {host:?}"), CERTIFICATES, &body, invalid(why));
    }
    let body = certificate("drift", json!({ "port": 0 }));
    table.post("drift.port 0", CERTIFICATES, &body, invalid("drift.port"));
    for wrong in [
        json!({ "port": 65_536 }),
        json!({ "port": -1 }),
        json!({ "port": "443" }),
        json!({ "hots": "a.example.test" }),
        json!({ "host": { "$ne": null } }),
        json!(["127.0.0.1", 443]),
        json!("127.0.0.1"),
        json!(true),
    ] {
        let body = certificate("drift", wrong.clone());
        table.post(&format!("a certificate's drift {wrong}"), CERTIFICATES, &body, malformed("body"));
        project(table, &wrong, malformed("body"));
    }
    project(table, &json!({ "port": 0 }), invalid("drift.port"));
    project(table, &json!({ "enabled": "on" }), malformed("expected a boolean"));
    project(table, &json!({ "enabled": true, "host": "127.0.0.1" }), malformed("host"));
    for interval in ["", "6", "4m", "299s", "31d", "721h", "-5m", "5 m", "$gt"] {
        project(table, &json!({ "interval": interval }), invalid("drift.interval"));
    }
    table.get("{p}/drift?state=lost", malformed("state"));
    table.get("{p}/drift?status=served", malformed("status"));
}
