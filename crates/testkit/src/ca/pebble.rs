// SPDX-License-Identifier: Apache-2.0
//! Pebble with everything around it, as one thing: DNS server, CA, proxy. Where a stack says so, another CA is in its
//! place, behind the same interface.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dns::DnsServer;
use super::kind::CaKind;
use super::launches::{CA_PROCESS, START_LIMIT, pebble_launch, start_dns};
use super::pebble_config::{PebbleOptions, Ports};
use super::pki::Pki;
use super::proxy::{Counts, FaultRule, ProxyConfig};
use super::proxy_home::{ProxyHome, start_proxy};
use super::step_ca;
use crate::fetch;
use crate::process::{Launcher, Lifetime, PortLease, Process, reserve, reserve_one, wait_ready};
use crate::progress::say;
use crate::scratch::Scratch;

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
        let challtestsrv = start_dns(launcher, &binaries, dns, dns_management).await?;
        let ports = Ports { acme, management, http: http.port(), tls: tls.port() };
        let pebble = launcher.spawn(pebble_launch(&binaries, &options, ports, dns, &pki, &folder)?)?;
        wait_ready(&pebble, &format!("https://127.0.0.1:{acme}/dir"), START_LIMIT).await?;
        let config = ProxyConfig {
            listen: loopback(listen),
            control: loopback(control),
            upstream: loopback(acme),
            certificate_file: pki.proxy.certificate.clone(),
            key_file: pki.proxy.key.clone(),
            root_file: pki.root.clone(),
            is_gated: true,
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
        Ok(Self::assembled(at, proxy, vec![pebble, challtestsrv], leases))
    }

    /// A CA of this kind under this launcher's folder. Of the options, step-ca has the addresses alone.
    ///
    /// # Errors
    /// When the CA cannot be had or does not start.
    pub async fn start_kind_in(
        kind: CaKind,
        launcher: &Arc<Launcher>,
        options: PebbleOptions,
    ) -> anyhow::Result<Self> {
        match kind {
            CaKind::Pebble => Self::start_in(launcher, options).await,
            CaKind::StepCa => step_ca::start_in(launcher, &options.challenge_addresses).await,
        }
    }

    pub(super) fn assembled(
        at: Coordinates,
        proxy: ProxyHome,
        processes: Vec<Process>,
        leases: Vec<PortLease>,
    ) -> Self {
        Self { at, _proxy: Some(proxy), processes, _leases: leases, _scratch: None }
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
        self.issuance_root_pem_of(0).await
    }

    /// One of its roots, where it has several (`PEBBLE_ALTERNATE_ROOTS`), as PEM.
    ///
    /// # Errors
    /// When the management interface cannot be reached, or there is no such root.
    pub async fn issuance_root_pem_of(&self, number: u8) -> anyhow::Result<String> {
        let url = format!("{}/roots/{number}", self.at.management_url);
        let answer =
            client(&self.at.ca_file)?.get(&url).send().await.with_context(|| format!("asking {url}"))?;
        ensure!(answer.status().is_success(), "{url} answers {}", answer.status());
        Ok(answer.text().await?)
    }

    /// What the CA says of the certificate with this serial number, hex: `Status` is `Valid` or `Revoked`, `Reason` the code of
    /// the reason (RFC 5280, 5.3.1).
    ///
    /// # Errors
    /// When the management interface cannot be reached, or does not know the certificate.
    pub async fn certificate_status(&self, serial: &str) -> anyhow::Result<Value> {
        let url = format!("{}/cert-status-by-serial/{serial}", self.at.management_url);
        let answer =
            client(&self.at.ca_file)?.get(&url).send().await.with_context(|| format!("asking {url}"))?;
        ensure!(answer.status().is_success(), "{url} answers {}", answer.status());
        Ok(answer.json().await?)
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

    /// Whether this CA finds the order of the certificate that a renewal says it replaces, by what RFC 9773, 4.1 calls that
    /// certificate. Pebble 2.10.1 looks for the serial number's bytes as they are in the certificate, where one in 256 begins
    /// with a zero that keeps it positive, among numbers without that zero: those it never finds.
    #[must_use]
    pub fn finds(ari_id: &str) -> bool {
        let serial = ari_id.rsplit_once('.').and_then(|(_, serial)| URL_SAFE_NO_PAD.decode(serial).ok());
        serial.is_some_and(|serial| serial.first().is_some_and(|first| *first != 0))
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

    /// Has the proxy inject a fault, beside those that it injects already.
    ///
    /// # Errors
    /// When the rule would inject nothing, or the proxy's control port cannot be reached.
    pub async fn inject(&self, rule: &FaultRule) -> anyhow::Result<()> {
        let url = format!("{}/proxy/faults", self.at.proxy_control_url);
        let done = client(&self.at.ca_file)?.post(&url).json(rule).send().await?;
        ensure!(done.status().is_success(), "{url} answers {}: {}", done.status(), done.text().await?);
        Ok(())
    }

    /// Ends every fault. Orders that failed stay failed.
    ///
    /// # Errors
    /// When the proxy's control port cannot be reached.
    pub async fn heal(&self) -> anyhow::Result<()> {
        let url = format!("{}/proxy/faults", self.at.proxy_control_url);
        client(&self.at.ca_file)?.delete(&url).send().await?.error_for_status()?;
        Ok(())
    }
}

pub(super) fn loopback(port: u16) -> SocketAddr {
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

pub(super) async fn flavor(at: &Coordinates) -> anyhow::Result<CaFlavor> {
    let answer = client(&at.ca_file)?.get(&at.directory_url).send().await.context("asking the CA proxy")?;
    let directory: Value = answer.error_for_status()?.json().await?;
    let profiles = directory["meta"]["profiles"].as_object().map(|map| map.keys().cloned().collect());
    Ok(CaFlavor {
        renewal_info: directory["renewalInfo"].is_string(),
        profiles: profiles.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_that_begins_with_a_zero_is_not_found() {
        assert!(!Pebble::finds("Wi1IF82LPEG5zKf7o-mJBt5AFTo.ALEMyL_PumY"));
        assert!(Pebble::finds("Wi1IF82LPEG5zKf7o-mJBt5AFTo.QLEMyL_PumY") && Pebble::finds("AQ.fw"));
    }
}
