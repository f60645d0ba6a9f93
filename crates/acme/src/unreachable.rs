// SPDX-License-Identifier: Apache-2.0
//! Why a request brought no answer, found in the chain of causes and said so that people can act.

use std::error::Error;
use std::io;
use std::time::Duration;

use cap_core::problem::{Class, Problem};
use rustls::CertificateError;

/// A name that has no address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unresolved(pub(crate) String);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error("its name cannot be resolved ({0})")]
    Name(String),
    #[error("connection refused")]
    Refused,
    #[error("no route to it")]
    NoRoute,
    #[error("nothing accepts connections there in time")]
    NoConnection,
    #[error("no answer within {} s", .0.as_secs_f64())]
    Slow(Duration),
    #[error("its certificate is not trusted")]
    NotTrusted,
    #[error("its certificate is for another name")]
    OtherName,
    #[error("its certificate cannot be accepted ({0})")]
    Certificate(String),
    #[error("it does not speak TLS as expected ({0})")]
    Tls(String),
    #[error("it answered more than {0} octets")]
    TooLong(usize),
    #[error("the connection broke before the answer was complete ({0})")]
    Broken(String),
}

impl Unreachable {
    /// Looks for what is known in the chain of causes.
    pub(crate) fn diagnose(error: &(dyn Error + 'static)) -> Self {
        let mut last = error;
        for cause in chain(error) {
            last = cause;
            if let Some(Unresolved(reason)) = cause.downcast_ref() {
                return Self::Name(reason.clone());
            }
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return Self::from_tls(tls);
            }
            match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::ConnectionRefused) => return Self::Refused,
                Some(io::ErrorKind::TimedOut) => return Self::NoConnection,
                Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                    return Self::NoRoute;
                }
                _ => {}
            }
        }
        Self::Broken(last.to_string())
    }

    fn from_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Self::NotTrusted,
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Self::OtherName,
            rustls::Error::InvalidCertificate(other) => Self::Certificate(other.to_string()),
            other => Self::Tls(other.to_string()),
        }
    }

    /// The problem that people see, about this URL.
    pub(crate) fn problem(&self, url: &str) -> Problem {
        let (class, kind, advice) = match self {
            Self::Name(_) => (Class::Transient, "ca-unreachable", "check the directory URL and the DNS"),
            Self::Refused | Self::NoRoute | Self::NoConnection => (
                Class::Transient,
                "ca-unreachable",
                "check the directory URL, the network, and trust_roots_pem",
            ),
            Self::Slow(_) => (
                Class::Transient,
                "ca-timeout",
                "check the network and whether the CA is well; it is tried again",
            ),
            Self::NotTrusted => {
                (Class::Configuration, "ca-not-trusted", "set trust_roots_pem to the CA's root")
            }
            Self::OtherName => (
                Class::Configuration,
                "ca-not-trusted",
                "use the name that its certificate is for in the directory URL",
            ),
            Self::Certificate(_) | Self::Tls(_) => {
                (Class::Transient, "ca-not-trusted", "check the directory URL, and the CA's server")
            }
            Self::TooLong(_) => {
                (Class::Transient, "ca-answer-unreadable", "check that the directory URL is a CA's")
            }
            Self::Broken(_) => (Class::Transient, "ca-unreachable", "it is tried again"),
        };
        Problem::new(class, kind, format!("cannot reach {url}: {self}; {advice}"))
    }
}

/// The error and its causes. An I/O error that wraps another one names that one's cause as its own, so what it wraps
/// has to be asked for.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
        io::Error::other(io::Error::other(error))
    }

    #[test]
    fn causes_are_found_however_deep() {
        let untrusted = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let other = rustls::Error::InvalidCertificate(CertificateError::NotValidForName);
        let cases = [
            (wrapped(untrusted), Unreachable::NotTrusted),
            (wrapped(other), Unreachable::OtherName),
            (wrapped(Unresolved("no".into())), Unreachable::Name("no".into())),
            (wrapped(io::Error::from(io::ErrorKind::ConnectionRefused)), Unreachable::Refused),
            (wrapped(io::Error::from(io::ErrorKind::TimedOut)), Unreachable::NoConnection),
            (wrapped("reset"), Unreachable::Broken("reset".into())),
        ];
        for (error, expected) in cases {
            assert_eq!(Unreachable::diagnose(&error), expected);
        }
        assert!(matches!(Unreachable::diagnose(&wrapped(expired)), Unreachable::Certificate(_)));
    }

    #[test]
    fn the_text_says_what_why_and_what_to_do() {
        let text = |fault: Unreachable| fault.problem("https://127.0.0.1:1/dir").detail;
        assert_eq!(
            text(Unreachable::Refused),
            "cannot reach https://127.0.0.1:1/dir: connection refused; check the directory URL, the network, and trust_roots_pem"
        );
        assert_eq!(
            text(Unreachable::NotTrusted),
            "cannot reach https://127.0.0.1:1/dir: its certificate is not trusted; set trust_roots_pem to the CA's root"
        );
    }
}
