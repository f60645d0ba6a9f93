// SPDX-License-Identifier: Apache-2.0
//! Problem documents (RFC 9457, with the types of RFC 8555, 6.7): what each type means, and what people can do.

use cap_core::problem::{Class, Problem};
use http::StatusCode;
use serde::Deserialize;

/// What every ACME problem type starts with.
const PREFIX: &str = "urn:ietf:params:acme:error:";
/// Subproblems quoted: the rest says the same of other names.
const SUBPROBLEMS: usize = 3;
/// The type by which a CA asks a person to do something, such as to agree to its new terms.
const USER_ACTION: &str = "userActionRequired";
/// Characters of the CA's text: enough for any, and it leaves room for what to do.
const TEXT_CHARS: usize = 1500;
/// Bytes of a URL that people are to open; a longer one is left out.
const URL_BYTES: usize = 300;

/// A problem document, read leniently.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Document {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    subproblems: Option<Vec<Subproblem>>,
    /// Where people find what they have to do (RFC 8555, 7.3.3).
    #[serde(default)]
    instance: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Subproblem {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    identifier: Option<Named>,
}

#[derive(Debug, Clone, Deserialize)]
struct Named {
    #[serde(default)]
    value: Option<String>,
}

/// A problem type: who must act, and what they can do.
struct Known(&'static str, Class, &'static str);

/// Types whose meaning does not depend on where they appear. The rest is in `fault`.
const KNOWN: &[Known] = &[
    Known("accountDoesNotExist", Class::Configuration, "the CA does not know this account"),
    Known(
        "alreadyReplaced",
        Class::Protocol,
        "another order replaces the same certificate; this one is placed as one that replaces nothing",
    ),
    Known("badCSR", Class::Protocol, "the next attempt has a new key"),
    Known(
        "badPublicKey",
        Class::Protocol,
        "choose a key type that the CA accepts; the next attempt has a new key",
    ),
    Known(
        "badRevocationReason",
        Class::Configuration,
        "the CA does not take this reason; ask for the revocation again with another one",
    ),
    Known("badSignatureAlgorithm", Class::Protocol, "the CA does not accept P-256 account keys"),
    Known("caa", Class::Validation, "the name's CAA record must allow this CA"),
    Known("connection", Class::Validation, "port 80 of the name must be reachable for the CA"),
    Known("dns", Class::Validation, "check the name's A, AAAA and CAA records"),
    Known(
        "externalAccountRequired",
        Class::Configuration,
        "the CA issues only for accounts that are bound to one of its own: set eab_kid and eab_hmac_key to what it handed out; if \
         this issuer's account is registered already, make a new issuer with them",
    ),
    Known("incorrectResponse", Class::Validation, CHALLENGE_ADVICE),
    Known("invalidContact", Class::Configuration, "correct the issuer's contacts"),
    Known("invalidProfile", Class::Configuration, "choose a profile that the CA offers"),
    Known("rejectedIdentifier", Class::Validation, "the CA does not issue for this name"),
    Known("serverInternal", Class::Transient, "it is tried again"),
    Known("tls", Class::Validation, "check the TLS set-up of the name's server"),
    Known("unsupportedContact", Class::Configuration, "correct the issuer's contacts"),
    Known("unsupportedIdentifier", Class::Validation, "the CA does not issue for this kind of name"),
    Known(USER_ACTION, Class::Configuration, "do what the CA asks for, such as agreeing to its terms"),
];

/// For answers to a challenge that were not ours.
const CHALLENGE_ADVICE: &str =
    "the name's web server must pass /.well-known/acme-challenge/ on to CertAutoPilot, without login";

impl Document {
    /// Reads an error's body; nothing when it is not a problem document of ACME's (RFC 8555, 6.7): a gateway in front
    /// of the CA answers in JSON, too, and does not speak for it.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().filter(|document: &Self| document.acme_type().is_some())
    }

    /// The type without the ACME prefix; where several problems come as one, that of the first.
    pub(crate) fn acme_type(&self) -> Option<&str> {
        match self.kind.as_deref()?.strip_prefix(PREFIX)? {
            "compound" => self.subproblems.as_deref()?.first()?.kind.as_deref()?.strip_prefix(PREFIX),
            other => Some(other),
        }
    }

    /// The type as the CA wrote it; where several problems come as one, that of the first.
    pub(crate) fn kind(&self) -> &str {
        let first = self.subproblems.as_deref().and_then(|subproblems| subproblems.first()?.kind.as_deref());
        match self.kind.as_deref() {
            Some(kind) if kind.strip_prefix(PREFIX) == Some("compound") => first.unwrap_or(kind),
            kind => kind.unwrap_or("about:blank"),
        }
    }

    /// The page at which people do what the CA asks for.
    fn page(&self) -> Option<&str> {
        let page = self.instance.as_deref().filter(|_| self.acme_type() == Some(USER_ACTION))?;
        (page.starts_with("https://") && page.len() <= URL_BYTES).then_some(page)
    }

    /// What the CA says, with what it says of single names, and where people do what it asks for.
    pub(crate) fn text(&self) -> Option<String> {
        let subproblems = self.subproblems.iter().flatten().take(SUBPROBLEMS).filter_map(|sub| {
            let detail = sub.detail.as_deref()?;
            Some(match sub.identifier.as_ref().and_then(|named| named.value.as_ref()) {
                Some(name) => format!("{name}: {detail}"),
                None => detail.to_owned(),
            })
        });
        let parts: Vec<String> = self.detail.clone().into_iter().chain(subproblems).collect();
        let text: String = parts.join("; ").chars().take(TEXT_CHARS).collect();
        let parts = [text.as_str(), self.page().unwrap_or_default()];
        let text: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        (!text.is_empty()).then(|| text.join(": "))
    }

    /// Who must act and what they can do, where the type alone says it.
    pub(crate) fn known(&self) -> Option<(Class, &'static str)> {
        let kind = self.acme_type()?;
        let Known(_, class, advice) = KNOWN.iter().find(|known| known.0 == kind)?;
        Some((*class, advice))
    }

    /// The problem that a challenge or an order carries. There `unauthorized` is about a name, not about an account.
    pub(crate) fn of_object(&self, about: Option<&str>, otherwise: Class) -> Problem {
        let (class, advice) = match self.acme_type() {
            Some("unauthorized") => (Class::Validation, CHALLENGE_ADVICE),
            Some("rateLimited") => (Class::RateLimited, "it is tried again later"),
            _ => self.known().unwrap_or((otherwise, "it is tried again later")),
        };
        let text = self.text().unwrap_or_else(|| "the CA does not say why".to_owned());
        let about = about.map(|name| format!("{name}: ")).unwrap_or_default();
        Problem::new(class, self.kind(), format!("{about}{text}; {advice}"))
    }
}

impl From<&instant_acme::Problem> for Document {
    fn from(problem: &instant_acme::Problem) -> Self {
        let subproblems = problem.subproblems.iter().map(|sub| Subproblem {
            kind: sub.r#type.clone(),
            detail: sub.detail.clone(),
            identifier: sub
                .identifier
                .as_ref()
                .map(|identifier| Named { value: Some(identifier.authorized(false).to_string()) }),
        });
        Self {
            kind: problem.r#type.clone(),
            detail: problem.detail.clone(),
            subproblems: Some(subproblems.collect()),
            instance: None,
        }
    }
}

/// Whether a problem's type says that the CA has no such account, in answer to a request for an existing one only
/// (`onlyReturnExisting`).
pub(crate) fn is_unknown_account(kind: &str) -> bool {
    matches!(kind.strip_prefix(PREFIX), Some("accountDoesNotExist" | "externalAccountRequired"))
}

/// Whether an answer says that the nonce was not good (RFC 8555, 6.5).
pub(crate) fn is_bad_nonce(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::BAD_REQUEST
        && Document::read(body).is_some_and(|document| document.acme_type() == Some("badNonce"))
}
