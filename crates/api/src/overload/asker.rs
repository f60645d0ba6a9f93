// SPDX-License-Identifier: Apache-2.0
//! Who asks, before anybody has looked it up: the address it comes from, and a fingerprint of the token it shows.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName};
use cap_core::secret::ExposeSecret;
use cap_core::token::Token;
use cap_runtime::config::Network;

use crate::auth::bearer;

/// Entries of X-Forwarded-For that are looked at: more proxies stand in nobody's way.
const FORWARDS: usize = 16;
/// The bits of an IPv6 address that a provider gives to one customer at least.
const IPV6_BITS: u32 = 64;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who something is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// A token, by its fingerprint.
    Token(u64),
    /// Everybody at an address.
    Address(IpAddr),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// Where it comes from, for the audit.
    pub(crate) address: IpAddr,
    /// What is counted for that address: of IPv6, its network.
    pub(super) network: IpAddr,
    /// Its token, if it has the form of one. Only who has all of a token has its fingerprint: nobody spends what is another's.
    pub(super) token: Option<u64>,
    /// Who this request is counted for.
    pub(crate) who: Who,
}

/// Makes fingerprints that nobody outside this process can aim at.
#[derive(Debug, Default)]
pub(super) struct Fingerprints(RandomState);

impl Fingerprints {
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<u64> {
        let token = Token::parse(bearer(headers).ok()?).ok()?;
        Some(self.0.hash_one(token.into_text().expose_secret()))
    }
}

/// Where a request comes from. A proxy's word counts if it is trusted, and of what it says the last address that is no
/// trusted proxy's: what stands before was written by whoever asked.
pub(super) fn address(request: &Request, trusted: &[Network]) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    // Every listener of ours tells it; without it all count as one.
    let mut address = peer.map_or(Ipv6Addr::UNSPECIFIED.into(), |peer| peer.0.ip().to_canonical());
    let is_proxy = |address| trusted.iter().any(|network| network.contains(address));
    let lines: Vec<_> = request.headers().get_all(X_FORWARDED_FOR).iter().collect();
    let entries = lines.into_iter().rev().flat_map(|line| line.to_str().unwrap_or("").rsplit(','));
    for entry in entries.take(FORWARDS) {
        if !is_proxy(address) {
            break;
        }
        match forwarded(entry.trim()) {
            Some(further) => address = further,
            None => break,
        }
    }
    address
}

/// An address as proxies write it: with a port or without.
fn forwarded(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    let address =
        bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))?;
    Some(address.to_canonical())
}

/// What is counted as one address.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> IPV6_BITS << IPV6_BITS).into(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use cap_runtime::config::{ApiLimits, Config};

    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &str) -> String {
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        for line in forwarded {
            request.headers_mut().append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        let env = [("CAP_API_TRUSTED_PROXIES".into(), trusted.into())];
        let limits: ApiLimits = Config::read(None, env).finish().unwrap();
        address(&request, &limits.trusted_proxies).to_string()
    }

    #[test]
    fn a_proxys_word_counts_only_if_it_is_trusted_and_a_clients_never() {
        let (client, proxy) = ("203.0.113.9", "10.0.0.1");
        for (peer, forwarded, trusted, wanted) in [
            (proxy, &[client][..], "", proxy),
            (client, &["192.0.2.1"], "10.0.0.0/8", client),
            (proxy, &[client], "10.0.0.0/8", client),
            (proxy, &["192.0.2.1, 203.0.113.9"], "10.0.0.0/8", client),
            (proxy, &["192.0.2.1", "203.0.113.9, 10.2.2.2"], "10.0.0.0/8", client),
            (proxy, &["192.0.2.1, 203.0.113.9:4711,10.2.2.2"], "10.0.0.0/8", client),
            (proxy, &["[2001:db8::1]:443"], "10.0.0.0/8", "2001:db8::1"),
            ("::ffff:10.0.0.1", &["[2001:db8::1]"], "10.0.0.0/8", "2001:db8::1"),
            (proxy, &["203.0.113.9, unknown"], "10.0.0.0/8", proxy),
            (proxy, &[], "10.0.0.0/8", proxy),
            (proxy, &["10.3.3.3"], "10.0.0.0/8", "10.3.3.3"),
        ] {
            assert_eq!(seen(peer, forwarded, trusted), wanted, "{peer} {forwarded:?} {trusted:?}");
        }
    }

    #[test]
    fn addresses_that_one_customer_has_count_as_one() {
        let network = |text: &str| super::network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
