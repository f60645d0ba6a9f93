// SPDX-License-Identifier: Apache-2.0
//! What is to be done about a failure, from what the CA answered and what it was asked.

use std::time::Duration;

use cap_core::clock::later;
use cap_core::order::CaError;
use cap_core::problem::{Class, Problem};
use instant_acme::Error;
use jiff::Timestamp;

use crate::call::{Action, Answer};
use crate::document::Document;
use crate::unreachable::Unreachable;

/// How long a rate limit is obeyed when the CA does not say how long: CAs count by the hour.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(3_600);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Again,
    Later(Class),
    OutOfStep,
    Refused(Class),
    Account,
    NeedsPerson,
    Gone,
}

/// What to do about `error`, which ended a call for `action` whose last answer was `answer`.
pub(crate) fn classify(error: &Error, action: Action, answer: &Answer, now: Timestamp) -> CaError {
    if let Error::Other(cause) = error
        && let Some(fault) = cause.downcast_ref::<Unreachable>()
    {
        return CaError::Transient(fault.problem(&answer.url));
    }
    let action = answer.action.unwrap_or(action);
    let status = answer.status.map_or(0, |status| status.as_u16());
    if let Error::Api(problem) = error
        && status < 300
    {
        // The answer was good; the object in it carries an error.
        return CaError::Refused(Document::from(problem).of_object(None, Class::Validation));
    }
    match (error, status) {
        (Error::Crypto | Error::KeyRejected, _) => unusable_key(),
        (_, 0..=299) => CaError::Transient(unreadable(error, action, answer)),
        (_, 300..=399) => moved(action, answer),
        _ => refusal(action, status, answer, now),
    }
}

/// Whether the CA refused because of a rate limit.
pub(crate) fn is_rate_limit(failure: &CaError) -> bool {
    matches!(failure, CaError::Later { problem, .. } if problem.class == Class::RateLimited)
}

fn refusal(action: Action, status: u16, answer: &Answer, now: Timestamp) -> CaError {
    let document = Document::read(&answer.body);
    let kind = document.as_ref().and_then(Document::acme_type);
    let verdict = verdict(action, status, &document, kind, answer);
    let known = document.as_ref().and_then(Document::known);
    let said = document.as_ref().and_then(Document::text);
    let said = said.unwrap_or_else(|| format!("{} answered {status} and does not say why", answer.url));
    let advice = match verdict {
        Verdict::NeedsPerson => {
            "the CA has paused this name after failures without end: mend what fails, open the URL above to unpause it, \
             and renew the certificate"
        }
        Verdict::Later(_) if answer.retry_after.is_none() => {
            "the CA does not say until when; it is asked again in an hour"
        }
        Verdict::Later(_) => "the CA asks to come back later",
        Verdict::Again => "it is tried again",
        Verdict::OutOfStep => "the order is looked at again",
        Verdict::Refused(_) if action == Action::Binding && is_binding(kind) => {
            "the CA does not accept the external account: set eab_kid and eab_hmac_key anew, to what it handed out"
        }
        // What the account has to do with it is found out by whoever asked.
        Verdict::Account => "",
        Verdict::Refused(_) if is_not_done(action, status) => {
            "the CA does not do this, whatever its directory says"
        }
        Verdict::Refused(_) if action == Action::Directory => "check the directory URL",
        Verdict::Refused(_) if known.is_some() => known.map_or("", |(_, advice)| advice),
        Verdict::Refused(_) | Verdict::Gone if action == Action::KeyChange => {
            "it is not tried again by itself"
        }
        // What becomes of it is for whoever asked to say.
        Verdict::Refused(_) | Verdict::Gone if action == Action::Revocation => "",
        Verdict::Refused(_) | Verdict::Gone => "a new attempt is made",
    };
    let class = match verdict {
        Verdict::Again | Verdict::OutOfStep => Class::Transient,
        Verdict::Later(class) | Verdict::Refused(class) => class,
        Verdict::NeedsPerson => Class::RateLimited,
        Verdict::Account => Class::Configuration,
        Verdict::Gone => Class::Protocol,
    };
    let kind = document.as_ref().map_or("ca-error", Document::kind);
    let problem = Problem::new(class, kind, format!("{} failed: {said}", action.phrase()));
    let problem = if advice.is_empty() { problem } else { problem.advised(advice) };
    match verdict {
        Verdict::Again => CaError::Transient(problem),
        Verdict::OutOfStep => CaError::OutOfStep(problem),
        Verdict::Refused(_) => CaError::Refused(problem.not_before(answer.retry_after)),
        Verdict::Account => CaError::Account(problem.not_before(answer.retry_after)),
        Verdict::NeedsPerson => CaError::NeedsPerson(problem),
        Verdict::Gone => CaError::Gone(problem.not_before(answer.retry_after)),
        Verdict::Later(_) => {
            CaError::Later { problem, at: answer.retry_after.unwrap_or_else(|| later(now, RATE_LIMIT_WAIT)) }
        }
    }
}

/// The first line that fits decides.
fn verdict(
    action: Action,
    status: u16,
    document: &Option<Document>,
    kind: Option<&str>,
    answer: &Answer,
) -> Verdict {
    // What a gateway in front of the CA says of a path is not the CA's word on an order. Nor is no word at all: it is
    // how Pebble says that it does not know one, so it refuses what only reads, but says nothing of what was issued.
    let reads = matches!(action, Action::Order | Action::Authorization | Action::Challenge);
    let said = || document.as_ref().and_then(Document::text);
    let is_paused = answer.retry_after.is_none() && said().is_some_and(|said| is_paused(&said));
    match (status, kind) {
        // Some CAs name in their directory what they do not do.
        _ if is_not_done(action, status) => Verdict::Refused(Class::Configuration),
        (429, _) | (_, Some("rateLimited")) if is_paused => Verdict::NeedsPerson,
        (429, _) | (_, Some("rateLimited")) => Verdict::Later(Class::RateLimited),
        (500.. | 408 | 425, _) | (_, Some("serverInternal" | "orderNotReady"))
            if answer.retry_after.is_some() =>
        {
            Verdict::Later(Class::Transient)
        }
        (500.. | 408 | 425, _) | (_, Some("badNonce" | "serverInternal")) => Verdict::Again,
        (_, Some("orderNotReady")) => Verdict::OutOfStep,
        // Another runner of the same order was faster.
        (_, Some("malformed")) if action == Action::Challenge => Verdict::OutOfStep,
        (403, None) if action == Action::Finalize && answer.retry_after.is_some() => {
            Verdict::Later(Class::Transient)
        }
        (403, None | Some("unauthorized" | "malformed")) if action == Action::Finalize => Verdict::OutOfStep,
        (400.., kind) if action == Action::Binding && is_binding(kind) => {
            Verdict::Refused(Class::Configuration)
        }
        (_, Some("unauthorized" | "accountDoesNotExist")) => Verdict::Account,
        (404 | 410, _) if action == Action::Directory => Verdict::Refused(Class::Configuration),
        (404 | 410, Some("malformed" | "orderNotFound" | "orderDoesNotExist")) if action == Action::Order => {
            Verdict::Gone
        }
        // So many certificates may be unknown to it that the others would never be asked for.
        (404 | 410, None) if action == Action::RenewalInfo => Verdict::Refused(Class::Protocol),
        (404 | 410, None) if reads && answer.body.is_empty() => Verdict::Refused(Class::Protocol),
        _ => match document {
            None if answer.retry_after.is_some() => Verdict::Later(Class::Transient),
            None => Verdict::Again,
            Some(document) => Verdict::Refused(document.known().map_or(Class::Protocol, |(class, _)| class)),
        },
    }
}

/// Whether an answer says that the CA does not do what it was asked for, and could do without.
fn is_not_done(action: Action, status: u16) -> bool {
    action.is_optional() && matches!(status, 405 | 501)
}

/// How CAs refuse an external account: RFC 8555 (7.3.4) leaves it to them.
fn is_binding(kind: Option<&str>) -> bool {
    matches!(kind, Some("unauthorized" | "malformed" | "externalAccountRequired"))
}

/// Let's Encrypt pauses a name that keeps failing, and gives a URL at which people end that.
fn is_paused(text: &str) -> bool {
    text.contains("https://") && text.to_ascii_lowercase().contains("unpause")
}

fn unreadable(error: &Error, action: Action, answer: &Answer) -> Problem {
    let of = Some(answer.url.as_str()).filter(|url| !url.is_empty()).unwrap_or("the CA");
    let hint = match action {
        Action::Directory => "check that the directory URL leads to an ACME directory",
        _ => "it is tried again",
    };
    let detail = format!("{} failed: the answer of {of} cannot be used: {error}; {hint}", action.phrase());
    Problem::new(Class::Transient, "ca-answer-unreadable", detail)
}

fn moved(action: Action, answer: &Answer) -> CaError {
    let to = answer.location.as_deref().unwrap_or("elsewhere");
    let detail = format!(
        "{} failed: {} redirects to {to}, and redirects are not followed; correct the directory URL",
        action.phrase(),
        answer.url
    );
    let class = |class| Problem::new(class, "ca-redirects", detail);
    match action {
        Action::Directory => CaError::Refused(class(Class::Configuration)),
        _ => CaError::Transient(class(Class::Transient)),
    }
}

pub(crate) fn unusable_certificate_key() -> CaError {
    let detail =
        "the certificate's key cannot be used: it is no key in PKCS #8 of a type that certificates have here";
    CaError::Refused(Problem::new(Class::Configuration, "certificate-key", detail))
}

pub(crate) fn unusable_key() -> CaError {
    let detail = "the account's key cannot be used: it is not a P-256 key in PKCS #8; make a new issuer";
    CaError::Refused(Problem::new(Class::Configuration, "account-key", detail))
}

#[cfg(test)]
mod tests;
