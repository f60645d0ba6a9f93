// SPDX-License-Identifier: Apache-2.0
//! What the CA was asked for and what it issued, by set of names. Duplicates are found here, not in our database.
//!
//! Pebble's 200 to a finalize means that it will issue, whether or not anybody ever fetches the certificate: that is
//! `finalized`. `certificates` are the distinct certificate URLs that an answer showed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::route::{Route, path_of, paths_of};

/// Of one set of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameSetCounts {
    /// Orders that the CA created.
    pub orders: u64,
    /// Finalize requests that it accepted: certificates that it issues.
    pub finalized: u64,
    /// Certificates whose URL it showed to somebody.
    pub certificates: u64,
}

/// Everything counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By set of names: lower case, sorted, joined by commas.
    pub name_sets: BTreeMap<String, NameSetCounts>,
    /// Of all sets.
    pub totals: NameSetCounts,
    /// What the orders of a set were said to replace (RFC 9773, 5), in the order in which the CA accepted them.
    #[serde(default)]
    pub replaced: BTreeMap<String, Vec<String>>,
    /// What orders were said to replace that the CA refused as replaced already, in the order in which it did.
    #[serde(default)]
    pub refused_replacements: Vec<String>,
    /// Faults that were injected, by kind.
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
    /// Orders that were asked for before the time that a `Retry-After` of ours named for the same names.
    #[serde(default)]
    pub too_early: u64,
}

impl Counts {
    /// Of this set of names, in whatever order.
    #[must_use]
    pub fn of(&self, names: &[&str]) -> NameSetCounts {
        let key = key_of(names.iter().copied());
        self.name_sets.get(&key).copied().unwrap_or_default()
    }

    /// What the orders of this set of names were said to replace.
    #[must_use]
    pub fn replaced(&self, names: &[&str]) -> Vec<String> {
        let key = key_of(names.iter().copied());
        self.replaced.get(&key).cloned().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Book {
    counts: Counts,
    /// By the path of an order, or of what belongs to one.
    names_at: HashMap<String, String>,
    seen_certificates: HashSet<String>,
}

/// Counts answers as they pass.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    book: Mutex<Book>,
}

impl Ledger {
    pub(super) fn counts(&self) -> Counts {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// Which names a request is about, where that is known.
    pub(super) fn names_of(&self, route: &Route, request: &[u8]) -> Option<String> {
        match route {
            Route::NewOrder => Some(names_of_request(request)),
            Route::Order { path }
            | Route::Finalize { path }
            | Route::Authorization { path }
            | Route::Challenge { path }
            | Route::Certificate { path } => {
                self.book.lock().unwrap_or_else(PoisonError::into_inner).names_at.get(path).cloned()
            }
            Route::Other(_) => None,
        }
    }

    /// Takes note of one answer of the CA. `request` is the signed request's body.
    pub(super) fn note(
        &self,
        route: &Route,
        request: &[u8],
        status: StatusCode,
        location: Option<&str>,
        answer: &Value,
    ) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        match route {
            Route::NewOrder if status == StatusCode::CREATED => {
                let Some(order) = location.and_then(path_of) else { return };
                let names = names_of_request(request);
                if let Some(replaced) = replaced_by_request(request) {
                    book.counts.replaced.entry(names.clone()).or_default().push(replaced);
                }
                let finalize = answer["finalize"].as_str().and_then(path_of);
                for path in paths_of(&answer["authorizations"]).into_iter().chain(finalize).chain([order]) {
                    book.names_at.insert(path, names.clone());
                }
                book.count(&names, |counts| counts.orders += 1);
            }
            Route::NewOrder if status == StatusCode::CONFLICT => {
                book.counts.refused_replacements.extend(replaced_by_request(request));
            }
            Route::Finalize { path } if status == StatusCode::OK => {
                let names = book.names_of(path);
                book.count(&names, |counts| counts.finalized += 1);
                book.certificate(&names, answer);
            }
            Route::Order { path } if status == StatusCode::OK => {
                let names = book.names_of(path);
                book.certificate(&names, answer);
            }
            Route::Authorization { path } if status == StatusCode::OK => {
                let names = book.names_of(path);
                for challenge in paths_of(&answer["challenges"]) {
                    book.names_at.insert(challenge, names.clone());
                }
            }
            Route::NewOrder
            | Route::Finalize { .. }
            | Route::Order { .. }
            | Route::Authorization { .. }
            | Route::Challenge { .. }
            | Route::Certificate { .. }
            | Route::Other(_) => {}
        }
    }
}

impl Book {
    /// An order that was made before the proxy started has no names here; it is counted under its path.
    fn names_of(&self, path: &str) -> String {
        self.names_at.get(path).cloned().unwrap_or_else(|| path.to_owned())
    }

    fn count(&mut self, names: &str, add: impl Fn(&mut NameSetCounts)) {
        add(self.counts.name_sets.entry(names.to_owned()).or_default());
        add(&mut self.counts.totals);
    }

    fn certificate(&mut self, names: &str, order: &Value) {
        let Some(path) = order["certificate"].as_str().and_then(path_of) else { return };
        if self.seen_certificates.insert(path.clone()) {
            self.count(names, |counts| counts.certificates += 1);
            self.names_at.insert(path, names.to_owned());
        }
    }
}

fn key_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let sorted: BTreeSet<String> = names.map(str::to_lowercase).collect();
    sorted.into_iter().collect::<Vec<_>>().join(",")
}

/// The payload of a signed request.
pub(super) fn payload(jws: &[u8]) -> Option<Value> {
    let jws: Value = serde_json::from_slice(jws).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(jws["payload"].as_str()?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn replaced_by_request(jws: &[u8]) -> Option<String> {
    payload(jws)?["replaces"].as_str().map(str::to_owned)
}

/// The identifiers in the payload of a signed newOrder.
fn names_of_request(jws: &[u8]) -> String {
    let names = || -> Option<Vec<String>> {
        Some(
            payload(jws)?["identifiers"]
                .as_array()?
                .iter()
                .filter_map(|id| id["value"].as_str())
                .map(str::to_owned)
                .collect(),
        )
    };
    // The CA accepted what this cannot read: it must show in the counts rather than vanish.
    names().map_or_else(|| "unreadable".to_owned(), |names| key_of(names.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(names: &[&str]) -> Vec<u8> {
        let identifiers: Vec<Value> =
            names.iter().map(|name| json!({ "type": "dns", "value": name })).collect();
        let payload = URL_SAFE_NO_PAD.encode(json!({ "identifiers": identifiers }).to_string());
        json!({ "protected": "", "payload": payload, "signature": "" }).to_string().into_bytes()
    }

    fn order(ledger: &Ledger, id: u32, names: &[&str]) {
        let answer = json!({ "finalize": format!("https://ca/finalize-order/{id}") });
        let location = format!("https://ca/my-order/{id}");
        ledger.note(&Route::NewOrder, &request(names), StatusCode::CREATED, Some(&location), &answer);
    }

    #[test]
    fn one_set_in_two_spellings_is_one_set() {
        let ledger = Ledger::default();
        order(&ledger, 1, &["b.example.test", "A.example.test"]);
        order(&ledger, 2, &["a.example.test", "B.example.test"]);
        let counts = ledger.counts();
        assert_eq!(counts.of(&["b.example.test", "a.example.test"]).orders, 2);
        assert_eq!(counts.name_sets.len(), 1);
        assert_eq!(counts.totals.orders, 2);
    }

    #[test]
    fn a_certificate_counts_although_nobody_fetched_it_and_once_however_often_it_is_seen() {
        let ledger = Ledger::default();
        order(&ledger, 1, &["a.example.test"]);
        let processing = json!({ "status": "processing" });
        ledger.note(&Route::of("/finalize-order/1"), b"", StatusCode::OK, None, &processing);
        assert_eq!(
            ledger.counts().of(&["a.example.test"]),
            NameSetCounts { orders: 1, finalized: 1, certificates: 0 }
        );
        let valid = json!({ "status": "valid", "certificate": "https://ca/certZ/9" });
        for _ in 0..3 {
            ledger.note(&Route::of("/my-order/1"), b"", StatusCode::OK, None, &valid);
        }
        assert_eq!(ledger.counts().totals, NameSetCounts { orders: 1, finalized: 1, certificates: 1 });
    }

    #[test]
    fn what_an_order_replaces_is_noted_when_it_is_accepted_and_apart_when_it_is_refused() {
        let ledger = Ledger::default();
        let order =
            json!({ "identifiers": [{ "type": "dns", "value": "a.example.test" }], "replaces": "AQ.Ag" });
        let request = json!({ "payload": URL_SAFE_NO_PAD.encode(order.to_string()) }).to_string();
        let (request, location) = (request.as_bytes(), Some("https://ca/my-order/1"));
        ledger.note(&Route::NewOrder, request, StatusCode::CREATED, location, &Value::Null);
        ledger.note(&Route::NewOrder, request, StatusCode::CONFLICT, None, &Value::Null);
        let counts = ledger.counts();
        assert_eq!(counts.replaced(&["a.example.test"]), ["AQ.Ag"]);
        assert_eq!(counts.refused_replacements, ["AQ.Ag"]);
        assert_eq!(counts.totals.orders, 1);
    }

    #[test]
    fn a_refused_finalize_is_no_certificate() {
        let ledger = Ledger::default();
        order(&ledger, 1, &["a.example.test"]);
        ledger.note(&Route::of("/finalize-order/1"), b"", StatusCode::FORBIDDEN, None, &Value::Null);
        assert_eq!(ledger.counts().totals.finalized, 0);
    }
}
