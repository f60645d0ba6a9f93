// SPDX-License-Identifier: Apache-2.0
//! Hosts of a network of our own, to cut it in two: network namespaces, and a router between them that drops packets.
//!
//! Each [`Host`] has its own loopback and one address, and reaches the others through the router; no interface leads to
//! the machine's own network. A rule of the router drops what one host sends to another, in silence and in that
//! direction only, as a broken cable or a firewall does. Servers that listen at loopback are made to be reached from
//! another host's loopback by a [`Forward`], which no rule touches.
//!
//! It needs root, `ip` (iproute2, installed where it is missing) and `nsenter` (util-linux). Nothing else of the machine
//! is changed, and what a killed process leaves behind is removed by the next one.

mod forward;
mod namespace;
mod topology;

pub use forward::Forward;
pub use topology::{Host, Network};
