// SPDX-License-Identifier: Apache-2.0
//! Where the proxy lives: in a thread of ours, or in a process of its own that outlives us.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::proxy::{CaProxy, ProxyConfig};
use crate::process::{Launch, Launcher, Lifetime, Process, wait_ready};

/// It reads three files and listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Held, never looked at.
#[derive(Debug)]
pub(super) enum ProxyHome {
    Thread { _proxy: CaProxy },
    Process { _process: Process },
}

pub(super) async fn start_proxy(
    launcher: &Launcher,
    config: ProxyConfig,
    folder: &Path,
) -> anyhow::Result<ProxyHome> {
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
    wait_ready(&process, &ready, START_LIMIT).await?;
    Ok(ProxyHome::Process { _process: process })
}

/// Cargo may have built it anew since it was started; the kernel then says that the old file is gone.
fn this_binary() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("finding this binary")?;
    Ok(exe.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map_or(exe.clone(), PathBuf::from))
}
