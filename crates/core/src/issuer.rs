// SPDX-License-Identifier: Apache-2.0
//! Issuers: an ACME account at a CA, and what it takes to reach that CA.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::limits;
use crate::name::excerpt;

mod account;
mod external;
mod roots;

pub use account::{AccountStep, Hold, next_account_step};
pub use external::{ExternalAccount, ExternalKeyId, hmac_key};
pub use roots::TrustRoots;

/// Why an issuer's settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadIssuer {
    /// The directory URL cannot be one.
    #[error(
        "{0:?} is not a usable ACME directory URL: give an https:// URL without user name, query or fragment"
    )]
    Directory(String),
    /// The trust roots cannot be read.
    #[error("trust_roots_pem cannot be used: {0}")]
    TrustRoots(String),
    /// A contact is not a mail address.
    #[error("{0:?} is not a usable contact: write mailto: and one address, as in mailto:ops@example.com")]
    Contact(String),
    /// Too many contacts.
    #[error("there are {0} contacts; at most {max} are allowed", max = limits::CONTACTS)]
    Contacts(usize),
    /// The name of an external account is none.
    #[error("{0:?} is not a usable eab_kid: give what the CA calls the external account, one word of at most {max} characters", max = limits::EAB_KID_OCTETS)]
    ExternalKeyId(String),
    /// The key of an external account cannot be read.
    #[error("eab_hmac_key is not base64url: give it as the CA handed it out (letters, digits, - and _)")]
    HmacKey,
    /// The key of an external account is too short or too long.
    #[error(
        "eab_hmac_key has {0} octets once decoded, and HS256 takes {min} to {max}: give the whole of what the CA handed out",
        min = limits::EAB_KEY_OCTETS_MIN, max = limits::EAB_KEY_OCTETS
    )]
    HmacKeyLength(usize),
    /// One half of an external account binding.
    #[error("eab_kid and eab_hmac_key belong together: give both as the CA handed them out, or neither")]
    HalfABinding,
}

/// Where an ACME CA's directory is (RFC 8555, 7.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DirectoryUrl(Url);

/// How the CA reaches us: a `mailto:` URL (RFC 8555, 7.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Contact(String);

/// How far an issuer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssuerStatus {
    /// Its account is not registered yet.
    Registering,
    /// It issues.
    Ready,
    /// Its account could not be registered, or the CA does not accept it any more; it carries the problem and is tried again.
    Failing,
    /// Its account is being deactivated. It is shown, and never stored.
    Deactivating,
    /// Its account is deactivated, for ever. It is shown, and never stored.
    Deactivated,
}

/// The type of the problem that another account has the key which this one was to have.
pub const KEY_IN_USE: &str = "account-key-in-use";
/// The type of the problem that the CA has closed the account.
pub const ACCOUNT_CLOSED: &str = "account-closed";

/// An issuer's settings, valid by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerSpec {
    /// Where the CA is.
    pub directory: DirectoryUrl,
    /// What its HTTPS server is trusted by; the public roots when unset.
    pub trust_roots: Option<TrustRoots>,
    /// Whom the CA may write to.
    pub contacts: Vec<Contact>,
}

impl IssuerSpec {
    /// Checks the number of contacts; the parts have checked themselves.
    ///
    /// # Errors
    /// When there are too many contacts.
    pub fn new(
        directory: DirectoryUrl,
        trust_roots: Option<TrustRoots>,
        contacts: Vec<Contact>,
    ) -> Result<Self, BadIssuer> {
        if contacts.len() > limits::CONTACTS {
            return Err(BadIssuer::Contacts(contacts.len()));
        }
        Ok(Self { directory, trust_roots, contacts })
    }
}

impl FromStr for DirectoryUrl {
    type Err = BadIssuer;

    fn from_str(text: &str) -> Result<Self, BadIssuer> {
        let bad = || BadIssuer::Directory(excerpt(text));
        let url = Url::parse(text).map_err(|_| bad())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if text.len() > limits::URL_OCTETS
            || url.scheme() != "https"
            || !url.has_host()
            || !plain
            || url.query().is_some()
        {
            return Err(bad());
        }
        Ok(Self(url))
    }
}

impl FromStr for Contact {
    type Err = BadIssuer;

    fn from_str(text: &str) -> Result<Self, BadIssuer> {
        let bad = || BadIssuer::Contact(excerpt(text));
        let address = text.strip_prefix("mailto:").ok_or_else(bad)?;
        let (local, domain) = address.split_once('@').ok_or_else(bad)?;
        let plain = |c: char| c.is_ascii_graphic() && !"\"(),:;<>@[\\]?&$".contains(c);
        let usable = !local.is_empty() && domain.contains('.') && text.len() <= limits::DNS_NAME_OCTETS;
        if !usable || !address.chars().all(|c| c == '@' || plain(c)) || domain.contains('@') {
            return Err(bad());
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! text_value {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadIssuer;

            fn try_from(text: String) -> Result<Self, BadIssuer> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

text_value! { DirectoryUrl Contact }

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn directories_are_plain_https_urls() {
        assert!("https://acme.example.test/directory".parse::<DirectoryUrl>().is_ok());
        assert!("https://127.0.0.1:14000/dir".parse::<DirectoryUrl>().is_ok());
        for wrong in [
            "",
            "acme.example.test",
            "http://acme.example.test/dir",
            "https://u:p@acme.example.test/",
            "https://a/d?x=1",
            "https://a/#f",
        ] {
            assert!(wrong.parse::<DirectoryUrl>().is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn contacts_are_single_mail_addresses() {
        assert!("mailto:ops@example.com".parse::<Contact>().is_ok());
        for wrong in [
            "ops@example.com",
            "mailto:",
            "mailto:ops",
            "mailto:a@b.example,c@d.example",
            "mailto:a@b.example?cc=x",
            "tel:+1",
        ] {
            assert!(wrong.parse::<Contact>().is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn broken_pem_is_refused() {
        for wrong in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n",
        ] {
            assert!(wrong.parse::<TrustRoots>().is_err(), "{wrong:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,120}|(-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{0,200}-----END CERTIFICATE-----\n){0,3}") {
            let _ = (text.parse::<TrustRoots>(), text.parse::<DirectoryUrl>(), text.parse::<Contact>());
        }
    }
}
