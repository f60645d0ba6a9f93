// SPDX-License-Identifier: Apache-2.0
//! Hosts around a router, and the rules by which it drops packets.

use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use tokio::sync::oneshot;

use super::namespace::{self, Namespace};

/// The network of host N is 10.77.N.0/24. It is seen by no other namespace, so it may be anybody's.
const NET: [u8; 2] = [10, 77];
/// The last octets of the router's and of the host's end.
const ROUTER_END: u8 = 1;
const HOST_END: u8 = 2;
/// Settings of the router: it forwards, and never asks whether the way back is open, which a cut one is not.
const ROUTER_SETTINGS: [(&str, &str); 3] =
    [("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")];

/// A network. Everything that was started in it must end before it does.
#[derive(Debug)]
pub struct Network {
    /// Where the drill itself is, with everything that is never cut: the CA, the clients.
    desk: Arc<Host>,
    hosts: Mutex<Vec<Arc<Host>>>,
    cuts: Mutex<Vec<Cut>>,
    router: Arc<Namespace>,
}

/// A machine of this network.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    namespace: Namespace,
    // Behind the host's own: the link ends with either.
    _router: Arc<Namespace>,
}

#[derive(Debug, PartialEq, Eq)]
struct Cut {
    from: Ipv4Addr,
    to: Ipv4Addr,
}

impl Network {
    /// A network with a desk and no other hosts.
    ///
    /// # Errors
    /// When this is not root, or a tool is missing and cannot be installed.
    pub fn create() -> anyhow::Result<Arc<Self>> {
        namespace::prepare()?;
        let router = Arc::new(Namespace::create("router")?);
        router.within(|| {
            for (name, value) in ROUTER_SETTINGS {
                let path = format!("/proc/sys/net/ipv4/{name}");
                std::fs::write(&path, value).with_context(|| format!("writing {path}"))?;
            }
            Ok(())
        })?;
        let desk = Host::connect("desk", 0, &router)?;
        Ok(Arc::new(Self {
            desk: desk.clone(),
            hosts: Mutex::new(vec![desk]),
            cuts: Mutex::default(),
            router,
        }))
    }

    /// Where the drill itself is.
    #[must_use]
    pub fn desk(&self) -> &Arc<Host> {
        &self.desk
    }

    /// Runs a future to its end at the desk; it is dropped there when this one is.
    ///
    /// # Errors
    /// When the future fails.
    pub async fn at_desk<T, F>(
        self: Arc<Self>,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<T>>,
    {
        let (asker, gone) = oneshot::channel::<()>();
        let done = tokio::task::spawn_blocking(move || {
            let desk = self.desk().clone();
            desk.run(|| async {
                tokio::select! {
                    done = work() => done,
                    _ = gone => bail!("nobody waits for it any more"),
                }
            })
        });
        let done = done.await.context("a thread at the desk")?;
        drop(asker);
        done
    }

    /// The host of this name; made when there is none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn host(&self, name: &str) -> anyhow::Result<Arc<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.iter().find(|host| host.name == name) {
            return Ok(host.clone());
        }
        let host = Host::connect(name, u8::try_from(hosts.len()).context("few hosts")?, &self.router)?;
        hosts.push(host.clone());
        Ok(host)
    }

    /// Drops what the first of each pair sends to the second from now on, all at once. The other direction stays as it
    /// is.
    ///
    /// # Errors
    /// When a rule cannot be made.
    pub fn cut_one_way<'a>(
        &self,
        ways: impl IntoIterator<Item = (&'a Host, &'a Host)>,
    ) -> anyhow::Result<()> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        for (from, to) in ways {
            let cut = Cut { from: from.address, to: to.address };
            if !cuts.contains(&cut) && !new.contains(&cut) {
                new.push(cut);
            }
        }
        self.rules("add", &new).context("cutting hosts from each other")?;
        cuts.append(&mut new);
        Ok(())
    }

    /// Drops what the two of each pair send to each other from now on, all at once.
    ///
    /// # Errors
    /// When a rule cannot be made.
    pub fn cut<'a>(&self, pairs: impl IntoIterator<Item = (&'a Host, &'a Host)>) -> anyhow::Result<()> {
        self.cut_one_way(pairs.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]))
    }

    /// Drops nothing any more.
    ///
    /// # Errors
    /// When a rule cannot be removed.
    pub fn heal(&self) -> anyhow::Result<()> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        self.rules("del", &cuts).context("healing the network")?;
        cuts.clear();
        Ok(())
    }

    /// Rules that drop in silence: the sender hears nothing, and tries again until its own time is up. One call of `ip`,
    /// so that a partition comes and goes as a whole.
    fn rules(&self, change: &str, cuts: &[Cut]) -> anyhow::Result<()> {
        let lines =
            cuts.iter().map(|Cut { from, to }| format!("rule {change} from {from} to {to} blackhole\n"));
        self.router.ip_batch(&lines.collect::<String>())
    }
}

impl Host {
    fn connect(name: &str, index: u8, router: &Arc<Namespace>) -> anyhow::Result<Arc<Self>> {
        let namespace = Namespace::create(name)?;
        let end = |last| Ipv4Addr::new(NET[0], NET[1], index, last);
        let (gateway, address) = (end(ROUTER_END), end(HOST_END));
        let port = format!("port{index}");
        namespace.ip(&[
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            &port,
            "netns",
            router.name(),
        ])?;
        namespace.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        namespace.ip(&["link", "set", "eth0", "up"])?;
        router.ip(&["address", "add", &format!("{gateway}/24"), "dev", &port])?;
        router.ip(&["link", "set", &port, "up"])?;
        namespace.ip(&["route", "add", "default", "via", &gateway.to_string()])?;
        Ok(Arc::new(Self { name: name.to_owned(), address, namespace, _router: router.clone() }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the other hosts find it.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its namespace, as `nsenter` takes it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.namespace.path()
    }

    /// Does something on a thread of this host: what it starts, and every socket that it makes, stays there.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or the work fails.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        self.namespace.within(work)
    }

    /// Runs a future to its end on a runtime of its own, all of whose threads are on this host.
    ///
    /// # Errors
    /// When the future fails, or this thread runs a runtime of its own that may not be blocked.
    pub fn run<T: Send, F>(&self, work: impl FnOnce() -> F + Send) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        self.within(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.map_err(|error| anyhow!("starting a runtime: {error}"))?.block_on(work())
        })
    }
}
