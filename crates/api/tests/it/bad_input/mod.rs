// SPDX-License-Identifier: Apache-2.0
//! What cannot be used is refused with a problem that says what to mend, and leaves no trace in the database.

mod addresses;
mod bodies;
mod drift;
mod values;

use serde_json::{Value, json};

use crate::http::Call;
use crate::world::{Quiet, quiet};

/// A body of the API at most.
const BODY_OCTETS: usize = 1024 * 1024;
/// A detail shorter than this cannot say what is wrong and what to do.
const DETAIL_CHARS: usize = 20;

struct Case {
    what: String,
    call: Call,
    status: u16,
    problem: &'static str,
    /// What the detail must speak of.
    names: String,
}

/// Makes cases for one project.
struct Table<'a> {
    quiet: &'a Quiet,
    cases: Vec<Case>,
}

impl Table<'_> {
    fn raw(
        &mut self,
        what: &str,
        call: (&str, &str),
        body: (Option<&str>, &[u8]),
        want: (u16, &'static str, &str),
    ) {
        let path = call.1.replace("{p}", &self.quiet.path(""));
        let call = self.quiet.http().call(call.0, &path).token(self.quiet.owner()).body(body.0, body.1);
        self.push(what, call, want);
    }

    fn push(&mut self, what: &str, call: Call, (status, problem, names): (u16, &'static str, &str)) {
        self.cases.push(Case { what: what.to_owned(), call, status, problem, names: names.to_owned() });
    }

    fn post(&mut self, what: &str, path: &str, body: &Value, want: (u16, &'static str, &str)) {
        let body = body.to_string();
        self.raw(what, ("POST", path), (Some("application/json"), body.as_bytes()), want);
    }

    fn get(&mut self, path: &str, want: (u16, &'static str, &str)) {
        let path = path.replace("{p}", &self.quiet.path(""));
        let call = self.quiet.http().call("GET", &path).token(self.quiet.owner());
        self.push(&format!("GET {path}"), call, want);
    }
}

const CERTIFICATES: &str = "{p}/certificates";
const ISSUERS: &str = "{p}/issuers";

/// A good request for a certificate, with one member changed.
fn certificate(member: &str, value: Value) -> Value {
    let mut body = json!({ "names": ["good.example.test"], "issuer": "ca" });
    body[member] = value;
    body
}

/// A good request for an issuer, with one member changed.
fn issuer(member: &str, value: Value) -> Value {
    let mut body = json!({ "name": "another", "directory_url": "https://ca.example.test/dir" });
    body[member] = value;
    body
}

#[tokio::test]
async fn bad_input_is_refused_with_its_reason_and_writes_nothing() {
    let quiet = quiet().await;
    let _alone = quiet.writing.write().await;
    let mut table = Table { quiet, cases: Vec::new() };
    for part in [bodies::bodies, values::names, values::values, addresses::addresses, drift::drift] {
        part(&mut table);
    }
    let before = quiet.writes().await;
    let count = table.cases.len();
    for case in table.cases {
        let answer = case.call.send().await;
        println!("{}: {} {}", case.what, answer.status, answer.text);
        let detail = answer.problem(case.status, case.problem);
        assert!(detail.contains(&case.names), "{}: {detail}", case.what);
        assert!(detail.len() >= DETAIL_CHARS && detail.len() < 2_000, "{}: {detail}", case.what);
        if case.status == 405 {
            assert!(!answer.header("allow").is_empty(), "{}: {answer:?}", case.what);
        }
    }
    assert!(count > 150, "the table has {count} cases");
    assert_eq!(quiet.writes().await, before, "something was written, if only for a while");
}

#[tokio::test]
async fn what_is_nearly_bad_is_accepted_and_its_writes_are_counted() {
    let quiet = quiet().await;
    let _alone = quiet.writing.write().await;
    let before = quiet.writes().await;
    let many: Vec<String> = (0..100).map(|n| format!("h{n}.edge.example.test")).collect();
    for good in [
        certificate("names", json!(["BÜCHER.example.", "192.0.2.1", "2001:DB8::1"])),
        certificate("names", json!(many)),
        certificate("profile", json!("p".repeat(64))),
        certificate("key", json!({ "type": "ecdsa-p384" })),
    ] {
        let answer = quiet.http().post(&quiet.path("/certificates"), quiet.owner(), &good).await;
        assert_eq!(answer.status, 201, "{good}: {answer:?}");
    }
    let path = quiet.path("/certificates");
    let mut just = certificate("names", json!(["just.example.test"])).to_string().into_bytes();
    just.resize(BODY_OCTETS, b' ');
    let call = quiet.http().call("POST", &path).token(quiet.owner());
    let answer = call.body(Some("application/json; charset=utf-8"), just).send().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    // A certificate, its job and its audit row, each time.
    assert!(quiet.writes().await >= before + 15);
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict_and_leaves_nothing_behind() {
    let quiet = quiet().await;
    let _alone = quiet.writing.write().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let lists = ["/api/v1/projects".to_owned(), quiet.path("/issuers"), quiet.path("/jobs")];
    let shown = async || {
        let mut shown = Vec::new();
        for list in &lists {
            shown.push(http.get(&format!("{list}?limit=500"), owner).await.text);
        }
        shown
    };
    let before = shown().await;
    for (list, body, name) in
        [(&lists[0], json!({ "name": "own" }), "own"), (&lists[1], issuer("name", json!("ca")), "ca")]
    {
        let refused = http.post(list, owner, &body).await;
        assert!(refused.problem(409, "conflict").contains(&format!("called {name} already")));
        let keyed = http.call("POST", list).token(owner).header("idempotency-key", "taken").json(&body);
        keyed.send().await.problem(409, "conflict");
    }
    assert_eq!(shown().await, before);
}

#[tokio::test]
async fn an_issuer_in_use_stays_and_the_conflict_is_told_in_our_words() {
    let quiet = quiet().await;
    let _written = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let path = quiet.path("/issuers/in-use");
    let made = http.post(&quiet.path("/issuers"), owner, &issuer("name", json!("in-use"))).await;
    assert_eq!(made.status, 201, "{made:?}");
    let mut ids = Vec::new();
    for n in 0..4 {
        let mut body = certificate("issuer", json!("in-use"));
        body["names"] = json!([format!("u{n}.in-use.example.test"), "other.in-use.example.test"]);
        ids.push(http.post(&quiet.path("/certificates"), owner, &body).await.id());
    }
    let refused = http.call("DELETE", &path).token(quiet.owner()).send().await;
    let detail = refused.problem(409, "conflict");
    assert!(detail.contains("certificates use the issuer in-use"), "{detail}");
    let named = (0..4).filter(|n| detail.contains(&format!("{} (u{n}.in-use.example.test)", ids[*n])));
    assert_eq!(named.count(), 3, "{detail}");
    assert!(!detail.contains("other."), "{detail}");
    assert_eq!(http.get(&path, quiet.owner()).await.status, 200);
}
