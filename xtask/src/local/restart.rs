// SPDX-License-Identifier: Apache-2.0
//! A second `up`: what ended since the first is started again, with what it was started with.

use std::path::Path;
use std::time::Duration;

use cap_testkit::process::{Launcher, Lifetime, StateFile, wait_ready};

/// From start to ready, on a machine that is busy.
const READY_LIMIT_SECONDS: u64 = 60;
/// The variable that tells where a service of ours says that it is ready.
const ADMIN_VARIABLE: &str = "CAP_ADMIN_LISTEN";

/// Starts what ended; returns the names.
pub(super) async fn restart_ended(home: &Path, state: &StateFile) -> anyhow::Result<Vec<String>> {
    let alive = state.alive()?;
    let ended = state.processes.iter().filter(|record| !alive.iter().any(|other| other.id == record.id));
    let launcher = Launcher::new(home, Lifetime::Detached)?;
    let mut names = Vec::new();
    for record in ended {
        let name = record.launch.name.clone();
        println!("{name} has ended; starting it again");
        if name == "ca" {
            println!("  (Pebble keeps everything in memory: accounts and orders of before are gone)");
        }
        let process = launcher.spawn(record.launch.clone())?;
        if let Some(admin) = record.launch.env.get(ADMIN_VARIABLE) {
            let limit = Duration::from_secs(READY_LIMIT_SECONDS);
            wait_ready(&process, &format!("http://{admin}/readyz"), limit).await?;
        }
        names.push(name);
    }
    Ok(names)
}
