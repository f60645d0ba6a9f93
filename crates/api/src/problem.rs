// SPDX-License-Identifier: Apache-2.0
//! Errors as problem+json (RFC 9457): what the client may read, from one catalogue; what the operator must read is
//! logged beside it.

use std::fmt::Write;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cap_client::wire::ProblemDetails;
use cap_core::actor::Role;
use cap_core::audit::CannotAudit;
use cap_core::envelope::KeyringError;
use cap_core::id::RequestId;
use cap_store::StoreError;

/// One kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The end of its type URI, stable.
    pub slug: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The problem in a few words.
    pub title: &'static str,
    /// When it is answered, and what to do.
    pub meaning: &'static str,
}

macro_rules! catalogue {
    ($($name:ident = $slug:literal, $status:ident, $title:literal, $meaning:literal;)*) => {
        $(pub(crate) const $name: &Kind = &Kind { slug: $slug, status: StatusCode::$status, title: $title, meaning: $meaning };)*

        /// Every problem that this API answers with.
        pub const CATALOGUE: &[&Kind] = &[$($name),*];
    };
}

catalogue! {
    MALFORMED_REQUEST = "malformed-request", BAD_REQUEST, "The request cannot be read",
        "The body is not JSON, has an unknown or missing field, or a query parameter cannot be read. Mend it and send it again.";
    UNAUTHENTICATED = "unauthenticated", UNAUTHORIZED, "Who are you?",
        "The bearer token is missing, malformed, unknown, revoked or expired. Send a valid one.";
    FORBIDDEN = "forbidden", FORBIDDEN, "Your role does not allow this",
        "The token is good, but its role is too low. Ask somebody with the role that the detail names.";
    NOT_FOUND = "not-found", NOT_FOUND, "There is no such thing",
        "The path or the id names nothing that this token may see. Check it with a list.";
    METHOD_NOT_ALLOWED = "method-not-allowed", METHOD_NOT_ALLOWED, "This cannot be done here",
        "The path exists, but not with this method.";
    CONFLICT = "conflict", CONFLICT, "Something stands against it",
        "A name is taken, or the thing is in use or moved on meanwhile. The detail says what; look at it again.";
    ALREADY_ANSWERED = "already-answered", CONFLICT, "The answer was given once",
        "The same request made a token before, and a token is shown once only: revoke that token and make another. Or it made something that has been deleted since, or queued a job that is over and no longer kept: send it with another Idempotency-Key to have it done again.";
    PRECONDITION_FAILED = "precondition-failed", PRECONDITION_FAILED, "It is not what you looked at",
        "If-Match names another state of it than the present one. Read it again, and decide anew with its new ETag.";
    BODY_TOO_LARGE = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large",
        "A body may have 1 MiB, and 10,000 commas.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body is not JSON",
        "Send the header Content-Type: application/json.";
    BODY_TOO_SLOW = "body-too-slow", REQUEST_TIMEOUT, "The body took too long",
        "A body must be there within the time of CAP_API_BODY_TIMEOUT after its head. Nothing was done; send it again over a better connection.";
    RATE_LIMITED = "rate-limited", TOO_MANY_REQUESTS, "Too many requests",
        "The token, or the address of callers that are not known yet, asks more often than it may. Nothing was done; repeat it after the time in Retry-After, and send fewer.";
    TOO_MANY_FAILURES = "too-many-failures", TOO_MANY_REQUESTS, "Too many bad tokens from there",
        "Too many tokens from this address were refused, so only those that were good lately are looked at. Nothing was done; repeat it with a valid token after the time in Retry-After.";
    TOO_MANY_AT_ONCE = "too-many-at-once", TOO_MANY_REQUESTS, "Too many requests at once",
        "One caller may have a quarter of the places, and of the memory for bodies and answers. Nothing was done; repeat it after the time in Retry-After, with fewer beside it.";
    TOO_MUCH_WAITING = "too-much-waiting", TOO_MANY_REQUESTS, "Too many certificates wait",
        "As many certificates of the project as may wait for their first attempt. Nothing was done; repeat it after the time in Retry-After, or see in the queue why they wait.";
    INVALID = "invalid", UNPROCESSABLE_ENTITY, "A value cannot be used",
        "The body can be read, but a value in it makes no sense. The detail says which, why, and what to write instead.";
    IDEMPOTENCY_MISMATCH = "idempotency-mismatch", UNPROCESSABLE_ENTITY, "The idempotency key belongs to another request",
        "The same Idempotency-Key was sent with another body before. Use a new key for a new request.";
    TIMED_OUT = "timed-out", SERVICE_UNAVAILABLE, "The request took too long",
        "It was given up after 30 s; whether it was carried out is unknown. Repeat it with the same Idempotency-Key.";
    OVERLOADED = "overloaded", SERVICE_UNAVAILABLE, "Too much is going on",
        "This replica has as many requests, or as much of them in memory, as it can hold. Nothing was done; repeat it after the time in Retry-After.";
    UNAVAILABLE = "unavailable", SERVICE_UNAVAILABLE, "The database or the KEK cannot be reached",
        "Nothing is guessed without them. Whether a change was made is unknown; repeat it with the same Idempotency-Key.";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "We have a bug",
        "Report it with the request id; the cause is in the log of the replica that answered.";
}

/// How long a client should wait before it repeats a request that was refused for now, where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// An error on its way out: what the client may read, and what only the operator does.
#[derive(Debug)]
pub(crate) struct ApiError {
    kind: &'static Kind,
    detail: String,
    cause: Option<String>,
    retry_after: Option<Duration>,
}

fn word(role: Role) -> String {
    serde_json::to_value(role).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

impl ApiError {
    pub(crate) fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), cause: None, retry_after: None }
    }

    /// A value that cannot be used; the error says why and what to write instead.
    pub(crate) fn invalid(error: impl std::fmt::Display) -> Self {
        Self::new(INVALID, error.to_string())
    }

    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        let name: String = name.chars().take(100).collect();
        Self::new(NOT_FOUND, format!("there is no {what} {name:?} that this token may see"))
    }

    pub(crate) fn forbidden(needed: Role) -> Self {
        let role = word(needed);
        Self::new(FORBIDDEN, format!("this needs the role {role}; ask an owner for a token that has it"))
    }

    pub(crate) fn forbidden_to_projects(needed: Role) -> Self {
        let role = word(needed);
        let detail = format!(
            "this needs the role {role} in the whole organisation, and the token is of one project; ask an owner for one"
        );
        Self::new(FORBIDDEN, detail)
    }

    /// A bug of ours: the client learns nothing but the request id.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        let detail = "something went wrong on our side; report it with the request id".to_owned();
        Self::new(INTERNAL, detail).because(cause)
    }

    pub(crate) fn unavailable(cause: impl std::fmt::Display) -> Self {
        let detail = "the database or the KEK cannot be reached now, and nothing is guessed; \
                      repeat the request with the same Idempotency-Key";
        Self::new(UNAVAILABLE, detail).because(cause)
    }

    /// What the operator must read besides, and the client must not: it is logged with the request's id.
    pub(crate) fn because(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// When it is worth another try.
    pub(crate) fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Whether it is of this kind.
    pub(crate) fn is(&self, kind: &'static Kind) -> bool {
        self.kind == kind
    }

    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::unavailable(error),
            // What stood against it may be in the driver's words; who knows better says so where it calls.
            StoreError::Conflict { .. } => Self::new(
                CONFLICT,
                "something stands against it: a name that is taken, or a change in the same moment; \
                 look at what is there now and decide anew",
            )
            .because(error),
            StoreError::Replayed(_) => Self::new(
                CONFLICT,
                "the same request is being carried out in this moment; repeat it to get its answer",
            ),
            StoreError::Fenced | StoreError::Corrupt { .. } | StoreError::Refused { .. } => {
                Self::internal(error)
            }
        }
    }
}

impl From<KeyringError> for ApiError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Kek(_) | KeyringError::Store(_) => Self::unavailable(error),
            KeyringError::Missing { .. } | KeyringError::CannotOpen(_) => Self::internal(error),
        }
    }
}

impl From<CannotAudit> for ApiError {
    fn from(error: CannotAudit) -> Self {
        match error {
            CannotAudit::Key(error) => error.into(),
            CannotAudit::TooLarge(_) => Self::internal(error),
        }
    }
}

/// The error of one response, for the log that is written where the request is known.
#[derive(Clone)]
pub(crate) struct Logged {
    pub(crate) cause: Option<String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let cause = self.cause().map(str::to_owned);
        let status = self.kind.status;
        let details = ProblemDetails {
            kind: format!("urn:certautopilot:problem:{}", self.kind.slug),
            title: self.kind.title.to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            request_id: crate::middleware::request_id(),
        };
        let mut response = (status, Json(details)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let wait = self.retry_after.or((status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER));
        if let Some(wait) = wait {
            // Whole seconds, and never a moment too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Logged { cause });
        response
    }
}

/// docs/reference/problems.md.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "# Problems\n\nErrors are RFC 9457 problem+json; `type` is `urn:certautopilot:problem:` and the name below.\n\n| name | status | title | meaning and what to do |\n|---|---|---|---|\n",
    );
    for kind in CATALOGUE {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            kind.slug,
            kind.status.as_u16(),
            kind.title,
            kind.meaning
        );
    }
    text
}

/// A request's id, as clients see it.
pub(crate) type Id = RequestId;

#[cfg(test)]
mod tests {
    use cap_core::envelope::{CannotOpen, KekError, KeyStoreError};

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_problem_has_its_own_name_and_says_what_to_do() {
        let slugs: BTreeSet<_> = CATALOGUE.iter().map(|kind| kind.slug).collect();
        assert_eq!(slugs.len(), CATALOGUE.len());
        assert!(CATALOGUE.iter().all(|kind| !kind.meaning.is_empty() && kind.status.as_u16() >= 400));
    }

    #[test]
    fn what_the_operator_must_read_does_not_reach_the_client() {
        let error =
            ApiError::from(StoreError::Unavailable { doing: "read", cause: "mongodb://user:pw@host".into() });
        assert!(!error.detail.contains("user:pw"));
        assert!(error.cause().is_some_and(|cause| cause.contains("user:pw")));
    }

    #[test]
    fn no_error_from_below_is_told_in_the_words_of_a_driver_or_a_provider() {
        const WORDS: &str =
            "E11000 duplicate key error collection: certautopilot.tokens at db-0.internal:27017";
        let (doing, collection, words) = ("write", "tokens", || WORDS.to_owned());
        let keyring = || -> [KeyringError; 4] {
            [
                KekError::Unavailable(words()).into(),
                KeyStoreError(words()).into(),
                KeyringError::Missing { key: words(), version: 1 },
                CannotOpen.into(),
            ]
        };
        let store = [
            (StoreError::Unavailable { doing, cause: words() }, 503),
            (StoreError::Conflict { doing, what: words() }, 409),
            (StoreError::Fenced, 500),
            (StoreError::Corrupt { collection, cause: words() }, 500),
            (StoreError::Refused { doing, cause: words() }, 500),
        ];
        let mut errors: Vec<(ApiError, u16)> =
            store.into_iter().map(|(error, status)| (error.into(), status)).collect();
        errors.extend(keyring().map(ApiError::from).into_iter().zip([503, 503, 500, 500]));
        let audit = keyring().map(|error| ApiError::from(CannotAudit::Key(error)));
        errors.extend(audit.into_iter().zip([503, 503, 500, 500]));
        for (error, status) in errors {
            assert_eq!(error.kind.status.as_u16(), status, "{error:?}");
            assert!(error.cause().is_some(), "nobody learns why: {error:?}");
            for word in WORDS.split(' ').filter(|word| word.len() > 5) {
                assert!(!error.detail.contains(word), "{word}: {}", error.detail);
            }
        }
    }
}
