// SPDX-License-Identifier: Apache-2.0
//! How a stack is made.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::ca::{CaKind, PebbleOptions};
use crate::mongo::ReplicaSetOptions;
use crate::network::Network;

/// One of our services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `certautopilot-api`.
    Api,
    /// `certautopilot-worker`.
    Worker,
    /// `certautopilot-scheduler`.
    Scheduler,
}

impl Role {
    /// All of them, in the order of their start.
    pub const ALL: [Self; 3] = [Self::Api, Self::Worker, Self::Scheduler];

    /// How its processes are called: `api` in `api-0`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
        }
    }

    /// Its binary.
    #[must_use]
    pub fn binary(self) -> String {
        format!("certautopilot-{}", self.name())
    }
}

/// What a stack is made of.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// How many APIs. Each answers HTTP-01 at an address of its own: 127.0.0.1, 127.0.0.2, and so on.
    pub apis: u8,
    /// How many workers.
    pub workers: u8,
    /// How many schedulers.
    pub schedulers: u8,
    /// Whether the database lies in the shared replica set. A test that kills members has a set of its own.
    pub shared_mongo: bool,
    /// The replica set, when it is the stack's own.
    pub replica_set: ReplicaSetOptions,
    /// Which CA.
    pub ca: CaKind,
    /// How it is set up.
    pub pebble: PebbleOptions,
    /// The network that members and services are hosts of, by their names; everything else is at its desk, where the
    /// stack must be started. Without one, everything is at loopback.
    pub network: Option<Arc<Network>>,
    settings: BTreeMap<Role, BTreeMap<String, String>>,
}

impl StackOptions {
    /// One of each, leases as short as they may be, the shared replica set.
    #[must_use]
    pub fn for_test() -> Self {
        Self { apis: 1, workers: 1, schedulers: 1, shared_mongo: true, ..Self::as_shipped() }
            .with(Role::Worker, "CAP_JOB_LEASE", "5s")
            .with(Role::Scheduler, "CAP_SCHEDULER_LEASE", "3s")
            .with_all("CAP_SHUTDOWN_DELAY", "0s")
    }

    /// Two of each, the product's own settings, a replica set of its own.
    #[must_use]
    pub fn as_shipped() -> Self {
        Self {
            apis: 2,
            workers: 2,
            schedulers: 2,
            shared_mongo: false,
            replica_set: ReplicaSetOptions::default(),
            ca: CaKind::default(),
            pebble: PebbleOptions::default(),
            network: None,
            settings: BTreeMap::new(),
        }
    }

    /// Puts members and services on hosts of this network.
    #[must_use]
    pub fn on(mut self, network: &Arc<Network>) -> Self {
        self.replica_set.network = Some(network.clone());
        self.network = Some(network.clone());
        self.with_all("CAP_MONGO_ALLOW_PLAINTEXT", "true")
    }

    /// Sets a variable for one service.
    #[must_use]
    pub fn with(mut self, role: Role, name: &str, value: &str) -> Self {
        self.settings.entry(role).or_default().insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets a variable for every service.
    #[must_use]
    pub fn with_all(self, name: &str, value: &str) -> Self {
        Role::ALL.into_iter().fold(self, |options, role| options.with(role, name, value))
    }

    /// How many of this service.
    #[must_use]
    pub fn count(&self, role: Role) -> u8 {
        match role {
            Role::Api => self.apis,
            Role::Worker => self.workers,
            Role::Scheduler => self.schedulers,
        }
    }

    pub(super) fn settings_of(&self, role: Role) -> BTreeMap<String, String> {
        self.settings.get(&role).cloned().unwrap_or_default()
    }

    /// Where the API of this index answers HTTP-01.
    #[must_use]
    pub fn challenge_address(index: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 0, index.saturating_add(1))
    }

    /// The CA's options, its HTTP-01 port free wherever an API of this stack answers.
    pub(super) fn pebble_for_apis(&self) -> PebbleOptions {
        let mut pebble = self.pebble.clone();
        pebble.challenge_addresses.extend((0..self.apis).map(Self::challenge_address));
        pebble.challenge_addresses.sort_unstable();
        pebble.challenge_addresses.dedup();
        pebble
    }
}
