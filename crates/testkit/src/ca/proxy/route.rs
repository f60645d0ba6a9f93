// SPDX-License-Identifier: Apache-2.0
//! What a request is about. Pebble's paths differ from every other CA's on purpose; step-ca's are below its provisioner.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

/// A request, by what it touches at the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Looks through every authorization, adds an order.
    NewOrder,
    /// Reads or finalizes the order at this path.
    Order { path: String },
    /// The same, and makes it issue.
    Finalize { path: String },
    /// Reads or deactivates an authorization.
    Authorization { path: String },
    /// Reads or starts a challenge.
    Challenge { path: String },
    /// Fetches a chain.
    Certificate { path: String },
    /// These take no lock that matters.
    Other(Asked),
}

/// What a request is for, as faults name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// The directory.
    Directory,
    /// A nonce.
    NewNonce,
    /// An account: made, read, changed.
    Account,
    /// A new order.
    NewOrder,
    /// How an order is.
    Order,
    /// An order is finalized.
    Finalize,
    /// An authorization is read.
    Authorization,
    /// A challenge is read or submitted.
    Challenge,
    /// A chain is fetched.
    Certificate,
    /// Anything else: revocation, renewal information.
    Other,
}

impl Asked {
    /// What is asked for by requests that are signed.
    pub(super) const SIGNED: &[Self] = &[
        Self::Account,
        Self::NewOrder,
        Self::Order,
        Self::Finalize,
        Self::Authorization,
        Self::Challenge,
        Self::Certificate,
    ];
}

impl Route {
    /// Of a request with this path.
    pub(super) fn of(path: &str) -> Self {
        let words: Vec<&str> = path.split('/').skip(1).collect();
        let owned = path.to_owned();
        match words.as_slice() {
            ["order-plz"] | ["acme", _, "new-order"] => Self::NewOrder,
            ["my-order", ..] | ["acme", _, "order", _] => Self::Order { path: owned },
            ["finalize-order", ..] | ["acme", _, "order", _, "finalize"] => Self::Finalize { path: owned },
            ["authZ", ..] | ["acme", _, "authz", ..] => Self::Authorization { path: owned },
            ["chalZ", ..] | ["acme", _, "challenge", ..] => Self::Challenge { path: owned },
            ["certZ", ..] | ["acme", _, "certificate", ..] => Self::Certificate { path: owned },
            ["dir"] | ["acme", _, "directory"] => Self::Other(Asked::Directory),
            ["nonce-plz"] | ["acme", _, "new-nonce"] => Self::Other(Asked::NewNonce),
            ["sign-me-up" | "rollover-account-key"]
            | ["my-account", ..]
            | ["acme", _, "new-account" | "account", ..] => Self::Other(Asked::Account),
            _ => Self::Other(Asked::Other),
        }
    }

    /// What the request is for.
    pub(super) fn asked(&self) -> Asked {
        match self {
            Self::NewOrder => Asked::NewOrder,
            Self::Order { .. } => Asked::Order,
            Self::Finalize { .. } => Asked::Finalize,
            Self::Authorization { .. } => Asked::Authorization,
            Self::Challenge { .. } => Asked::Challenge,
            Self::Certificate { .. } => Asked::Certificate,
            Self::Other(asked) => *asked,
        }
    }

    /// The path of the thing that it touches.
    pub(super) fn object(&self) -> Option<&str> {
        match self {
            Self::Order { path }
            | Self::Finalize { path }
            | Self::Authorization { path }
            | Self::Challenge { path }
            | Self::Certificate { path } => Some(path),
            Self::NewOrder | Self::Other(_) => None,
        }
    }
}

/// The path of a URL; the CA's URLs all have the same host.
pub(super) fn path_of(url: &str) -> Option<String> {
    Url::parse(url).ok().map(|url| url.path().to_owned())
}

/// The paths of the URLs in a JSON array of strings, or of objects with a `url`.
pub(super) fn paths_of(list: &Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| item.as_str().or_else(|| item["url"].as_str()))
        .filter_map(path_of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pebbles_paths_are_known() {
        assert_eq!(Route::of("/order-plz"), Route::NewOrder);
        assert_eq!(Route::of("/my-order/abc").object(), Some("/my-order/abc"));
        assert_eq!(Route::of("/authZ/x"), Route::Authorization { path: "/authZ/x".into() });
        assert_eq!(Route::of("/certZ/1").asked(), Asked::Certificate);
        assert_eq!(Route::of("/dir").asked(), Asked::Directory);
        for path in ["/revoke-cert", "/", "", "/acme"] {
            assert_eq!(Route::of(path), Route::Other(Asked::Other), "{path}");
        }
    }

    #[test]
    fn step_cas_paths_are_known() {
        assert_eq!(Route::of("/acme/acme/new-order"), Route::NewOrder);
        let order = "/acme/acme/order/abc";
        assert_eq!(Route::of(order), Route::Order { path: order.into() });
        let finalize = "/acme/acme/order/abc/finalize";
        assert_eq!(Route::of(finalize), Route::Finalize { path: finalize.into() });
        assert_eq!(Route::of("/acme/acme/challenge/a/b").asked(), Asked::Challenge);
        assert_eq!(Route::of("/acme/acme/account/a/orders").asked(), Asked::Account);
        assert_eq!(Route::of("/acme/acme/new-nonce").asked(), Asked::NewNonce);
    }
}
