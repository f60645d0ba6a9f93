// SPDX-License-Identifier: Apache-2.0
//! Where a scan looks: the names of a certificate become hosts and ports, and a port of this crate looks there.

use std::net::SocketAddr;

use async_trait::async_trait;

use crate::drift::{DriftTarget, Sighting};
use crate::name::Identifier;

/// The label that stands for the star of a wildcard, where a name must be asked for.
const STAR: &str = "drift-scan";

/// One place to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The certificate's name that it is about.
    pub name: Identifier,
    /// The host to connect to: a DNS name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The name that the server is asked for (RFC 6066, 3). For an address nothing is asked for.
    pub server_name: String,
}

/// What one address of a host showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The address that was connected to; nothing when it did not come to that.
    pub address: Option<SocketAddr>,
    /// The leaf that it presented, DER; or in a sentence why there is none.
    pub leaf: Result<Vec<u8>, String>,
}

/// Looks at what a host serves. It only looks: it judges nothing, and sends no data of any application.
#[async_trait]
pub trait Lookout: std::fmt::Debug + Send + Sync {
    /// What the addresses of a host present, each within a bound; at least one entry.
    async fn look(&self, look: &Look) -> Vec<Seen>;
}

/// Where to look for each name of a certificate. A wildcard has no host of its own: without a configured one it is left
/// out, and the answer says so.
pub fn looks<'a>(
    names: &'a [Identifier],
    target: Option<&'a DriftTarget>,
    port: u16,
) -> impl Iterator<Item = Result<Look, Box<Sighting>>> + 'a {
    let host = target.and_then(|target| target.host.as_ref()).map(ToString::to_string);
    let port = target.and_then(|target| target.port).unwrap_or(port);
    names.iter().map(move |name| {
        let typed = name.to_string();
        match (&host, typed.strip_prefix("*.")) {
            (None, Some(_)) => Err(Box::new(Sighting::left_out(name.clone()))),
            (Some(host), Some(below)) => {
                let server_name = format!("{STAR}.{below}");
                Ok(Look { name: name.clone(), host: host.clone(), port, server_name })
            }
            (host, None) => {
                let host = host.clone().unwrap_or_else(|| typed.clone());
                Ok(Look { name: name.clone(), host, port, server_name: typed })
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::SightingState;

    fn names(names: &[&str]) -> Vec<Identifier> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn each_name_is_its_own_host_and_a_wildcard_has_none() {
        let names = names(&["a.example.test", "192.0.2.7", "*.b.example.test"]);
        let found: Vec<_> = looks(&names, None, 443).collect();
        let hosts: Vec<_> = found.iter().flatten().map(|look| (look.host.as_str(), look.port)).collect();
        assert_eq!(hosts, [("a.example.test", 443), ("192.0.2.7", 443)]);
        let left_out = found[2].as_ref().unwrap_err();
        assert_eq!(left_out.state, SightingState::LeftOut);
        assert!(left_out.detail.as_ref().unwrap().contains("drift.host"), "{left_out:?}");
    }

    #[test]
    fn a_configured_host_and_port_are_asked_for_every_name() {
        let names = names(&["a.example.test", "*.b.example.test"]);
        let target = DriftTarget::parse(Some("127.0.0.1"), Some(8443)).unwrap();
        let found: Vec<Look> = looks(&names, target.as_ref(), 443).map(Result::unwrap).collect();
        assert!(found.iter().all(|look| look.host == "127.0.0.1" && look.port == 8443));
        let asked: Vec<_> = found.iter().map(|look| look.server_name.as_str()).collect();
        assert_eq!(asked, ["a.example.test", "drift-scan.b.example.test"]);
        let port = DriftTarget { host: None, port: Some(1) };
        let own = looks(&names[..1], Some(&port), 443).next().unwrap().unwrap();
        assert_eq!((own.host.as_str(), own.port), ("a.example.test", 1));
    }
}
