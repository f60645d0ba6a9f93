// SPDX-License-Identifier: Apache-2.0
//! A real certificate authority for tests: Pebble, the DNS server that it asks, and the CA proxy in front of it. Or
//! step-ca in Pebble's place, behind the same.

mod dns;
mod kind;
mod launches;
mod pebble;
mod pebble_config;
mod pki;
pub mod proxy;
mod proxy_home;
mod responder;
mod shared;
mod step_ca;

pub use dns::DnsServer;
pub use kind::CaKind;
pub use pebble::{CaFlavor, Coordinates, Pebble};
pub use pebble_config::{PebbleOptions, Profile};
pub use proxy::{Asked, CaProxy, Counts, Fault, FaultRule, NameSetCounts, ProxyConfig, Wrong};
pub use responder::Http01Responder;
pub use shared::loopback_address;
