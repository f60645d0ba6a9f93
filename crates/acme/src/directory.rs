// SPDX-License-Identifier: Apache-2.0
//! What of a CA's directory (RFC 8555, 7.1.1) we need ourselves: `instant-acme` keeps its own reading of it to itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cap_core::limits;
use cap_core::order::CaError;
use http::Request;
use instant_acme::{BodyWrapper, Error, HttpClient};
use serde::Deserialize;

use crate::call::Action;
use crate::http::{Handle, Http};

/// Where a CA's resources are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Directory {
    pub(crate) new_nonce: String,
    pub(crate) new_account: String,
    pub(crate) key_change: Option<String>,
    pub(crate) revoke_cert: Option<String>,
    /// Where renewal information is (RFC 9773, 3); nothing at a CA that offers none.
    #[serde(default)]
    renewal_info: Option<String>,
    #[serde(default)]
    meta: Option<Meta>,
}

/// What a CA says of itself (RFC 8555, 9.7.6).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Meta {
    /// What it offers by name, and what that is.
    profiles: Option<BTreeMap<String, serde_json::Value>>,
}

impl Directory {
    /// Reads a directory; an answer that is none is an error of the CA's.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Error> {
        Ok(serde_json::from_slice(body)?)
    }

    /// Asks the CA for it.
    pub(crate) async fn fetch(http: &Arc<Http>) -> Result<Self, CaError> {
        let get = async {
            let request = Request::get(http.directory()).body(BodyWrapper::<Bytes>::default())?;
            let mut answer = Handle(http.clone()).request(request).await?;
            Self::read(&answer.body.into_bytes().await.map_err(Error::Other)?)
        };
        Ok(http.call(Action::Directory, get).await?.0)
    }

    /// The names of the profiles that it offers, sorted.
    pub(crate) fn profiles(&self) -> impl Iterator<Item = &str> {
        let profiles = self.meta.as_ref().and_then(|meta| meta.profiles.as_ref());
        profiles.into_iter().flat_map(|profiles| profiles.keys().map(String::as_str))
    }

    /// Where renewal information is asked for.
    pub(crate) fn renewal_info(&self) -> Option<&str> {
        self.renewal_info.as_deref().filter(|url| url.len() <= limits::URL_OCTETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(more: &str) -> String {
        format!(r#"{{"newNonce":"https://ca.test/n","newAccount":"https://ca.test/a","newOrder":"x"{more}}}"#)
    }

    #[test]
    fn a_directory_says_where_renewal_information_is_or_that_there_is_none() {
        let at =
            |more: &str| Directory::read(with(more).as_bytes()).unwrap().renewal_info().map(str::to_owned);
        assert_eq!(at(r#","renewalInfo":"https://ca.test/ari""#).as_deref(), Some("https://ca.test/ari"));
        assert_eq!(at(""), None);
        assert_eq!(at(r#","renewalInfo":null"#), None);
        assert_eq!(
            at(&format!(r#","renewalInfo":"https://ca.test/{}""#, "x".repeat(limits::URL_OCTETS))),
            None
        );
    }

    #[test]
    fn a_directory_needs_what_every_request_needs_and_may_lack_the_rest() {
        assert_eq!(Directory::read(with("").as_bytes()).unwrap().key_change, None);
        for wrong in ["", "<html>", "null", r#"{"newNonce":"https://ca.test/n"}"#] {
            assert!(Directory::read(wrong.as_bytes()).is_err(), "{wrong:?} was read");
        }
    }
}
