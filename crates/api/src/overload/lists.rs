// SPDX-License-Identifier: Apache-2.0
//! Lists are read by turns: each may hold many records at once.

use std::time::Duration;

use axum::http::Method;
use cap_core::clock::Clock;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::routes::PREFIX;

/// Lists that are read at once. The widest page there can be, 500 certificates of 100 names of 253 octets, is 13 MB at the
/// database, and some four times that on its way to an answer.
pub(super) const LISTS: usize = 16;
/// How long a list waits for its turn before it is refused: one takes a few milliseconds.
const WAIT: Duration = Duration::from_secs(1);

/// The turns.
#[derive(Debug)]
pub(super) struct Lists(Semaphore);

/// A list's turn, until it is dropped.
pub(crate) type Turn<'a> = SemaphorePermit<'a>;

impl Lists {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(LISTS))
    }

    /// A turn, if one comes in time.
    pub(super) async fn turn(&self, clock: &dyn Clock) -> Option<Turn<'_>> {
        tokio::select! {
            biased;
            turn = self.0.acquire() => turn.ok(),
            () = clock.sleep(WAIT) => None,
        }
    }
}

/// What is read as one thing although its path does not end in which.
const SINGLE: [&str; 3] = ["/download", "/cluster", "/attention"];

/// Whether a route reads many things: its path ends in what there is, and not in which of them. HEAD reads like GET.
pub(super) fn is_list(method: &Method, route: &str) -> bool {
    let single = route.ends_with('}') || SINGLE.iter().any(|end| route.ends_with(end));
    matches!(*method, Method::GET | Method::HEAD) && route.starts_with(PREFIX) && !single
}

#[cfg(test)]
mod tests {
    use cap_runtime::clock::SystemClock;

    use super::*;

    #[tokio::test]
    async fn lists_wait_for_their_turn_and_not_for_ever() {
        let lists = Lists::new();
        let mut turns = Vec::new();
        for _ in 0..LISTS {
            turns.push(lists.turn(&SystemClock).await.unwrap());
        }
        assert!(lists.turn(&SystemClock).await.is_none());
        let (next, ()) = tokio::join!(lists.turn(&SystemClock), async { drop(turns.pop()) });
        assert!(next.is_some());
    }

    #[test]
    fn lists_are_told_from_what_has_an_id() {
        for (method, route, wanted) in [
            (Method::GET, "/api/v1/projects", true),
            (Method::GET, "/api/v1/projects/{p}/certificates/{c}/versions", true),
            (Method::HEAD, "/api/v1/projects/{p}/certificates", true),
            (Method::GET, "/api/v1/projects/{p}/certificates/{c}", false),
            (Method::GET, "/api/v1/projects/{p}/certificates/{c}/download", false),
            (Method::GET, "/api/v1/cluster", false),
            (Method::POST, "/api/v1/projects", false),
            (Method::GET, "/readyz", false),
        ] {
            assert_eq!(is_list(&method, route), wanted, "{method} {route}");
        }
    }
}
