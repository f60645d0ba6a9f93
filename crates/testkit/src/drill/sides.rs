// SPDX-License-Identifier: Apache-2.0
//! A system on hosts of a network, and the two sides that a cut makes of it.

use std::future::Future;
use std::sync::Arc;

use anyhow::Context as _;

use super::World;
use crate::fetch;
use crate::network::{Host, Network};

/// Runs a drill at the desk of a network of its own.
pub(super) async fn at_desk<T, F>(work: impl FnOnce(Arc<Network>) -> F + Send + 'static) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>>,
{
    // What is missing is downloaded while there still is a way out.
    tokio::task::spawn_blocking(|| fetch::mongod().and(fetch::pebble())).await??;
    let network = tokio::task::spawn_blocking(Network::create).await??;
    network.clone().at_desk(move || work(network)).await
}

/// The hosts of a system.
pub(super) struct Hosts {
    pub(super) members: Vec<Arc<Host>>,
    /// Services, and a client that is none of ours.
    pub(super) clients: Vec<Arc<Host>>,
}

impl Hosts {
    pub(super) fn of(network: &Network, world: &World, insider: &Arc<Host>) -> anyhow::Result<Self> {
        let set = world.stack.infrastructure.replica_set.as_ref().context("a replica set of its own")?;
        let members = (0..set.len()).map(|index| network.host(&member(index)));
        let services = world.services().map(|service| network.host(service.name()));
        let clients = services.chain([Ok(insider.clone())]);
        Ok(Self { members: members.collect::<Result<_, _>>()?, clients: clients.collect::<Result<_, _>>()? })
    }

    /// Cuts every way between a member and whoever is on the other side than it.
    pub(super) fn part(&self, network: &Network, insiders: &[&str]) -> anyhow::Result<()> {
        let is_inside = |host: &Host| insiders.contains(&host.name());
        let ways = self.members.iter().flat_map(|member| {
            let others = self.members.iter().chain(&self.clients);
            let beyond = others.filter(|other| is_inside(other) != is_inside(member));
            beyond.map(|other| (&**member, &**other))
        });
        network.cut(ways)
    }

    /// Everybody but this one.
    pub(super) fn others<'a>(&'a self, one: &'a Host) -> impl Iterator<Item = &'a Host> {
        let all = self.members.iter().chain(&self.clients).map(|host| &**host);
        all.filter(|other| other.name() != one.name())
    }
}

/// The name of a member's host.
pub(super) fn member(index: usize) -> String {
    format!("mongod-{index}")
}

/// The member that is primary now.
pub(super) async fn primary(world: &World) -> anyhow::Result<usize> {
    let set = world.stack.infrastructure.replica_set.as_ref().context("a replica set of its own")?;
    set.primary().await
}
