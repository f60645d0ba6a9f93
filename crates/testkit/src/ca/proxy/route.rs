// SPDX-License-Identifier: Apache-2.0
//! What a request is about. The paths are Pebble's, which differ from every other CA's on purpose.

use serde_json::Value;
use url::Url;

/// A request, by what it touches in Pebble.
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
    /// Directory, nonces, accounts, certificates: these take no lock that matters.
    Other,
}

impl Route {
    /// Of a request with this path.
    pub(super) fn of(path: &str) -> Self {
        let owned = path.to_owned();
        match path.split('/').nth(1) {
            Some("order-plz") => Self::NewOrder,
            Some("my-order") => Self::Order { path: owned },
            Some("finalize-order") => Self::Finalize { path: owned },
            Some("authZ") => Self::Authorization { path: owned },
            Some("chalZ") => Self::Challenge { path: owned },
            _ => Self::Other,
        }
    }

    /// The path of the thing that it touches.
    pub(super) fn object(&self) -> Option<&str> {
        match self {
            Self::Order { path }
            | Self::Finalize { path }
            | Self::Authorization { path }
            | Self::Challenge { path } => Some(path),
            Self::NewOrder | Self::Other => None,
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
        for path in ["/dir", "/nonce-plz", "/certZ/1", "/", ""] {
            assert_eq!(Route::of(path), Route::Other);
        }
    }
}
