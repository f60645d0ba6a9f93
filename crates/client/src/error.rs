// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between a client and the API: what, why, and what to do.

use cap_core::id::RequestId;
use reqwest::StatusCode;

use crate::wire::ProblemDetails;

/// Why a call did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The client was set up with something that it cannot use. Nothing was sent.
    #[error("{what}: {why}; {remedy}")]
    Settings {
        /// What cannot be used.
        what: String,
        /// Why not.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Something was to be named by what can be neither an id nor a name. Nothing was sent.
    #[error("{text:?} names nothing: {NO_NAME_WHY}; {NO_NAME_REMEDY}")]
    NoName {
        /// What was given.
        text: String,
    },
    /// The API answered, and refused.
    #[error("{}: {}", .0.title, .0.detail)]
    Api(Box<ProblemDetails>),
    /// No connection, or it broke before the answer was there. Whether a mutation happened is unknown.
    #[error("{url} cannot be reached: {cause}; {UNREACHABLE_REMEDY}")]
    Unreachable {
        /// Where.
        url: String,
        /// What the network said.
        cause: String,
    },
    /// What answered does not speak this API.
    #[error("{url} gave an answer that cannot be used: {cause}; {PROTOCOL_REMEDY}")]
    Protocol {
        /// Where.
        url: String,
        /// The answer's status, where there was one.
        status: Option<u16>,
        /// What is wrong with the answer.
        cause: String,
        /// The request's id, where the answer had one.
        request_id: Option<RequestId>,
    },
}

const NO_NAME_WHY: &str = "it is neither an id nor a name";
const NO_NAME_REMEDY: &str = "give an id or a name";
const UNREACHABLE_REMEDY: &str = "check the URL, that the API is up, and that its certificate is trusted";
const PROTOCOL_REMEDY: &str =
    "check that the URL is the API's own and that client and API are of the same release";

impl ClientError {
    /// What went wrong, in a few words.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Settings { what, .. } => what.clone(),
            Self::NoName { text } => format!("{text:?} names nothing"),
            Self::Api(problem) => problem.title.clone(),
            Self::Unreachable { url, .. } => format!("{url} cannot be reached"),
            Self::Protocol { url, .. } => format!("{url} gave an answer that cannot be used"),
        }
    }

    /// Why.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Settings { why, .. } => why,
            Self::NoName { .. } => NO_NAME_WHY,
            Self::Api(problem) => &problem.detail,
            Self::Unreachable { cause, .. } | Self::Protocol { cause, .. } => cause,
        }
    }

    /// What to do about it, beside what the API's own words say.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Settings { remedy, .. } => remedy,
            Self::NoName { .. } => NO_NAME_REMEDY,
            Self::Unreachable { .. } => UNREACHABLE_REMEDY,
            Self::Protocol { .. } => PROTOCOL_REMEDY,
            Self::Api(problem) => match problem.status {
                400 | 422 => "mend the request",
                401 => "use a token that is neither expired nor revoked",
                403 => "use a token whose role allows this, or ask an owner",
                404 => "list what there is; what another project has is not shown",
                409 | 412 => "look at what is there now, then decide again",
                429 => "wait a little, then try again",
                503 => "try again; if it stays, look at the readiness of the API",
                _ => "give the request id to whoever runs the API",
            },
        }
    }

    /// The request's id, as in the API's log.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        match self {
            Self::Api(problem) => problem.request_id,
            Self::Protocol { request_id, .. } => *request_id,
            Self::Settings { .. } | Self::NoName { .. } | Self::Unreachable { .. } => None,
        }
    }

    /// The status of the answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Api(problem) => StatusCode::from_u16(problem.status).ok(),
            Self::Protocol { status, .. } => status.and_then(|status| StatusCode::from_u16(status).ok()),
            Self::Settings { .. } | Self::NoName { .. } | Self::Unreachable { .. } => None,
        }
    }

    /// Whether the same call may well succeed a little later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Api(_) | Self::Protocol { .. } => {
                self.status().is_some_and(|status| matches!(status.as_u16(), 429 | 502 | 503 | 504))
            }
            Self::Settings { .. } | Self::NoName { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_the_words_and_the_id_of_the_api() {
        let request_id = format!("req_{}", "0".repeat(32)).parse().ok();
        let problem = ProblemDetails {
            kind: "about:blank".into(),
            title: "Not found".into(),
            status: 404,
            detail: "there is no issuer \"x\"".into(),
            request_id,
        };
        let error = ClientError::Api(Box::new(problem));
        assert_eq!((error.what().as_str(), error.why()), ("Not found", "there is no issuer \"x\""));
        assert_eq!(error.request_id(), request_id);
        assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
        assert!(!error.is_passing());
    }

    #[test]
    fn a_lost_connection_is_worth_another_try_and_a_bad_setting_is_not() {
        let lost = ClientError::Unreachable { url: "https://a.test".into(), cause: "reset".into() };
        assert!(lost.is_passing());
        let wrong =
            ClientError::Settings { what: "the URL".into(), why: "is none".into(), remedy: "mend it" };
        assert!(!wrong.is_passing());
    }
}
