// SPDX-License-Identifier: Apache-2.0
//! Who may do what: every route that there is, with every kind of caller.

use cap_api::{Access, Route, routes};
use cap_core::actor::Role;
use serde_json::{Value, json};

use crate::http::{Answer, Http};
use crate::world::quiet;

/// An id of each kind that names nothing.
const NOTHING: [(&str, &str); 4] = [("{c}", "crt"), ("{i}", "iss"), ("{j}", "job"), ("{t}", "tok")];

struct Caller {
    what: &'static str,
    token: Option<String>,
    role: Role,
    /// Confined to a project, and whether it is the one of the path.
    confined: Option<bool>,
}

/// What a caller must be told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Granted,
    WhoAreYou,
    NeedsRole(Role),
    NoSuchProject,
}

fn expected(access: Access, caller: &Caller) -> Told {
    let known = caller.token.is_some();
    match access {
        Access::Anyone => Told::Granted,
        _ if !known => Told::WhoAreYou,
        Access::Bearer => Told::Granted,
        Access::Project(_) if caller.confined == Some(false) => Told::NoSuchProject,
        Access::Project(needed) if caller.role < needed => Told::NeedsRole(needed),
        Access::Project(_) => Told::Granted,
        Access::Organisation if caller.role == Role::Owner && caller.confined.is_none() => Told::Granted,
        Access::Organisation => Told::NeedsRole(Role::Owner),
        Access::Cluster if caller.confined.is_some() => Told::NeedsRole(Role::Admin),
        Access::Cluster if caller.role < Role::Admin => Told::NeedsRole(Role::Admin),
        Access::Cluster => Told::Granted,
    }
}

/// A body that can be read and makes nothing: the decision is then about the caller.
fn body(route: &Route) -> Option<Value> {
    Some(match (route.method, route.path.as_str()) {
        ("GET" | "DELETE", _) => return None,
        ("POST", path)
            if [
                "/renew",
                "/renewal-info",
                "/pause",
                "/resume",
                "/retry",
                "/cancel",
                "/drift-scan",
                "/roll-key",
            ]
            .iter()
            .any(|verb| path.ends_with(verb)) =>
        {
            return None;
        }
        (
            "PATCH",
            "/api/v1/projects/{p}"
            | "/api/v1/projects/{p}/certificates/{c}"
            | "/api/v1/projects/{p}/issuers/{i}",
        ) => json!({}),
        ("POST", "/api/v1/projects/{p}/certificates/{c}/revoke") => json!({ "reason": "superseded" }),
        // Nobody leads here: there is nobody to be asked.
        ("POST", "/api/v1/cluster/step-down") => json!({}),
        ("POST", "/api/v1/projects") => json!({ "name": "" }),
        ("POST", "/api/v1/tokens") => json!({ "name": "", "role": "viewer" }),
        ("POST", "/api/v1/projects/{p}/issuers/{i}/deactivate") => json!({}),
        ("POST", "/api/v1/projects/{p}/issuers") => json!({ "name": "", "directory_url": "" }),
        ("POST", "/api/v1/projects/{p}/certificates") => json!({ "names": [], "issuer": "" }),
        (method, path) => panic!("{method} {path} is new: give it a body here that makes nothing"),
    })
}

fn told(answer: &Answer, project: &str) -> Told {
    match answer.status {
        401 => {
            answer.problem(401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            Told::WhoAreYou
        }
        403 => {
            let detail = answer.problem(403, "forbidden");
            let roles = [Role::Operator, Role::Admin, Role::Owner];
            let name = |role: &Role| serde_json::to_value(role).unwrap().as_str().unwrap().to_owned();
            let named = roles.into_iter().find(|role| detail.contains(&format!("the role {}", name(role))));
            Told::NeedsRole(named.unwrap_or_else(|| panic!("no role is named: {detail}")))
        }
        404 if answer.problem(404, "not-found").contains(&format!("no project \"{project}\"")) => {
            Told::NoSuchProject
        }
        200 | 404 | 409 | 422 => Told::Granted,
        _ => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn every_route_tells_every_caller_what_its_declaration_says_and_writes_nothing() {
    let quiet = quiet().await;
    let mut callers = vec![
        Caller { what: "nobody", token: None, role: Role::Viewer, confined: None },
        Caller { what: "owner", token: Some(quiet.owner().to_owned()), role: Role::Owner, confined: None },
    ];
    let (own, foreign) = (Some(quiet.project.as_str()), Some(quiet.foreign.as_str()));
    for (what, role, project) in [
        ("viewer", Role::Viewer, None),
        ("operator", Role::Operator, None),
        ("admin", Role::Admin, None),
        ("project viewer", Role::Viewer, own),
        ("project operator", Role::Operator, own),
        ("project admin", Role::Admin, own),
        ("foreign viewer", Role::Viewer, foreign),
        ("foreign admin", Role::Admin, foreign),
    ] {
        let role_name = serde_json::to_value(role).unwrap();
        let made = {
            let _writing = quiet.writing.read().await;
            quiet.token(role_name.as_str().unwrap(), project).await
        };
        let confined = project.map(|project| project == quiet.project);
        callers.push(Caller { what, token: made["token"].as_str().map(str::to_owned), role, confined });
    }
    let _alone = quiet.writing.write().await;
    let before = quiet.writes().await;
    let (http, routes) = (quiet.http(), routes());
    for route in &routes {
        let mut path = route.path.replace("{p}", &quiet.project);
        for (parameter, prefix) in NOTHING {
            path = path.replace(parameter, &format!("{prefix}_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b"));
        }
        assert!(!path.contains('{'), "{path} has a parameter that this test does not know");
        for caller in &callers {
            let mut call = http.call(route.method, &path);
            if let Some(token) = &caller.token {
                call = call.token(token);
            }
            if let Some(body) = body(route) {
                call = call.json(&body);
            }
            let answer = call.send().await;
            let what = format!("{} {path} by {}: {answer:?}", route.method, caller.what);
            assert_eq!(told(&answer, &quiet.project), expected(route.access, caller), "{what}");
        }
    }
    assert!(routes.len() >= 20);
    assert_eq!(quiet.writes().await, before, "something was written");
}

#[tokio::test]
async fn every_route_answers_head_where_it_answers_get() {
    let quiet = quiet().await;
    for path in ["/healthz", "/readyz", "/api/v1/projects", "/api/v1/cluster", &quiet.path("/certificates")] {
        let answer = quiet.http().call("HEAD", path).token(quiet.owner()).send().await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}");
    }
}

#[tokio::test]
async fn a_foreign_project_looks_exactly_like_one_that_does_not_exist() {
    let quiet = quiet().await;
    let token = {
        let _writing = quiet.writing.read().await;
        quiet.token("admin", Some(&quiet.project)).await["token"].as_str().unwrap().to_owned()
    };
    let (http, missing) = (quiet.http(), "prj_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b");
    for rest in
        ["", "/certificates", "/issuers", "/jobs", "/certificates/crt_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b"]
    {
        let foreign = without(&http, &quiet.foreign, rest, &token).await;
        assert_eq!(foreign, without(&http, missing, rest, &token).await, "{rest}");
        assert_eq!(http.get(&format!("/api/v1/projects/foreign{rest}"), &token).await.status, 404);
    }
    let seen = http.get("/api/v1/projects", &token).await.json();
    assert_eq!(seen["items"].as_array().unwrap().len(), 1, "{seen}");
    assert_eq!(http.get(&quiet.path(""), &token).await.status, 200);
}

/// What is told about a project, without its id and the request's.
async fn without(http: &Http, project: &str, rest: &str, token: &str) -> (u16, Vec<String>, String) {
    let answer = http.get(&format!("/api/v1/projects/{project}{rest}"), token).await;
    answer.problem(404, "not-found");
    let mut body = answer.json();
    body["request_id"] = Value::Null;
    let headers = answer.headers.keys().map(ToString::to_string).collect();
    (answer.status, headers, body.to_string().replace(project, "PROJECT"))
}
