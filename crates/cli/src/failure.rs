// SPDX-License-Identifier: Apache-2.0
//! Why a command failed: what, why, what to do, which request, and the exit code.

use std::fmt;
use std::io;

use cap_client::ClientError;
use cap_core::id::RequestId;
use cap_runtime::config::Faults;

use crate::exit::Exit;

/// A TLS port that is spoken to in plain HTTP, and the reverse, answers what only a TLS library understands.
const UNREACHABLE_HINT: &str = "check the URL (https:// if the API has TLS, http:// if not), that the API is up, and that \
                                its certificate is trusted (CAP_CA_FILE names the CA if it is a private one)";

/// A failure on its way to the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    why: String,
    hint: Option<String>,
    request: Option<RequestId>,
}

impl Failure {
    /// Something failed.
    pub(crate) fn new(exit: Exit, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: why.into(), hint: None, request: None }
    }

    /// The command makes no sense.
    pub(crate) fn usage(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, why)
    }

    /// Adds what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure under another code.
    #[must_use]
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// What could not be written to stdout or stderr.
    pub(crate) fn output(error: &io::Error) -> Self {
        Self::new(Exit::Error, "the output cannot be written", error.to_string())
    }

    /// The code that the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

/// The lines behind `error: `.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        if let Some(request) = self.request {
            write!(f, "\n  request: {request}")?;
        }
        Ok(())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match (&error, error.status().map(|status| status.as_u16())) {
            (ClientError::Settings { .. }, _) => Exit::Config,
            (ClientError::NoName { .. }, _) | (ClientError::Api(_), Some(400 | 422)) => Exit::Usage,
            (ClientError::Api(_), Some(401 | 403)) => Exit::NotAllowed,
            (ClientError::Api(_), Some(404)) => Exit::NotFound,
            (ClientError::Api(_), Some(409 | 412)) => Exit::Conflict,
            (ClientError::Api(_) | ClientError::Unreachable { .. } | ClientError::Protocol { .. }, _) => {
                Exit::Error
            }
        };
        // The client's own words, where none of our variables mends it.
        let hint = match (&error, error.status().map(|status| status.as_u16())) {
            (ClientError::Unreachable { .. }, _) => UNREACHABLE_HINT,
            (_, Some(401)) => {
                "set CAP_TOKEN_FILE or CAP_TOKEN to a token that is neither expired nor revoked"
            }
            (_, Some(_) | None) => error.remedy(),
        };
        let request = error.request_id();
        Self { request, ..Self::new(exit, error.what(), error.why()).hint(hint) }
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::new(Exit::Config, "the command cannot start", faults.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_client::wire::ProblemDetails;

    fn refused(status: u16) -> Failure {
        let problem = ProblemDetails {
            kind: "about:blank".into(),
            title: "No".into(),
            status,
            detail: "because".into(),
            request_id: format!("req_{}", "0".repeat(32)).parse().ok(),
        };
        ClientError::Api(Box::new(problem)).into()
    }

    #[test]
    fn statuses_become_exit_codes() {
        for (status, code) in [
            (400, 2),
            (401, 5),
            (403, 5),
            (404, 4),
            (409, 6),
            (412, 6),
            (413, 1),
            (422, 2),
            (429, 1),
            (500, 1),
            (503, 1),
        ] {
            assert_eq!(refused(status).exit().code(), code, "{status}");
        }
    }

    #[test]
    fn what_is_no_refusal_is_no_verdict_either() {
        let gateway = ClientError::Protocol {
            url: "http://a.test".into(),
            status: Some(404),
            cause: "no problem document".into(),
            request_id: None,
        };
        assert_eq!(Failure::from(gateway).exit(), Exit::Error);
    }

    #[test]
    fn what_is_no_name_is_a_fault_of_the_command_and_not_of_the_configuration() {
        let failure = Failure::from(ClientError::NoName { text: String::new() });
        assert_eq!(failure.exit(), Exit::Usage);
        let text = "\"\" names nothing: it is neither an id nor a name\n  hint: give an id or a name";
        assert_eq!(failure.to_string(), text);
    }

    #[test]
    fn a_failure_says_what_why_what_to_do_and_which_request() {
        let text = refused(404).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "No: because");
        assert!(lines[1].starts_with("  hint: list"));
        assert_eq!(lines[2], format!("  request: req_{}", "0".repeat(32)));
    }
}
