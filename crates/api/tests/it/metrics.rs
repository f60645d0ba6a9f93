// SPDX-License-Identifier: Apache-2.0
//! What is counted, where it is shown, and that no client can make it grow.

use crate::replicas::sum;
use crate::world::{admin, quiet};

#[tokio::test]
async fn requests_are_counted_by_route_and_method_and_never_by_what_a_client_makes_up() {
    let quiet = quiet().await;
    let (http, admin) = (quiet.http(), admin(&quiet.stack.apis[0]));
    let shown = async || admin.call("GET", "/metrics").send().await.text;
    let line = |method: &str, route: &str, status: u16| {
        format!("certautopilot_http_requests_total{{method=\"{method}\",")
            + &format!("route=\"{route}\",status=\"{status}\"")
    };
    let wanted = [
        line("GET", "/api/v1/projects/{p}/certificates/{c}", 404),
        line("GET", "unmatched", 404),
        line("other", "/api/v1/projects", 405),
        line("GET", "/api/v1/projects/{p}", 401),
    ];
    let before = shown().await;
    http.get(&quiet.path("/certificates/made-up-id"), quiet.owner()).await;
    http.get("/made-up-path", quiet.owner()).await;
    http.call("MADEUP", "/api/v1/projects").send().await;
    http.call("GET", "/api/v1/projects/made-up-project").send().await;
    let after = shown().await;
    for line in wanted {
        assert!(sum(&after, &line) >= sum(&before, &line) + 1.0, "{line}: {after}");
    }
    for made_up in ["made-up", "MADEUP", &quiet.project] {
        assert!(!after.contains(made_up), "{made_up}");
    }
    assert!(after.contains("certautopilot_http_request_duration_seconds_bucket{"));
}

#[tokio::test]
async fn metrics_are_on_their_own_listener_and_nothing_else_of_the_api_is() {
    let quiet = quiet().await;
    let admin = admin(&quiet.stack.apis[0]);
    let metrics = admin.call("GET", "/metrics").send().await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("text/plain"));
    assert_eq!(quiet.http().get("/metrics", quiet.owner()).await.status, 404);
    for path in ["/api/v1/projects", "/healthz/x", "/.well-known/acme-challenge/x"] {
        assert_eq!(admin.call("GET", path).token(quiet.owner()).send().await.status, 404, "{path}");
    }
}
