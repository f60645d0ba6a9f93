// SPDX-License-Identifier: Apache-2.0
//! Which addresses this system may connect to where somebody else chose the name: a rule over plain addresses.
//!
//! Whoever may name a host must not thereby reach what only this system's hosts can: a cloud's metadata service, a
//! database on loopback, the network behind the firewall.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network, as `10.0.0.0/8` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// It has not the form of one.
    #[error("not a network")]
    Form,
    /// Behind the prefix it is not zero, so that it is not clear what is meant.
    #[error("it has bits behind its prefix; the network is {0}")]
    Bits(Network),
}

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Nobody can allow it. What it is.
    Never(&'static str),
    /// An administrator may allow it. What it is.
    Unlisted(&'static str),
}

/// What may be connected to: every public address, and of the private ones those that an administrator listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbound {
    private: Vec<Network>,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Network {
    Network { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Network {
    Network { address: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), prefix }
}

/// What no host of anybody's is behind, or what hands out credentials to whoever connects from here.
const NEVER: &[(Network, &str)] = &[
    (v4(0, 0, 0, 0, 8), "an address of this network, as 0.0.0.0"),
    (v4(169, 254, 0, 0, 16), "link-local, where clouds have their metadata"),
    (v4(100, 100, 100, 200, 32), "a cloud's metadata service"),
    (v4(168, 63, 129, 16, 32), "a cloud's metadata service"),
    (v4(192, 0, 0, 0, 24), "reserved for protocols"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved, or broadcast"),
    (v6(0xfe80, 0, 0, 10), "link-local"),
    (v6(0xfec0, 0, 0, 10), "site-local"),
    (v6(0xff00, 0, 0, 8), "multicast"),
    (v6(0xfd00, 0xec2, 0, 32), "a cloud's metadata service"),
    (v6(0xfd20, 0xce, 0, 32), "a cloud's metadata service"),
    // A server of its own choice unwraps these: what it connects to cannot be told from the address.
    (v6(0x2001, 0, 0, 32), "a Teredo tunnel"),
    (v6(0x64, 0xff9b, 1, 48), "a translation prefix of one network's own"),
];

/// What is some network's own.
const PRIVATE: &[(Network, &str)] = &[
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(100, 64, 0, 0, 10), "shared by a carrier's customers"),
    (v4(198, 18, 0, 0, 15), "for benchmarks"),
    (Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 }, "loopback"),
    (v6(0xfc00, 0, 0, 7), "unique local"),
];

/// Where IPv6 addresses of public hosts are (RFC 4291, 2.4, and what IANA has given out of it).
const PUBLIC_V6: Network = v6(0x2000, 0, 0, 3);
/// IPv4 inside IPv6, translated on the way (RFC 6052, 2.1) and tunnelled (RFC 3056).
const NAT64: Network = v6(0x64, 0xff9b, 0, 96);
const SIX_TO_FOUR: Network = v6(0x2002, 0, 0, 16);

impl Network {
    /// Whether it has this address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(network) == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(network) == u128::from(address) & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn masked(address: IpAddr, prefix: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
            }
        };
        Self { address, prefix }
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = text.split_once('/').ok_or(BadNetwork::Form)?;
        let address: IpAddr = address.parse().map_err(|_| BadNetwork::Form)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let digits = prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| digits && *prefix <= most);
        let network = Self::masked(address, prefix.ok_or(BadNetwork::Form)?);
        if network.address == address { Ok(network) } else { Err(BadNetwork::Bits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Outbound {
    /// Every public address, and these networks.
    #[must_use]
    pub fn allowing(private: Vec<Network>) -> Self {
        Self { private }
    }

    /// The address to connect to for `address`, if that is allowed: an IPv4 address in IPv6 clothes is the IPv4 address.
    ///
    /// # Errors
    /// When it is refused.
    pub fn judge(&self, address: IpAddr) -> Result<IpAddr, Refused> {
        let address = address.to_canonical();
        if let IpAddr::V6(v6) = address
            && let Some(inner) = embedded(v6)
        {
            // Whatever leads there, it ends at that host.
            self.judge_plain(IpAddr::V4(inner))?;
            return Ok(address);
        }
        self.judge_plain(address).map(|()| address)
    }

    fn judge_plain(&self, address: IpAddr) -> Result<(), Refused> {
        let what = |table: &'static [(Network, &'static str)]| {
            table.iter().find(|(network, _)| network.contains(address)).map(|(_, what)| *what)
        };
        if let Some(what) = what(NEVER) {
            return Err(Refused::Never(what));
        }
        if let Some(what) = what(PRIVATE) {
            let listed = self.private.iter().any(|network| network.contains(address));
            return if listed { Ok(()) } else { Err(Refused::Unlisted(what)) };
        }
        match address {
            IpAddr::V6(_) if !PUBLIC_V6.contains(address) => {
                Err(Refused::Never("in no range of public hosts"))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
        }
    }
}

/// The IPv4 address that a packet for this address ends at.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let four = |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    match IpAddr::V6(address) {
        whole if NAT64.contains(whole) => Some(four(12)),
        whole if SIX_TO_FOUR.contains(whole) => Some(four(2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
