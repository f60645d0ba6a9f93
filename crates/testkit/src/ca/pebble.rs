// SPDX-License-Identifier: Apache-2.0
//! Pebble with everything around it, as one thing: DNS server, CA, proxy.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dns::DnsServer;
use super::launches::{CA_PROCESS, challtestsrv_launch, pebble_launch};
use super::pebble_config::{PebbleOptions, Ports};
use super::pki::Pki;
use super::proxy::{CaProxy, Counts, ProxyConfig};
use crate::fetch;
use crate::process::{Launch, Launcher, Lifetime, PortLease, Process, reserve, reserve_one, wait_ready};
use crate::progress::say;
use crate::scratch::Scratch;

/// It makes a root key and listens.
const START_LIMIT_SECONDS: u64 = 30;
/// One question to one of its interfaces.
const REQUEST_LIMIT_MS: u64 = 5_000;

/// What this CA can do beyond RFC 8555; a lesser one is in use where Go is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaFlavor {
    /// It has renewal information (RFC 9773), and with it `replaces`.
    pub renewal_info: bool,
    /// The profiles it offers; none when it knows none.
    pub profiles: Vec<String>,
}

/// Where everything is: enough for another process to use this CA.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Coordinates {
    /// The ACME directory, at the proxy.
    pub directory_url: String,
    /// The root of the proxy's, and of Pebble's, own TLS.
    pub ca_file: PathBuf,
    /// Pebble's management interface: the issuance roots, renewal information.
    pub management_url: String,
    /// The management interface of the DNS server.
    pub dns_management_url: String,
    /// The DNS server itself, for UDP and TCP.
    pub dns_server: SocketAddr,
    /// The proxy's control port.
    pub proxy_control_url: String,
    /// The port at which HTTP-01 is looked for.
    pub http_port: u16,
    /// The port at which TLS-ALPN-01 is looked for.
    pub tls_port: u16,
    /// What the CA can do.
    pub flavor: CaFlavor,
}

/// A CA for tests.
#[derive(Debug)]
pub struct Pebble {
    pub(super) at: Coordinates,
    // In the order of their end: the proxy first. Empty for a CA that another process started.
    _proxy: Option<ProxyHome>,
    processes: Vec<Process>,
    _leases: Vec<PortLease>,
    _scratch: Option<Scratch>,
}

/// The proxy lives in a thread of ours, or in a process of its own that outlives us. Held, never looked at.
#[derive(Debug)]
enum ProxyHome {
    Thread { _proxy: CaProxy },
    Process { _process: Process },
}

impl Pebble {
    /// A CA of our own with the default options.
    ///
    /// # Errors
    /// When Pebble cannot be had or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(PebbleOptions::default()).await
    }

    /// A CA of our own.
    ///
    /// # Errors
    /// When Pebble cannot be had or does not start.
    pub async fn start_with(options: PebbleOptions) -> anyhow::Result<Self> {
        let scratch = Scratch::create()?;
        let launcher = Arc::new(Launcher::new(scratch.path(), Lifetime::WithUs)?);
        let mut ca = Self::start_in(&launcher, options).await?;
        ca._scratch = Some(scratch);
        Ok(ca)
    }

    /// A CA under this launcher's folder, with its lifetime.
    ///
    /// # Errors
    /// When Pebble cannot be had or does not start.
    pub async fn start_in(launcher: &Arc<Launcher>, options: PebbleOptions) -> anyhow::Result<Self> {
        crate::tls::install();
        let binaries = tokio::task::spawn_blocking(fetch::pebble).await.context("obtaining Pebble")??;
        say("starting the CA: Pebble, its DNS server, the CA proxy");
        let folder = launcher.data_dir("ca")?;
        let pki = Pki::create(&folder)?;
        let http = reserve(&options.challenge_addresses)?;
        let tls = reserve(&options.challenge_addresses)?;
        let leases: Vec<PortLease> = (0..6).map(|_| reserve_one()).collect::<anyhow::Result<_>>()?;
        let [acme, management, dns, dns_management, listen, control] =
            <[u16; 6]>::try_from(leases.iter().map(PortLease::port).collect::<Vec<_>>())
                .map_err(|_| anyhow::anyhow!("six ports"))?;
        let dns_management_url = format!("http://127.0.0.1:{dns_management}");
        let challtestsrv =
            launcher.spawn(challtestsrv_launch(&binaries, dns, dns_management)).context("the DNS server")?;
        let ready = format!("{dns_management_url}/dns-request-history");
        wait_answers(&challtestsrv, &ready).await?;
        let ports = Ports { acme, management, http: http.port(), tls: tls.port() };
        let pebble = launcher.spawn(pebble_launch(&binaries, &options, ports, dns, &pki, &folder)?)?;
        let limit = Duration::from_secs(START_LIMIT_SECONDS);
        wait_ready(&pebble, &format!("https://127.0.0.1:{acme}/dir"), limit).await?;
        let config = ProxyConfig {
            listen: loopback(listen),
            control: loopback(control),
            upstream: loopback(acme),
            certificate_file: pki.proxy.certificate.clone(),
            key_file: pki.proxy.key.clone(),
            root_file: pki.root.clone(),
        };
        let proxy = start_proxy(launcher, config, &folder).await?;
        let mut at = Coordinates {
            directory_url: format!("https://127.0.0.1:{listen}/dir"),
            ca_file: pki.root,
            management_url: format!("https://127.0.0.1:{management}"),
            dns_management_url,
            dns_server: loopback(dns),
            proxy_control_url: format!("http://127.0.0.1:{control}"),
            http_port: http.port(),
            tls_port: tls.port(),
            flavor: CaFlavor::default(),
        };
        at.flavor = flavor(&at).await?;
        let leases = leases.into_iter().chain([http, tls]).collect();
        Ok(Self {
            at,
            _proxy: Some(proxy),
            processes: vec![pebble, challtestsrv],
            _leases: leases,
            _scratch: None,
        })
    }

    /// A CA that another process runs.
    #[must_use]
    pub fn attach(at: Coordinates) -> Self {
        Self { at, _proxy: None, processes: Vec::new(), _leases: Vec::new(), _scratch: None }
    }

    /// Where everything is, for another process.
    #[must_use]
    pub fn coordinates(&self) -> &Coordinates {
        &self.at
    }

    /// The ACME directory, at the proxy.
    #[must_use]
    pub fn directory_url(&self) -> &str {
        &self.at.directory_url
    }

    /// Where the directory is served.
    ///
    /// # Errors
    /// When its URL has no address.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        let url = url::Url::parse(&self.at.directory_url)?;
        let address = url.socket_addrs(|| None)?.pop();
        address.with_context(|| format!("{url} has no address"))
    }

    /// The root file with which the directory's TLS is verified.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.at.ca_file
    }

    /// Pebble's management interface.
    #[must_use]
    pub fn management_url(&self) -> &str {
        &self.at.management_url
    }

    /// The DNS server's management interface.
    #[must_use]
    pub fn dns_management_url(&self) -> &str {
        &self.at.dns_management_url
    }

    /// Pebble's process, to pause it for one; `None` for a CA that another process runs.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.processes.iter().find(|process| process.name() == CA_PROCESS)
    }

    /// The port at which HTTP-01 is looked for, at whatever address a name has.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.at.http_port
    }

    /// What it can do.
    #[must_use]
    pub fn flavor(&self) -> &CaFlavor {
        &self.at.flavor
    }

    /// The DNS server that it asks.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn dns(&self) -> anyhow::Result<DnsServer> {
        DnsServer::at(&self.at.dns_management_url)
    }

    /// Gives a name these addresses; without it each name has 127.0.0.1.
    ///
    /// # Errors
    /// When the DNS server cannot be reached.
    pub async fn set_a(&self, name: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
        self.dns()?.set_a(name, addresses).await
    }

    /// The root of the chains that it issues, as PEM.
    ///
    /// # Errors
    /// When the management interface cannot be reached.
    pub async fn issuance_root_pem(&self) -> anyhow::Result<String> {
        let url = format!("{}/roots/0", self.at.management_url);
        let answer =
            client(&self.at.ca_file)?.get(&url).send().await.with_context(|| format!("asking {url}"))?;
        ensure!(answer.status().is_success(), "{url} answers {}", answer.status());
        Ok(answer.text().await?)
    }

    /// What was ordered and issued, counted at the proxy.
    ///
    /// # Errors
    /// When the proxy's control port cannot be reached.
    pub async fn counts(&self) -> anyhow::Result<Counts> {
        let url = format!("{}/proxy/counts", self.at.proxy_control_url);
        Ok(client(&self.at.ca_file)?.get(&url).send().await?.error_for_status()?.json().await?)
    }

    /// Has the CA answer for this certificate's renewal information whatever `answer` says (RFC 9773, 4.2): a window that is
    /// moved, or nonsense. Only Pebbles that offer renewal information can.
    ///
    /// # Errors
    /// When the management interface cannot be reached, or does not know the certificate.
    pub async fn set_renewal_info(&self, leaf_pem: &str, answer: &str) -> anyhow::Result<()> {
        let url = format!("{}/set-renewal-info/", self.at.management_url);
        let body = json!({ "Certificate": leaf_pem, "ARIResponse": answer });
        let done = client(&self.at.ca_file)?.post(&url).json(&body).send().await;
        let done = done.with_context(|| format!("asking {url}"))?;
        ensure!(done.status().is_success(), "{url} answers {}: {}", done.status(), done.text().await?);
        Ok(())
    }

    /// Makes each answer of the CA come this much later.
    ///
    /// # Errors
    /// When the proxy's control port cannot be reached.
    pub async fn set_delay(&self, delay: Duration) -> anyhow::Result<()> {
        let url = format!("{}/proxy/delay?ms={}", self.at.proxy_control_url, delay.as_millis());
        client(&self.at.ca_file)?.post(&url).send().await?.error_for_status()?;
        Ok(())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn client(root: &Path) -> anyhow::Result<reqwest::Client> {
    crate::tls::install();
    let pem = fs::read(root).with_context(|| format!("reading {}", root.display()))?;
    let client = reqwest::Client::builder()
        .user_agent(crate::tls::USER_AGENT)
        .timeout(Duration::from_millis(REQUEST_LIMIT_MS))
        .tls_certs_only([reqwest::Certificate::from_pem(&pem)?]);
    Ok(client.build()?)
}

async fn flavor(at: &Coordinates) -> anyhow::Result<CaFlavor> {
    let answer = client(&at.ca_file)?.get(&at.directory_url).send().await.context("asking the CA proxy")?;
    let directory: Value = answer.error_for_status()?.json().await?;
    let profiles = directory["meta"]["profiles"].as_object().map(|map| map.keys().cloned().collect());
    Ok(CaFlavor {
        renewal_info: directory["renewalInfo"].is_string(),
        profiles: profiles.unwrap_or_default(),
    })
}

async fn wait_answers(process: &Process, url: &str) -> anyhow::Result<()> {
    // This interface has no URL that answers 200 to a GET; that it takes a connection is enough.
    use crate::wait::{Pending, until};
    let client = reqwest::Client::builder()
        .user_agent(crate::tls::USER_AGENT)
        .timeout(Duration::from_millis(REQUEST_LIMIT_MS))
        .build()?;
    until(&format!("{} to answer", process.name()), Duration::from_secs(START_LIMIT_SECONDS), || async {
        if !process.is_running() {
            return Err(process.died());
        }
        client.get(url).send().await.map(drop).map_err(Pending::not_yet)
    })
    .await
}

async fn start_proxy(launcher: &Launcher, config: ProxyConfig, folder: &Path) -> anyhow::Result<ProxyHome> {
    if launcher.lifetime() == Lifetime::WithUs {
        return Ok(ProxyHome::Thread { _proxy: CaProxy::start(config)? });
    }
    let file = folder.join("proxy.json");
    fs::write(&file, serde_json::to_vec_pretty(&config)?)
        .with_context(|| format!("writing {}", file.display()))?;
    // A process of its own that is this very binary: xtask, which has the hidden command.
    let launch = Launch {
        name: "ca-proxy".into(),
        program: this_binary()?,
        args: vec!["ca-proxy".into(), "--config".into(), file.display().to_string()],
        env: BTreeMap::new(),
        address: config.listen.to_string(),
    };
    let process = launcher.spawn(launch)?;
    let ready = format!("http://{}/proxy/counts", config.control);
    wait_ready(&process, &ready, Duration::from_secs(START_LIMIT_SECONDS)).await?;
    Ok(ProxyHome::Process { _process: process })
}

/// Cargo may have built it anew since it was started; the kernel then says that the old file is gone.
fn this_binary() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("finding this binary")?;
    Ok(exe.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map_or(exe.clone(), PathBuf::from))
}
