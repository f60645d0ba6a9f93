// SPDX-License-Identifier: Apache-2.0
//! Commands of a migration that take long: beside much data an index is built for an hour, and the lease must not run out
//! meanwhile.

use std::time::Duration;

use bson::Document;
use cap_core::lease::Term;

use crate::error::StoreError;

/// How long a command may take that makes or takes away something small.
const COMMAND_BOUND: Duration = Duration::from_secs(45);
/// How long a command may take that goes through a whole collection: an index is built, or every record changed. A hundred
/// million records take a few hours; what takes longer hangs.
const COLLECTION_BOUND: Duration = Duration::from_secs(12 * 3_600);

/// How long this command may take.
pub(super) fn bound(command: &Document) -> Duration {
    match command.keys().next().map(String::as_str) {
        Some("createIndexes" | "update" | "aggregate") => COLLECTION_BOUND,
        _ => COMMAND_BOUND,
    }
}

/// Does `work`, and beside it extends the lease again and again, `every` so long. An extension that the database did not
/// answer is made again in its turn: whether the lease is lost is for one that is answered to say.
///
/// # Errors
/// What an extension is refused with; `work` is given up then.
pub(super) async fn held<T, E>(
    work: impl Future<Output = T>,
    every: Duration,
    extend: impl Fn() -> E,
) -> Result<T, StoreError>
where
    E: Future<Output = Result<Term, StoreError>>,
{
    let lost = async {
        loop {
            tokio::time::sleep(every).await;
            match extend().await {
                Ok(_) | Err(StoreError::Unavailable { .. }) => {}
                Err(refused) => return refused,
            }
        }
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        refused = lost => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bson::doc;

    use super::*;

    const EVERY: Duration = Duration::from_millis(5);

    fn term() -> Term {
        Term::new(1, Duration::ZERO, EVERY, jiff::SignedDuration::ZERO)
    }

    fn away() -> StoreError {
        StoreError::Unavailable { doing: "extend a lease", cause: "no primary".into() }
    }

    #[tokio::test]
    async fn the_lease_is_extended_for_as_long_as_a_command_takes() {
        let extended = Cell::new(0);
        let many = async {
            while extended.get() < 4 {
                tokio::time::sleep(EVERY).await;
            }
            "done"
        };
        let extend = || {
            extended.set(extended.get() + 1);
            // Some get no answer, as while a primary is elected.
            std::future::ready(if extended.get() % 2 == 0 { Err(away()) } else { Ok(term()) })
        };
        let held = tokio::time::timeout(Duration::from_secs(30), held(many, EVERY, extend)).await;
        assert_eq!(held.expect("nobody extended the lease").unwrap(), "done");
    }

    #[tokio::test]
    async fn a_command_is_given_up_once_somebody_else_has_the_lease() {
        let never = std::future::pending::<()>();
        let held = tokio::time::timeout(
            Duration::from_secs(30),
            held(never, EVERY, || std::future::ready(Err(StoreError::Fenced))),
        );
        assert!(matches!(held.await, Ok(Err(StoreError::Fenced))));
    }

    #[test]
    fn what_goes_through_a_collection_has_hours_and_nothing_else_has() {
        for long in ["createIndexes", "update", "aggregate"] {
            assert!(bound(&doc! { long: "jobs" }) > Duration::from_secs(3_600), "{long}");
        }
        for short in ["create", "dropIndexes"] {
            assert!(bound(&doc! { short: "jobs", "update": 1 }) < Duration::from_secs(60), "{short}");
        }
    }
}
