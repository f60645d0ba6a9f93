// SPDX-License-Identifier: Apache-2.0
//! A real certificate authority for tests: Pebble, the DNS server that it asks, and the CA proxy in front of it.

mod dns;
mod launches;
mod pebble;
mod pebble_config;
mod pki;
pub mod proxy;
mod responder;
mod shared;

pub use dns::DnsServer;
pub use pebble::{CaFlavor, Coordinates, Pebble};
pub use pebble_config::{PebbleOptions, Profile};
pub use proxy::{CaProxy, Counts, NameSetCounts, ProxyConfig};
pub use responder::Http01Responder;
pub use shared::loopback_address;
