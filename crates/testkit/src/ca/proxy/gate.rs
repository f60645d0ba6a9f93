// SPDX-License-Identifier: Apache-2.0
//! Keeps apart the requests that deadlock Pebble 2.10.1 when it works on them at once.
//!
//! Its store has one readers-writer lock, its orders and authorizations one each, and Go's lock lets no reader in
//! while a writer waits. So these block each other for ever:
//!
//! 1. newOrder looks through the authorizations: holds the store (reading), waits for an authorization. An
//!    authorization fetch holds that authorization and looks up the account: waits for the store. Any writer that
//!    waits for the store between the two closes the circle. Hence: newOrder alone, or authorization fetches.
//! 2. Reading an order holds the store and waits for its authorizations: the same circle, when one of them is being
//!    fetched by somebody else. And reading an order takes the order's read lock twice, with a writer (another
//!    reader of the same order, which stores its status) between. Hence: requests about one order, its
//!    authorizations and its challenges go one after the other. Two runners on one order are what a drill is about.
//!
//! Which authorization belongs to which order is learnt from the answers that pass. Only calls to Pebble are
//! inside: delays and faults are put on outside.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::{
    Mutex as AsyncMutex, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock,
};

use super::route::{Route, path_of, paths_of};

/// The locks of the gate.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Written by newOrder, read by authorization fetches.
    orders: Arc<RwLock<()>>,
    families: Mutex<Families>,
}

/// Which orders a path is about. An authorization that is used again belongs to several.
#[derive(Debug, Default)]
struct Families {
    orders_of: HashMap<String, BTreeSet<String>>,
    locks: HashMap<String, Arc<AsyncMutex<()>>>,
}

/// The right to call Pebble; ends on drop.
#[derive(Debug)]
pub(super) struct Pass {
    _alone: Option<OwnedRwLockWriteGuard<()>>,
    _beside_others: Option<OwnedRwLockReadGuard<()>>,
    _families: Vec<OwnedMutexGuard<()>>,
}

impl Gate {
    /// Waits until the request may go to Pebble.
    pub(super) async fn enter(&self, route: &Route) -> Pass {
        // Always families first, in the order of their names, then the store: no circle of our own.
        let mut families = Vec::new();
        for lock in self.locks_of(route.object()) {
            families.push(lock.lock_owned().await);
        }
        let mut pass = Pass { _alone: None, _beside_others: None, _families: families };
        match route {
            Route::NewOrder => pass._alone = Some(self.orders.clone().write_owned().await),
            Route::Authorization { .. } => pass._beside_others = Some(self.orders.clone().read_owned().await),
            Route::Order { .. }
            | Route::Finalize { .. }
            | Route::Challenge { .. }
            | Route::Certificate { .. }
            | Route::Other(_) => {}
        }
        pass
    }

    /// Learns from an answer which objects belong together.
    pub(super) fn learn(&self, route: &Route, location: Option<&str>, answer: &Value) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        match route {
            Route::NewOrder => {
                let Some(order) = location.and_then(path_of) else { return };
                let finalize = answer["finalize"].as_str().and_then(path_of);
                let authorizations = paths_of(&answer["authorizations"]);
                for path in authorizations.into_iter().chain(finalize).chain([order.clone()]) {
                    families.orders_of.entry(path).or_default().insert(order.clone());
                }
            }
            Route::Authorization { path } => {
                let Some(orders) = families.orders_of.get(path).cloned() else { return };
                for challenge in paths_of(&answer["challenges"]) {
                    families.orders_of.insert(challenge, orders.clone());
                }
            }
            Route::Order { .. }
            | Route::Finalize { .. }
            | Route::Challenge { .. }
            | Route::Certificate { .. }
            | Route::Other(_) => {}
        }
    }

    fn locks_of(&self, object: Option<&str>) -> Vec<Arc<AsyncMutex<()>>> {
        let Some(object) = object else { return Vec::new() };
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let orders =
            families.orders_of.get(object).cloned().unwrap_or_else(|| BTreeSet::from([object.to_owned()]));
        orders.into_iter().map(|order| families.locks.entry(order).or_default().clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    /// Long enough for a task that may go on to go on.
    const BLOCKED_MS: u64 = 50;

    async fn is_blocked(gate: &Gate, path: &str) -> bool {
        let route = Route::of(path);
        tokio::time::timeout(Duration::from_millis(BLOCKED_MS), gate.enter(&route)).await.is_err()
    }

    fn learnt() -> Gate {
        let gate = Gate::default();
        let order = json!({
            "finalize": "https://ca/finalize-order/1",
            "authorizations": ["https://ca/authZ/a", "https://ca/authZ/b"],
        });
        gate.learn(&Route::NewOrder, Some("https://ca/my-order/1"), &order);
        let authz = json!({ "challenges": [{ "url": "https://ca/chalZ/x" }] });
        gate.learn(&Route::of("/authZ/a"), None, &authz);
        gate
    }

    #[tokio::test]
    async fn new_orders_exclude_authorization_fetches() {
        let gate = Gate::default();
        let order = gate.enter(&Route::NewOrder).await;
        assert!(is_blocked(&gate, "/authZ/a").await);
        assert!(is_blocked(&gate, "/order-plz").await);
        assert!(!is_blocked(&gate, "/my-order/1").await);
        drop(order);
        let _fetch = gate.enter(&Route::of("/authZ/a")).await;
        assert!(!is_blocked(&gate, "/authZ/b").await);
        assert!(is_blocked(&gate, "/order-plz").await);
    }

    #[tokio::test]
    async fn requests_about_one_order_go_one_after_the_other() {
        let gate = learnt();
        let _order = gate.enter(&Route::of("/my-order/1")).await;
        for same in ["/my-order/1", "/finalize-order/1", "/authZ/a", "/authZ/b", "/chalZ/x"] {
            assert!(is_blocked(&gate, same).await, "{same}");
        }
        for other in ["/my-order/2", "/authZ/c", "/order-plz", "/nonce-plz"] {
            assert!(!is_blocked(&gate, other).await, "{other}");
        }
    }

    #[tokio::test]
    async fn an_authorization_that_is_used_again_ties_both_orders() {
        let gate = learnt();
        let second =
            json!({ "finalize": "https://ca/finalize-order/2", "authorizations": ["https://ca/authZ/a"] });
        gate.learn(&Route::NewOrder, Some("https://ca/my-order/2"), &second);
        let _fetch = gate.enter(&Route::of("/authZ/a")).await;
        assert!(is_blocked(&gate, "/my-order/1").await);
        assert!(is_blocked(&gate, "/my-order/2").await);
    }
}
