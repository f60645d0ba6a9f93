// SPDX-License-Identifier: Apache-2.0
//! Statuses of orders that the RFC does not have.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::call::Action;

/// What RFC 8555, 7.1.6, has authorizations say alone, and some CAs say of the order as well (Pebble the first of them).
const OVER: [&str; 3] = ["deactivated", "expired", "revoked"];

/// The body of an answer, in which such an order is `invalid`: `instant-acme` reads only what the RFC has.
pub(crate) fn known(action: Action, body: Bytes) -> Bytes {
    if !matches!(action, Action::NewOrder | Action::Order | Action::Finalize) {
        return body;
    }
    let Ok(mut order) = serde_json::from_slice::<Map<String, Value>>(&body) else { return body };
    let is_over = order.get("status").and_then(Value::as_str).is_some_and(|status| OVER.contains(&status));
    if !is_over {
        return body;
    }
    order.insert("status".to_owned(), "invalid".into());
    Value::Object(order).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_is_over_by_another_word_is_invalid() {
        let status = |action, status: &str| {
            let body = serde_json::json!({ "status": status, "finalize": "https://ca.example.test/f" });
            let read: Value = serde_json::from_slice(&known(action, body.to_string().into())).unwrap();
            assert_eq!(read["finalize"], "https://ca.example.test/f");
            read["status"].as_str().unwrap().to_owned()
        };
        for over in OVER {
            assert_eq!(status(Action::Order, over), "invalid");
            assert_eq!(status(Action::Authorization, over), over);
        }
        assert_eq!(status(Action::Order, "processing"), "processing");
        assert_eq!(known(Action::Order, "{".into()), "{");
    }
}
