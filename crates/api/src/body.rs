// SPDX-License-Identifier: Apache-2.0
//! Bodies, queries and paths, with errors that say what to mend.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use cap_core::page::{BadPage, Order, Page};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::objects;
use crate::overload::Share;
use crate::problem::{ApiError, MALFORMED_REQUEST, UNSUPPORTED_MEDIA_TYPE};
use crate::whole::{Whole, read};

/// A JSON body, and the hash of its bytes.
pub(crate) struct Body<T> {
    pub(crate) value: T,
    pub(crate) sha256: String,
    /// The memory that it takes.
    _held: Share,
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let detail = format!("the Content-Type is {kind:?}; send application/json");
            return Err(ApiError::new(UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let Whole { octets: bytes, held } = read(request, app).await?;
        let value = objects::read(&bytes).map_err(|error| {
            let must = match bytes.trim_ascii_start().first() {
                Some(b'{') => "",
                _ => "the body must be a JSON object; ",
            };
            ApiError::new(
                MALFORMED_REQUEST,
                format!("{must}the body cannot be read: {}", plain(&error.to_string())),
            )
        })?;
        Ok(Self { value, sha256: hex::encode(Sha256::digest(&bytes)), _held: held })
    }
}

/// What the parsers say of numbers and of yes and no, in words for people.
fn plain(error: &str) -> String {
    error
        .replace("expected u16", "expected a whole number from 0 to 65535")
        .replace("expected u32", "expected a whole number from 0 to 4294967295")
        .replace("invalid digit found in string", "it must be a whole number, not below 0")
        .replace("provided string was not `true` or `false`", "it must be true or false")
}

/// A body that says nothing: none at all, or `{}`.
pub(crate) struct NoBody {
    pub(crate) sha256: String,
}

impl FromRequest<Arc<App>> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let Whole { octets: bytes, held: _held } = read(request, app).await?;
        if !matches!(bytes.trim_ascii(), b"" | b"{}") {
            return Err(ApiError::new(MALFORMED_REQUEST, "this takes no settings; send no body, or {}"));
        }
        Ok(Self { sha256: hex::encode(Sha256::digest(b"{}")) })
    }
}

/// What the path names.
pub(crate) struct At<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for At<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(value)| Self(value)).map_err(|_| {
            ApiError::new(
                MALFORMED_REQUEST,
                "the path is not UTF-8 once its percent signs are decoded; mend it",
            )
        })
    }
}

/// A query string.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, app).await;
        query.map(|Query(value)| Self(value)).map_err(|error: QueryRejection| {
            ApiError::new(
                MALFORMED_REQUEST,
                format!("the query string cannot be read: {}", plain(&error.body_text())),
            )
        })
    }
}

/// The query parameters of every list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl ListParams {
    pub(crate) fn page<Id: FromStr>(&self) -> Result<Page, ApiError> {
        page::<Id>(self.limit, self.cursor.as_deref())
    }

    /// The same of a list that begins with the newest, of `items` where nobody says how many.
    pub(crate) fn newest<Id: FromStr>(&self, items: u32) -> Result<Page, ApiError> {
        let limit = self.limit.unwrap_or(items);
        Page::parse_in::<Id>(Order::Desc, Some(limit), self.cursor.as_deref()).map_err(malformed)
    }
}

/// The page of a list whose items are known by ids of this kind.
pub(crate) fn page<Id: FromStr>(limit: Option<u32>, cursor: Option<&str>) -> Result<Page, ApiError> {
    Page::parse::<Id>(limit, cursor).map_err(malformed)
}

fn malformed(bad: BadPage) -> ApiError {
    ApiError::new(MALFORMED_REQUEST, bad.to_string())
}
