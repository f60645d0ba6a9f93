// SPDX-License-Identifier: Apache-2.0
//! Whether a project's certificates are scanned, where, and how often.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::name::{BadName, Identifier};

/// Why drift scans cannot be set up like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDrift {
    /// The host is no DNS name and no address.
    #[error("drift.host: {0}")]
    Host(#[from] BadName),
    /// The host is a wildcard.
    #[error(
        "drift.host: {0} is a wildcard, which no host is called; name one host that serves the certificate"
    )]
    Wildcard(String),
    /// The host is a name that only some resolvers complete.
    #[error("drift.host: {0} has a single label; give the whole name, as in {0}.example.com, or an address")]
    Label(String),
    /// Port 0.
    #[error("drift.port: 0 is no port that a server listens on; give one from 1 to 65535")]
    Port,
    /// Too often, or hardly ever.
    #[error("drift.interval: it must be from 5m to 30d")]
    Interval,
}

/// A host that serves a certificate: a DNS name or an address.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Host(Identifier);

/// Where a certificate is served, where that is not at its own names and the project's port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftTarget {
    /// The host that is connected to for every name.
    pub host: Option<Host>,
    /// The port.
    pub port: Option<u16>,
}

/// How a project's certificates are scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriftSettings {
    /// Whether they are at all.
    pub enabled: bool,
    /// The port, unless the certificate has another one.
    pub port: u16,
    /// From one scan to the next.
    pub interval: Duration,
}

impl Default for DriftSettings {
    /// Off: nothing is connected to that nobody asked for.
    fn default() -> Self {
        Self { enabled: false, port: limits::DRIFT_PORT_DEFAULT, interval: limits::DRIFT_INTERVAL_DEFAULT }
    }
}

impl DriftSettings {
    /// A port that a server can listen on.
    ///
    /// # Errors
    /// When it is none.
    pub fn port(port: u16) -> Result<u16, BadDrift> {
        if port == 0 { Err(BadDrift::Port) } else { Ok(port) }
    }

    /// A time between two scans.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn interval(interval: Duration) -> Result<Duration, BadDrift> {
        let fits = (limits::DRIFT_INTERVAL_MIN..=limits::DRIFT_INTERVAL_MAX).contains(&interval);
        if fits { Ok(interval) } else { Err(BadDrift::Interval) }
    }
}

impl DriftTarget {
    /// Reads a host and a port as typed; nothing when neither is given.
    ///
    /// # Errors
    /// When one cannot be.
    pub fn parse(host: Option<&str>, port: Option<u16>) -> Result<Option<Self>, BadDrift> {
        let host = host.map(str::parse).transpose()?;
        let port = port.map(DriftSettings::port).transpose()?;
        Ok((host.is_some() || port.is_some()).then_some(Self { host, port }))
    }
}

impl Host {
    /// It, as a name or an address.
    #[must_use]
    pub fn identifier(&self) -> &Identifier {
        &self.0
    }
}

impl FromStr for Host {
    type Err = BadDrift;

    fn from_str(text: &str) -> Result<Self, BadDrift> {
        let is_label = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if is_label && text.len() <= limits::LABEL_CHARS {
            return Err(BadDrift::Label(text.to_owned()));
        }
        let host: Identifier = text.parse()?;
        if host.is_wildcard() { Err(BadDrift::Wildcard(host.to_string())) } else { Ok(Self(host)) }
    }
}

impl TryFrom<String> for Host {
    type Error = BadDrift;

    fn try_from(text: String) -> Result<Self, BadDrift> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_intervals_that_cannot_be_are_refused_and_say_which() {
        for host in ["*.example.test", "https://a.example.test", "a b", "", "a.example.test:443"] {
            let refused = DriftTarget::parse(Some(host), None).unwrap_err().to_string();
            assert!(refused.starts_with("drift.host: "), "{refused}");
        }
        let label = DriftTarget::parse(Some("web-1"), None).unwrap_err().to_string();
        assert!(label.contains("as in web-1.example.com") && !label.contains("CA"), "{label}");
        assert_eq!(DriftTarget::parse(None, Some(0)), Err(BadDrift::Port));
        assert_eq!(DriftTarget::parse(None, None), Ok(None));
        let target = DriftTarget::parse(Some("10.0.0.5"), Some(8443)).unwrap().unwrap();
        assert_eq!((target.host.unwrap().to_string(), target.port), ("10.0.0.5".to_owned(), Some(8443)));
        let (least, most) = (limits::DRIFT_INTERVAL_MIN, limits::DRIFT_INTERVAL_MAX);
        assert_eq!(DriftSettings::interval(least), Ok(least));
        assert_eq!(DriftSettings::interval(most), Ok(most));
        let second = Duration::from_secs(1);
        assert_eq!(DriftSettings::interval(least - second), Err(BadDrift::Interval));
        assert_eq!(DriftSettings::interval(most + second), Err(BadDrift::Interval));
    }
}
