// SPDX-License-Identifier: Apache-2.0
//! step-ca in Pebble's place: the same DNS server, the same proxy with its gate off, the same coordinates.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use super::launches::{CA_PROCESS, START_LIMIT, start_dns};
use super::pebble::{CaFlavor, Coordinates, Pebble, flavor, loopback};
use super::pki::{Pki, write_key};
use super::proxy::ProxyConfig;
use super::proxy_home::start_proxy;
use crate::fetch;
use crate::process::{Launch, Launcher, PortLease, reserve, reserve_one, wait_ready};
use crate::progress::say;

/// The provisioner's name, which is a part of each URL.
const PROVISIONER: &str = "acme";
/// As long as Pebble's certificates here live: 90 days.
const VALIDITY: &str = "2160h";

/// A step-ca under this launcher's folder, which looks for HTTP-01 at these addresses.
pub(super) async fn start_in(launcher: &Arc<Launcher>, challenges: &[Ipv4Addr]) -> anyhow::Result<Pebble> {
    crate::tls::install();
    let program = tokio::task::spawn_blocking(fetch::step_ca).await.context("obtaining step-ca")??;
    let binaries = tokio::task::spawn_blocking(fetch::pebble).await.context("obtaining the DNS server")??;
    say("starting the CA: step-ca, its DNS server, the CA proxy");
    let folder = launcher.data_dir("ca")?;
    let pki = Pki::create(&folder)?;
    let authority = Authority::create(&folder)?;
    let (http, tls) = (reserve(challenges)?, reserve(challenges)?);
    let leases: Vec<PortLease> = (0..5).map(|_| reserve_one()).collect::<anyhow::Result<_>>()?;
    let [acme, dns, dns_management, listen, control] =
        <[u16; 5]>::try_from(leases.iter().map(PortLease::port).collect::<Vec<_>>())
            .map_err(|_| anyhow::anyhow!("five ports"))?;
    let challtestsrv = start_dns(launcher, &binaries, dns, dns_management).await?;

    let config = folder.join("step-ca.json");
    let text = serde_json::to_vec_pretty(&authority.configuration(acme, &folder))?;
    fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    let step_ca = launcher.spawn(launch(program, &config, http.port(), tls.port(), dns, acme, &folder))?;
    let directory = format!("/acme/{PROVISIONER}/directory");
    wait_ready(&step_ca, &format!("https://127.0.0.1:{acme}{directory}"), START_LIMIT).await?;
    let config = ProxyConfig {
        listen: loopback(listen),
        control: loopback(control),
        upstream: loopback(acme),
        certificate_file: pki.proxy.certificate.clone(),
        key_file: pki.proxy.key.clone(),
        root_file: authority.root.clone(),
        is_gated: false,
    };
    let proxy = start_proxy(launcher, config, &folder).await?;
    let mut at = Coordinates {
        directory_url: format!("https://127.0.0.1:{listen}{directory}"),
        ca_file: pki.root,
        management_url: format!("https://127.0.0.1:{acme}"),
        dns_management_url: format!("http://127.0.0.1:{dns_management}"),
        dns_server: loopback(dns),
        proxy_control_url: format!("http://127.0.0.1:{control}"),
        http_port: http.port(),
        tls_port: tls.port(),
        flavor: CaFlavor::default(),
    };
    at.flavor = flavor(&at).await?;
    let leases = leases.into_iter().chain([http, tls]).collect();
    Ok(Pebble::assembled(at, proxy, vec![step_ca, challtestsrv], leases))
}

fn launch(
    program: PathBuf,
    config: &Path,
    http: u16,
    tls: u16,
    dns: u16,
    acme: u16,
    folder: &Path,
) -> Launch {
    Launch {
        name: CA_PROCESS.into(),
        program,
        args: vec![
            config.display().to_string(),
            format!("--resolver=127.0.0.1:{dns}"),
            format!("--acme-http-port={http}"),
            format!("--acme-tls-port={tls}"),
            // What it calls insecure are the ports of challenges that are not 80 and 443.
            "--insecure".into(),
        ],
        env: BTreeMap::from([("STEPPATH".to_owned(), folder.display().to_string())]),
        address: format!("127.0.0.1:{acme}"),
    }
}

/// The files of the authority that it issues with.
struct Authority {
    root: PathBuf,
    intermediate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        let root = CertifiedIssuer::self_signed(
            params("step-ca root", BasicConstraints::Unconstrained),
            KeyPair::generate()?,
        )?;
        let key = KeyPair::generate()?;
        let intermediate =
            params("step-ca intermediate", BasicConstraints::Constrained(0)).signed_by(&key, &root)?;
        let files = Self {
            root: folder.join("step-root.pem"),
            intermediate: folder.join("step-intermediate.pem"),
            key: folder.join("step-intermediate.key"),
        };
        fs::write(&files.root, root.pem()).with_context(|| format!("writing {}", files.root.display()))?;
        fs::write(&files.intermediate, intermediate.pem())?;
        write_key(&files.key, &key.serialize_pem())?;
        Ok(files)
    }

    fn configuration(&self, port: u16, folder: &Path) -> Value {
        json!({
            "root": self.root,
            "crt": self.intermediate,
            "key": self.key,
            "address": format!("127.0.0.1:{port}"),
            "dnsNames": ["localhost", IpAddr::V4(Ipv4Addr::LOCALHOST)],
            "logger": { "format": "text" },
            "db": { "type": "badgerv2", "dataSource": folder.join("step-db") },
            "authority": { "provisioners": [{
                "type": "ACME",
                "name": PROVISIONER,
                "challenges": ["http-01"],
                "claims": { "maxTLSCertDuration": VALIDITY, "defaultTLSCertDuration": VALIDITY },
            }] },
        })
    }
}

fn params(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
