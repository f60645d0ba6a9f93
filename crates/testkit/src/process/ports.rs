// SPDX-License-Identifier: Apache-2.0
//! Free ports that two stacks on one machine never both get.
//!
//! A port is taken below the kernel's range for outgoing connections, so that a server that was killed finds its
//! port free when it comes back. It is guarded by a lock on a file in a folder that all checkouts share; the lock
//! lasts as long as the [`PortLease`], and ends with the process whatever happens to it.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};

use super::identity::ProcessId;

/// Below Linux's `ip_local_port_range` (32768 by default), above what services of a machine commonly use.
const FIRST_PORT: u16 = 21_000;
const PORT_COUNT: u16 = 11_000;

/// A port that is ours while this lives. Whoever listens at it binds it himself.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: File,
}

impl PortLease {
    /// Its number.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A port that is free at 127.0.0.1.
///
/// # Errors
/// When none is free.
pub fn reserve_one() -> anyhow::Result<PortLease> {
    reserve(&[Ipv4Addr::LOCALHOST])
}

/// One port that is free at each of these addresses, for TCP and for UDP.
///
/// # Errors
/// When none is free, or the folder of locks cannot be used.
pub fn reserve(addresses: &[Ipv4Addr]) -> anyhow::Result<PortLease> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = std::env::temp_dir().join("certautopilot-ports");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    // Processes start at different places, so that they seldom try the same file.
    let me = ProcessId::current()?;
    let start = (u64::from(me.pid.unsigned_abs()).wrapping_mul(389)).wrapping_add(me.started);
    for _ in 0..PORT_COUNT {
        let offset = (start + u64::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u64::from(PORT_COUNT);
        let port = FIRST_PORT + u16::try_from(offset).context("below PORT_COUNT")?;
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(folder.join(port.to_string()))
            .with_context(|| format!("opening a lock in {}", folder.display()))?;
        if lock.try_lock().is_ok() && addresses.iter().all(|address| is_free(*address, port)) {
            return Ok(PortLease { port, _lock: lock });
        }
    }
    bail!("no port from {FIRST_PORT} on is free at {addresses:?}; end some servers on this machine")
}

fn is_free(address: Ipv4Addr, port: u16) -> bool {
    let address = IpAddr::V4(address);
    TcpListener::bind((address, port)).is_ok() && UdpSocket::bind((address, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once_while_its_lease_lives() {
        let leases: Vec<PortLease> = (0..50).map(|_| reserve_one().unwrap()).collect();
        let mut ports: Vec<u16> = leases.iter().map(PortLease::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn a_port_in_use_at_one_of_the_addresses_is_passed_over() {
        let addresses = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
        let lease = reserve(&addresses).unwrap();
        let _listener = TcpListener::bind((addresses[2], lease.port())).unwrap();
        assert!(is_free(addresses[0], lease.port()));
        assert!(!is_free(addresses[2], lease.port()));
    }
}
