// SPDX-License-Identifier: Apache-2.0
//! Names: what people call projects and issuers, and what certificates are for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not a label.
    #[error("{0:?} is not a usable name: use 1 to {max} of a-z, 0-9 and hyphens, starting and ending with a letter or digit", max = limits::LABEL_CHARS)]
    Label(String),
    /// Neither a DNS name nor an IP address.
    #[error("{name:?} is neither a DNS name nor an IP address: {reason}")]
    Identifier {
        /// The name as given, cut to a readable length.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An address that is no host's.
    #[error("no certificate can be for {address}: {reason}")]
    Address {
        /// The address.
        address: IpAddr,
        /// What is special about it.
        reason: &'static str,
    },
}

/// The name of a project, an issuer or a token: a lower-case DNS label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Label(String);

/// What a certificate speaks for: a DNS name, perhaps a wildcard, or an IP address (RFC 8555 and RFC 8738).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Identifier {
    /// A DNS name in A-labels, lower case, without the trailing dot; a wildcard keeps its `*.`.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl Label {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = (1..=limits::LABEL_CHARS).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits && plain && !text.starts_with('-') && !text.ends_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName::Label(excerpt(text)))
        }
    }
}

impl Identifier {
    /// Whether it stands for every name one label below.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }
}

impl FromStr for Identifier {
    type Err = BadName;

    /// Reads a name as people type it: any case, Unicode welcome, one trailing dot forgiven.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = |reason| BadName::Identifier { name: excerpt(text), reason };
        // Normalisation drops characters, so a long text may make a short name; it is kept as typed.
        if text.len() > limits::TYPED_NAME_OCTETS {
            return Err(bad("it is longer than 1,024 octets"));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return host_address(address.to_canonical()).map(Self::Ip);
        }
        let (star, host) = match text.strip_prefix("*.") {
            Some(rest) => ("*.", rest),
            None => ("", text),
        };
        if host.contains('*') {
            return Err(bad("a star may only be the whole first label, as in *.example.com"));
        }
        if host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad(
                "it contains white space or control characters; give each name by itself, without any",
            ));
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() {
            return Err(bad("it is empty; write a name, as in www.example.com"));
        }
        let ascii = idna::domain_to_ascii_strict(host).map_err(|_| bad(diagnose(host)))?;
        // Characters such as ideographic full stops only become visible dots, or digits, in A-label form.
        if ascii.parse::<IpAddr>().is_ok() {
            return Err(bad("it reads as an IP address only after normalisation; write the address itself"));
        }
        let name = format!("{star}{ascii}");
        if name.len() > limits::DNS_NAME_OCTETS {
            return Err(bad(TOO_LONG));
        }
        let Some((_, top)) = ascii.rsplit_once('.') else {
            return Err(bad("it has a single label; no public or private CA issues for those"));
        };
        if top.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("its last label is a number, as in a mistyped IP address"));
        }
        Ok(Self::Dns(name))
    }
}

/// Of a name that no resolver takes (RFC 1035, 2.3.4).
const TOO_LONG: &str = "it is longer than 253 octets";

/// An address that one host can have.
fn host_address(address: IpAddr) -> Result<IpAddr, BadName> {
    let bad = |reason| Err(BadName::Address { address, reason });
    match address {
        _ if address.is_unspecified() => bad(
            "it is the unspecified address, which stands for any; write the address that clients connect to",
        ),
        _ if address.is_multicast() => {
            bad("it is a multicast address, which no single host has; write the host's own address")
        }
        IpAddr::V4(v4) if v4.is_broadcast() => {
            bad("it is the broadcast address, which no single host has; write the host's own address")
        }
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(address),
    }
}

/// What is wrong with a host that is no DNS name, and what to write instead.
fn diagnose(host: &str) -> &'static str {
    let labels = || host.split('.');
    if host.contains("://") {
        "it is a URL; write its host alone, as in www.example.com"
    } else if host.starts_with('[') {
        "it has brackets, as in a URL; write an IPv6 address without them, as in 2001:db8::1"
    } else if host.contains('/') {
        "it has a slash; write the host alone, without a path and without a network's prefix length"
    } else if host.contains('@') {
        "it is a mail address or has a user name; write what stands behind the @"
    } else if host.contains([',', ';']) {
        "it is a list; give each name by itself"
    } else if host.contains('%') {
        "it has a percent sign, as an address with a zone does; no CA issues for those"
    } else if host.matches(':').count() > 1 {
        "it cannot be read as an IPv6 address; write it as in 2001:db8::1"
    } else if host.contains(':') {
        "it has a port; a certificate is for every port of its host: write the name without it"
    } else if host.contains('_') {
        "it has an underscore, which no CA issues for; write a name with hyphens instead"
    } else if labels().any(str::is_empty) {
        "a label is empty: two dots follow each other, or it starts with one; remove the dot"
    } else if labels().any(|label| label.starts_with('-') || label.ends_with('-')) {
        "a label starts or ends with a hyphen; remove it"
    } else if labels().any(|label| label.is_ascii() && label.len() > limits::LABEL_CHARS) {
        "a label is longer than 63 octets; shorten what stands between two dots"
    } else if host.is_ascii() && host.len() > limits::DNS_NAME_OCTETS {
        TOO_LONG
    } else if labels().any(|label| label.get(2..4) == Some("--") && !label.starts_with("xn")) {
        "a label has hyphens at its third and fourth place, which only names in other scripts may have (xn--); write another name"
    } else {
        "a label has characters that no host name may have, or is too long; use letters, digits and hyphens"
    }
}

macro_rules! text_value {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

text_value! { Label Identifier }

impl TryFrom<String> for Label {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl TryFrom<String> for Identifier {
    type Error = BadName;

    /// Reads what is stored: earlier versions took any address.
    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse::<IpAddr>().map_or_else(|_| text.parse(), |address| Ok(Self::Ip(address.to_canonical())))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// The beginning of a text that somebody else chose, short enough for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        text.parse::<Identifier>().unwrap().to_string()
    }

    #[test]
    fn names_are_stored_as_lower_case_a_labels() {
        assert_eq!(shown("WWW.Example.COM."), "www.example.com");
        assert_eq!(shown("bücher.example"), "xn--bcher-kva.example");
        assert_eq!(shown("*.Bücher.example"), "*.xn--bcher-kva.example");
        assert_eq!(shown("::FFFF:192.0.2.1"), "192.0.2.1");
        assert_eq!(shown("2001:DB8::1"), "2001:db8::1");
    }

    #[test]
    fn what_no_ca_would_issue_for_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        let many = format!("{}example", "a.".repeat(130));
        for wrong in [
            "",
            ".",
            "..",
            "a..b.example",
            "localhost",
            "-a.example",
            "a-.example",
            "a_b.example",
            "a.*.example",
            "*",
            "*.",
            "**.example",
            "1.2.3.4.5",
            "256.1.1.1",
            "a.123",
            "http://a.example",
            "a.example:443",
            "a b.example",
            "a.example\n",
            "a@b.example",
            "１.２.３.４",
            "$ne",
            "a.example/..",
            "xn--zzzzzz-.example",
            &long,
            &many,
        ] {
            assert!(wrong.parse::<Identifier>().is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn each_mistake_has_its_reason_and_what_to_write_instead() {
        for (wrong, says) in [
            ("a_b.example", "underscore"),
            ("a.example:80", "has a port"),
            ("http://a.example", "is a URL"),
            ("[::1]", "brackets"),
            ("2001:db8:::1", "IPv6"),
            ("fe80::1%eth0", "zone"),
            ("a b.example", "white space"),
            ("a.example/x", "slash"),
            ("10.0.0.0/8", "slash"),
            ("a@b.example", "behind the @"),
            ("a.example,b.example", "list"),
            ("a..b.example", "empty"),
            ("-a.example", "hyphen"),
            ("ab--cd.example", "third and fourth place"),
            ("$ne", "characters"),
            (&format!("{}.example", "a".repeat(64)), "63 octets"),
        ] {
            let refused = wrong.parse::<Identifier>().unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }

    #[test]
    fn addresses_that_no_host_has_are_refused_but_stay_readable_where_they_are_stored() {
        for (wrong, says) in [
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
            ("::ffff:0.0.0.0", "unspecified"),
            ("255.255.255.255", "broadcast"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.250", "multicast"),
            ("ff02::1", "multicast"),
        ] {
            let refused = wrong.parse::<Identifier>().unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
            assert!(serde_json::from_value::<Identifier>(serde_json::json!(wrong)).is_ok(), "{wrong}");
        }
        for right in ["127.0.0.1", "10.0.0.1", "::1", "fe80::1"] {
            assert!(right.parse::<Identifier>().is_ok(), "{right} was refused");
        }
    }

    #[test]
    fn labels_cannot_be_mistaken_for_ids_or_operators() {
        for wrong in ["", "A", "a_b", "-a", "a-", "$ne", "_cluster", "a.b", &"a".repeat(64)] {
            assert!(wrong.parse::<Label>().is_err(), "{wrong:?} was accepted");
        }
        assert!("demo-1".parse::<Label>().is_ok());
    }

    proptest! {
        #[test]
        fn reading_is_idempotent(text in "\\PC{0,80}|[a-zA-Z0-9.*:-]{1,80}") {
            if let Ok(name) = text.parse::<Identifier>() {
                let again: Identifier = name.to_string().parse().unwrap();
                prop_assert_eq!(&again, &name);
                prop_assert!(name.to_string().is_ascii());
                prop_assert!(name.to_string().len() <= limits::DNS_NAME_OCTETS);
            }
        }
    }
}
