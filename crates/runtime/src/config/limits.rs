// SPDX-License-Identifier: Apache-2.0
//! How much each caller of the API may ask for, and whose word counts for who a caller is.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Config, Group};

/// Beyond it a limit is none.
const LIMIT: RangeInclusive<u64> = 0..=1_000_000;
/// Fewer, and a caller's quarter is used up by a page of a browser; more, and their memory counts.
const PLACES: RangeInclusive<u64> = 16..=16_384;
/// Shorter, and a body on a bad line never comes; longer, and the request's own bound of 30 s has passed.
const BODY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(25);
/// Networks of proxies: as many as a list by hand has.
const NETWORKS: usize = 64;

/// How much each caller of the API may ask for; a rate or a count of 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiLimits {
    /// Requests that are answered at once; one caller has a quarter.
    pub places: usize,
    /// How long a body may take.
    pub body: Duration,
    /// Requests a second of one token.
    pub per_token: u32,
    /// Requests a second of one address without a token that was good lately.
    pub per_address: u32,
    /// Tokens a minute that one address may show and that are refused.
    pub failures: u32,
    /// Certificates of one project that may wait for their first attempt.
    pub waiting: u32,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<Network>,
}

/// The addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Group for ApiLimits {
    fn read(config: &mut Config) -> Option<Self> {
        let places = config.integer("CAP_API_PLACES", PLACES);
        let body = config.duration("CAP_API_BODY_TIMEOUT", BODY);
        let mut limit = |name| config.integer(name, LIMIT).and_then(|limit| u32::try_from(limit).ok());
        let per_token = limit("CAP_API_RATE_PER_TOKEN");
        let per_address = limit("CAP_API_RATE_PER_ADDRESS");
        let failures = limit("CAP_API_FAILURES_PER_ADDRESS");
        let waiting = limit("CAP_API_WAITING_PER_PROJECT");
        let remedy = "write addresses and networks, separated by commas, like 10.0.0.0/8,fd00::/8";
        let trusted = config.parse("CAP_API_TRUSTED_PROXIES", remedy, networks);
        if trusted.is_none() && config.is_given("CAP_API_TRUSTED_PROXIES") {
            return None;
        }
        Some(Self {
            places: places.and_then(|places| usize::try_from(places).ok())?,
            body: body?,
            per_token: per_token?,
            per_address: per_address?,
            failures: failures?,
            waiting: waiting?,
            trusted_proxies: trusted.unwrap_or_default(),
        })
    }
}

fn networks(text: &str) -> Result<Vec<Network>, String> {
    let networks: Vec<Network> =
        text.split(',').map(|part| Network::parse(part.trim())).collect::<Result<_, _>>()?;
    if networks.len() > NETWORKS {
        return Err(format!("more than {NETWORKS} networks"));
    }
    Ok(networks)
}

impl Network {
    /// An address, or an address and how many of its bits count.
    fn parse(text: &str) -> Result<Self, String> {
        let none = || format!("`{text}` is neither an address nor a network");
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| none())?;
        let width = width(address);
        let bits = bits.map_or(Ok(width), |bits| bits.parse().map_err(|_| none()))?;
        let network = Self { address, bits };
        if bits > width || network.prefix(address) != number(address) {
            return Err(format!("`{text}` has bits behind its prefix"));
        }
        Ok(network)
    }

    /// Whether it has this address. One of IPv4 is the same however it is written.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.address) && self.prefix(address) == number(self.address)
    }

    /// The bits of an address of the same kind that count.
    fn prefix(&self, address: IpAddr) -> u128 {
        let dropped = width(address).saturating_sub(self.bits);
        number(address).checked_shr(dropped).and_then(|kept| kept.checked_shl(dropped)).unwrap_or(0)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::c000:207"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network:?} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network:?} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_or_says_more_than_it_means_is_refused() {
        for text in
            ["", "10.0.0.0/33", "10.0.0.1/8", "::1/64", "proxy.test", "10.0.0.0/", "10.0.0.0/-1", "::/129"]
        {
            assert!(networks(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(networks("10.0.0.0/8, fd00::/8").unwrap().len(), 2);
        assert!(networks(&["::1"; NETWORKS + 1].join(",")).is_err());
    }
}
