// SPDX-License-Identifier: Apache-2.0
//! How Pebble and the DNS server are started, in every version that may be in use.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::pebble_config::{PebbleOptions, Ports};
use super::pki::Pki;
use crate::fetch::PebbleBinaries;
use crate::process::{Launch, Launcher, Process};
use crate::wait::{Pending, until};

/// A CA makes a root key and listens.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);
/// One question to the DNS server's management interface.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// The CA's name among the processes of a stack.
pub(super) const CA_PROCESS: &str = "ca";

/// Starts the DNS server; it answers when this returns.
pub(super) async fn start_dns(
    launcher: &Launcher,
    binaries: &PebbleBinaries,
    dns: u16,
    management: u16,
) -> anyhow::Result<Process> {
    let process = launcher.spawn(challtestsrv_launch(binaries, dns, management)).context("the DNS server")?;
    // This interface has no URL that answers 200 to a GET; that it takes a connection is enough.
    let url = format!("http://127.0.0.1:{management}/dns-request-history");
    let client =
        reqwest::Client::builder().user_agent(crate::tls::USER_AGENT).timeout(REQUEST_LIMIT).build()?;
    until(&format!("{} to answer", process.name()), START_LIMIT, || async {
        if !process.is_running() {
            return Err(process.died());
        }
        client.get(&url).send().await.map(drop).map_err(Pending::not_yet)
    })
    .await?;
    Ok(process)
}

fn challtestsrv_launch(binaries: &PebbleBinaries, dns: u16, management: u16) -> Launch {
    let flags = Flags::of(&binaries.challtestsrv);
    let mut args = vec![
        // Pebble 2.4 has the older name only.
        if flags.offers("dnsserver") { "-dnsserver" } else { "-dns01" }.to_owned(),
        format!("127.0.0.1:{dns}"),
        "-management".to_owned(),
        format!("127.0.0.1:{management}"),
        "-defaultIPv4".to_owned(),
        "127.0.0.1".to_owned(),
        "-defaultIPv6=".to_owned(),
        // HTTP-01 and TLS-ALPN-01 are answered by the system under test.
        "-http01=".to_owned(),
        "-https01=".to_owned(),
        "-tlsalpn01=".to_owned(),
    ];
    // On by default where it exists.
    if flags.offers("doh") {
        args.push("-doh=".to_owned());
    }
    Launch {
        name: "challtestsrv".into(),
        program: binaries.challtestsrv.clone(),
        args,
        env: BTreeMap::new(),
        address: format!("127.0.0.1:{management}"),
    }
}

/// What a program's help says of its flags: a Go program refuses one that it does not know.
struct Flags(String);

impl Flags {
    fn of(program: &Path) -> Self {
        let help = Command::new(program).arg("-help").output();
        Self(help.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default())
    }

    fn offers(&self, name: &str) -> bool {
        let mut words = self.0.lines().filter_map(|line| line.split_whitespace().next());
        words.any(|word| word.strip_prefix('-') == Some(name))
    }
}

pub(super) fn pebble_launch(
    binaries: &PebbleBinaries,
    options: &PebbleOptions,
    ports: Ports,
    dns: u16,
    pki: &Pki,
    folder: &Path,
) -> anyhow::Result<Launch> {
    let config = folder.join("pebble.json");
    let text = serde_json::to_vec_pretty(&options.configuration(&ports, &pki.pebble))?;
    fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    Ok(Launch {
        name: CA_PROCESS.into(),
        program: binaries.pebble.clone(),
        args: vec![
            "-config".into(),
            config.display().to_string(),
            "-dnsserver".into(),
            format!("127.0.0.1:{dns}"),
        ],
        env: options.environment(),
        address: format!("127.0.0.1:{}", ports.acme),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_known_by_its_whole_name() {
        let help = "Usage of x:\n  -doh-cert string\n    \tPath to -doh of\n  -dns01 string\n";
        let flags = Flags(help.to_owned());
        assert!(flags.offers("dns01") && flags.offers("doh-cert"));
        assert!(!flags.offers("doh") && !flags.offers("dnsserver"));
    }
}
