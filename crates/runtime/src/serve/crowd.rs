// SPDX-License-Identifier: Apache-2.0
//! How many connections each address has, so that no single one can take all of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The addresses that are connected now; there are never more of them than connections.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    each: usize,
    here: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct Own {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    pub(super) fn new(each: usize) -> Self {
        Self { each, here: Arc::default() }
    }

    /// Counts one more connection of `address`, unless it has as many as it may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Own> {
        let address = network(address);
        let mut here = self.here();
        let count = here.entry(address).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        drop(here);
        Some(Own { crowd: self.clone(), address })
    }

    fn here(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address; of IPv6 its /64, which is what one host has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut here = self.crowd.here();
        if let Some(count) = here.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                here.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_connections_and_no_more_and_gives_them_back() {
        let crowd = Crowd::new(2);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let first = crowd.enter(one).unwrap();
        let _second = crowd.enter(mapped).unwrap();
        assert!(crowd.enter(one).is_none());
        let third = crowd.enter(other).unwrap();
        let [v6, same_64] = ["2001:db8::1", "2001:db8::2:3"].map(|text| text.parse::<IpAddr>().unwrap());
        let _fourth = (crowd.enter(v6).unwrap(), crowd.enter(same_64).unwrap());
        assert!(crowd.enter(v6).is_none());
        drop(_fourth);
        drop((first, third));
        assert!(crowd.enter(one).is_some());
        assert_eq!(crowd.here().len(), 1, "who left is not remembered");
    }
}
