// SPDX-License-Identifier: Apache-2.0
//! Which processes there are, with which settings, at which ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::Infrastructure;
use super::options::{Role, StackOptions};
use crate::network::{Forward, Host, Network};
use crate::process::{Binaries, Launch, Launcher, PortLease, Service, reserve_one};

/// From start to ready: configuration, keys, schema, a first look at the database.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(60);

/// The variables that say where a service listens.
const LISTENERS: [&str; 3] = ["CAP_ADMIN_LISTEN", "CAP_API_LISTEN", "CAP_CHALLENGE_LISTEN"];

/// Everything that will be started. The ports stay reserved until all of them are.
pub(super) struct Plan {
    launcher: Arc<Launcher>,
    planned: Vec<Planned>,
    network: Option<(Arc<Network>, SocketAddr)>,
    _leases: Vec<PortLease>,
}

struct Planned {
    role: Role,
    launch: Launch,
    ready_url: String,
    api_url: Option<String>,
}

/// What was started.
#[derive(Default)]
pub(super) struct Started {
    pub(super) apis: Vec<Service>,
    pub(super) workers: Vec<Service>,
    pub(super) schedulers: Vec<Service>,
    pub(super) api_urls: Vec<String>,
    pub(super) forwards: Vec<Forward>,
}

impl Plan {
    pub(super) fn new(
        launcher: &Arc<Launcher>,
        binaries: &Binaries,
        infrastructure: &Infrastructure,
        kek_dir: &Path,
        options: &StackOptions,
    ) -> anyhow::Result<Self> {
        let (mut planned, mut leases) = (Vec::new(), Vec::new());
        for role in Role::ALL {
            let program = binaries.path(&role.binary())?;
            for index in 0..options.count(role) {
                let name = format!("{}-{index}", role.name());
                let admin = port(&mut leases)?;
                let mut env = BTreeMap::from([
                    ("CAP_MONGO_URI".to_owned(), infrastructure.mongo_uri.clone()),
                    ("CAP_KEK_DIR".to_owned(), kek_dir.display().to_string()),
                    ("CAP_ADMIN_LISTEN".to_owned(), format!("127.0.0.1:{admin}")),
                    ("CAP_INSTANCE_NAME".to_owned(), name.clone()),
                    ("CAP_LOG_FORMAT".to_owned(), "json".to_owned()),
                ]);
                let mut address = format!("127.0.0.1:{admin}");
                let mut api_url = None;
                if role == Role::Api {
                    address = format!("127.0.0.1:{}", port(&mut leases)?);
                    let challenges = StackOptions::challenge_address(index);
                    let challenges = format!("{challenges}:{}", infrastructure.ca.http_port());
                    env.insert("CAP_API_LISTEN".to_owned(), address.clone());
                    env.insert("CAP_CHALLENGE_LISTEN".to_owned(), challenges);
                    api_url = Some(format!("http://{address}"));
                }
                env.extend(options.settings_of(role));
                let launch = Launch { name, program: program.clone(), args: Vec::new(), env, address };
                let ready_url = format!("http://127.0.0.1:{admin}/readyz");
                planned.push(Planned { role, launch, ready_url, api_url });
            }
        }
        let network = match &options.network {
            Some(network) => Some((network.clone(), infrastructure.ca.address()?)),
            None => None,
        };
        Ok(Self { launcher: launcher.clone(), planned, network, _leases: leases })
    }

    pub(super) fn start(self) -> anyhow::Result<Started> {
        let mut started = Started::default();
        for planned in self.planned {
            let mut launcher = self.launcher.clone();
            if let Some((network, ca)) = &self.network {
                let host = network.host(&planned.launch.name)?;
                started.forwards.extend(forwards(network, &host, &planned.launch, *ca)?);
                launcher = Arc::new(launcher.on(&host)?);
            }
            let service = Service::start(launcher, planned.launch, planned.ready_url)?;
            match planned.role {
                Role::Api => started.apis.push(service),
                Role::Worker => started.workers.push(service),
                Role::Scheduler => started.schedulers.push(service),
            }
            started.api_urls.extend(planned.api_url);
        }
        Ok(started)
    }
}

/// The ways between the desk and a service that runs on a host: to each of its listeners, and to the CA.
fn forwards(
    network: &Network,
    host: &Arc<Host>,
    launch: &Launch,
    ca: SocketAddr,
) -> anyhow::Result<Vec<Forward>> {
    let listeners = launch.env.iter().filter(|(name, _)| LISTENERS.contains(&name.as_str()));
    let mut forwards = vec![Forward::start(host, network.desk(), ca)?];
    for (name, address) in listeners {
        let address = address.parse().with_context(|| format!("{name} of {}", launch.name))?;
        forwards.push(Forward::start(network.desk(), host, address)?);
    }
    Ok(forwards)
}

fn port(leases: &mut Vec<PortLease>) -> anyhow::Result<u16> {
    let lease = reserve_one()?;
    let port = lease.port();
    leases.push(lease);
    Ok(port)
}
