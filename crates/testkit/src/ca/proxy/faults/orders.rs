// SPDX-License-Identifier: Apache-2.0
//! What the proxy knows of the CA's orders, and what it says of them instead of the truth.

use std::collections::{BTreeSet, HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use crate::ca::proxy::ledger::payload;
use crate::ca::proxy::route::{Route, path_of};

/// Whose order it is, and for what: account, profile, names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    account: String,
    profile: Option<String>,
    names: BTreeSet<String>,
}

/// An order, as it was seen last.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) url: String,
    pub(super) body: Value,
}

/// The book of orders.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// By the path of the order.
    known: HashMap<String, Known>,
    /// By the path at which an order is finalized.
    order_at: HashMap<String, String>,
    /// Orders that were finalized at the CA.
    finalized: HashSet<String>,
    /// The order that is open for what is wanted.
    open: HashMap<Wanted, String>,
    /// Orders that the CA has issued for and that say `processing`, with the looks that are left.
    held: HashMap<String, u32>,
    /// Orders that were finalized here, and not at the CA.
    failed: HashSet<String>,
}

impl Orders {
    /// Learns from a true answer.
    pub(super) fn learn(
        &mut self,
        route: &Route,
        request: &[u8],
        status: StatusCode,
        location: Option<&str>,
        answer: &Value,
    ) {
        match route {
            Route::NewOrder if status == StatusCode::CREATED => {
                let Some((url, path)) = location.and_then(|url| Some((url, path_of(url)?))) else { return };
                if let Some(finalize) = answer["finalize"].as_str().and_then(path_of) {
                    self.order_at.insert(finalize, path.clone());
                }
                if let Some(wanted) = wanted(request) {
                    self.open.insert(wanted, path.clone());
                }
                self.known.insert(path, Known { url: url.to_owned(), body: answer.clone() });
            }
            Route::Order { path } if status == StatusCode::OK => self.see(path, answer),
            Route::Finalize { path } if status == StatusCode::OK => {
                if let Some(order) = self.order_at.get(path).cloned() {
                    self.see(&order, answer);
                    self.finalized.insert(order);
                }
            }
            Route::NewOrder
            | Route::Order { .. }
            | Route::Finalize { .. }
            | Route::Authorization { .. }
            | Route::Challenge { .. }
            | Route::Certificate { .. }
            | Route::Other(_) => {}
        }
    }

    fn see(&mut self, order: &str, answer: &Value) {
        if let Some(known) = self.known.get_mut(order) {
            known.body = answer.clone();
        }
        if !matches!(answer["status"].as_str(), Some("pending" | "ready")) {
            self.close(order);
        }
    }

    fn close(&mut self, order: &str) {
        self.open.retain(|_, open| open != order);
    }

    /// Whether a look is at an order that was finalized at the CA.
    pub(super) fn was_finalized(&self, route: &Route) -> bool {
        matches!(route, Route::Order { path } if self.finalized.contains(path))
    }

    /// The order that a finalize is about.
    pub(super) fn of_finalize(&self, route: &Route) -> Option<&str> {
        match route {
            Route::Finalize { path } => self.order_at.get(path).map(String::as_str),
            Route::NewOrder
            | Route::Order { .. }
            | Route::Authorization { .. }
            | Route::Challenge { .. }
            | Route::Certificate { .. }
            | Route::Other(_) => None,
        }
    }

    /// The order that is open for what a newOrder wants, if there is one. One that says what it replaces is new.
    pub(super) fn open_for(&self, request: &[u8]) -> Option<&Known> {
        self.open.get(&wanted(request)?).and_then(|path| self.known.get(path))
    }

    /// Has the order say `processing` for so many looks.
    pub(super) fn hold(&mut self, order: &str, looks: u32) {
        self.held.insert(order.to_owned(), looks);
    }

    /// Has the order be `processing` now and `invalid` from the next look on; answers what it says now.
    pub(super) fn fail(&mut self, order: &str) -> Option<Known> {
        let mut known = self.known.get(order)?.clone();
        known.body["status"] = "processing".into();
        self.failed.insert(order.to_owned());
        self.close(order);
        Some(known)
    }

    /// Whether the order of this finalize, or at this path, failed late.
    pub(super) fn has_failed(&self, order: &str) -> bool {
        self.failed.contains(order)
    }

    /// Lets orders say the truth again. What failed stays so: no CA takes that back.
    pub(super) fn release(&mut self) {
        self.held.clear();
    }

    /// Puts into an answer what this order says instead of the truth; whether anything was changed.
    pub(super) fn distort(&mut self, route: &Route, answer: &mut Value) -> bool {
        let (order, is_look) = match route {
            Route::Order { path } => (path.clone(), true),
            Route::Finalize { path } => match self.order_at.get(path) {
                Some(order) => (order.clone(), false),
                None => return false,
            },
            Route::NewOrder
            | Route::Authorization { .. }
            | Route::Challenge { .. }
            | Route::Certificate { .. }
            | Route::Other(_) => return false,
        };
        if self.has_failed(&order) {
            answer["status"] = "invalid".into();
            answer["error"] = json!({
                "type": "urn:ietf:params:acme:error:serverInternal",
                "detail": "CA proxy: the order failed after it was finalized",
                "status": 500,
            });
            return true;
        }
        let Some(left) = self.held.get_mut(&order) else { return false };
        if *left == 0 || !matches!(answer["status"].as_str(), Some("processing" | "valid")) {
            return false;
        }
        // The answer to the finalize itself is no look.
        *left -= u32::from(is_look);
        answer["status"] = "processing".into();
        if let Some(fields) = answer.as_object_mut() {
            fields.remove("certificate");
        }
        true
    }
}

/// What a signed newOrder wants; nothing for one that must be a new one.
fn wanted(request: &[u8]) -> Option<Wanted> {
    let order = payload(request)?;
    if order["replaces"].is_string() {
        return None;
    }
    let names = order["identifiers"].as_array()?.iter();
    Some(Wanted {
        account: protected(request)?["kid"].as_str()?.to_owned(),
        profile: order["profile"].as_str().map(str::to_owned),
        names: names.filter_map(|name| name["value"].as_str()).map(str::to_lowercase).collect(),
    })
}

/// The protected header of a signed request.
pub(super) fn protected(jws: &[u8]) -> Option<Value> {
    let jws: Value = serde_json::from_slice(jws).ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jws["protected"].as_str()?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(account: &str, order: &Value) -> Vec<u8> {
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        json!({ "protected": encoded(&json!({ "kid": account })), "payload": encoded(order), "signature": "" })
            .to_string()
            .into_bytes()
    }

    fn names(names: &[&str]) -> Value {
        let names: Vec<Value> = names.iter().map(|name| json!({ "type": "dns", "value": name })).collect();
        json!({ "identifiers": names })
    }

    fn with_an_order(request: &[u8]) -> Orders {
        let mut orders = Orders::default();
        let body = json!({ "status": "pending", "finalize": "https://ca/finalize-order/1" });
        orders.learn(&Route::NewOrder, request, StatusCode::CREATED, Some("https://ca/my-order/1"), &body);
        orders
    }

    #[test]
    fn an_open_order_is_found_by_account_and_names_until_it_is_finalized() {
        let request = signed("a", &names(&["x.test", "Y.test"]));
        let mut orders = with_an_order(&request);
        let same = signed("a", &names(&["y.test", "x.test"]));
        assert_eq!(orders.open_for(&same).unwrap().url, "https://ca/my-order/1");
        assert!(orders.open_for(&signed("b", &names(&["y.test", "x.test"]))).is_none());
        assert!(orders.open_for(&signed("a", &names(&["x.test"]))).is_none());
        let mut renewal = names(&["x.test", "y.test"]);
        renewal["replaces"] = "AQ.Ag".into();
        assert!(orders.open_for(&signed("a", &renewal)).is_none());
        let processing = json!({ "status": "processing" });
        orders.learn(&Route::of("/finalize-order/1"), b"", StatusCode::OK, None, &processing);
        assert!(orders.open_for(&same).is_none());
    }

    #[test]
    fn an_order_that_is_held_says_processing_for_so_many_looks() {
        let mut orders = with_an_order(&signed("a", &names(&["x.test"])));
        orders.hold("/my-order/1", 2);
        let mut said = |path: &str| {
            let mut answer = json!({ "status": "valid", "certificate": "https://ca/certZ/1" });
            orders.distort(&Route::of(path), &mut answer);
            (answer["status"] == "valid", answer["certificate"].is_string())
        };
        assert_eq!(said("/finalize-order/1"), (false, false));
        assert_eq!(
            [said("/my-order/1"), said("/my-order/1"), said("/my-order/1")],
            [(false, false), (false, false), (true, true)]
        );
        assert_eq!(said("/my-order/2"), (true, true));
    }

    #[test]
    fn an_order_that_failed_is_invalid_for_ever() {
        let mut orders = with_an_order(&signed("a", &names(&["x.test"])));
        assert_eq!(orders.fail("/my-order/1").unwrap().body["status"], "processing");
        orders.release();
        for _ in 0..2 {
            let mut answer = json!({ "status": "ready" });
            assert!(orders.distort(&Route::of("/my-order/1"), &mut answer));
            assert_eq!(answer["status"], "invalid");
        }
        assert!(orders.fail("/my-order/2").is_none(), "nothing is known of that one");
    }
}
