// SPDX-License-Identifier: Apache-2.0
//! Ending the processes of the local stack, in order, each within a bound.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use cap_testkit::process::{Record, Signal, StateFile};
use cap_testkit::wait::{self, Pending};

/// A drain may take `CAP_SHUTDOWN_GRACE`, 45 s, after a short delay.
const SERVICES_LIMIT_SECONDS: u64 = 60;
/// They keep nothing.
const CA_LIMIT_SECONDS: u64 = 5;
/// A member flushes its journal; a primary steps down first.
const MONGOD_LIMIT_SECONDS: u64 = 30;
/// After SIGKILL only the kernel has work to do.
const KILL_LIMIT_SECONDS: u64 = 10;

/// Who ends together. Each group needs those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Services,
    Ca,
    Mongod,
}

impl Group {
    const ORDER: [Self; 3] = [Self::Services, Self::Ca, Self::Mongod];

    fn of(name: &str) -> Self {
        match name {
            "ca" | "ca-proxy" | "challtestsrv" => Self::Ca,
            mongod if mongod.starts_with("mongod-") => Self::Mongod,
            _ => Self::Services,
        }
    }

    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Services => SERVICES_LIMIT_SECONDS,
            Self::Ca => CA_LIMIT_SECONDS,
            Self::Mongod => MONGOD_LIMIT_SECONDS,
        })
    }
}

/// Ends every process that is written down, and forgets them. Returns how many ran.
pub(super) async fn stop_all(home: &Path) -> anyhow::Result<usize> {
    let Some(state) = StateFile::load(home)? else { return Ok(0) };
    let alive = state.alive()?;
    for group in Group::ORDER {
        let members: Vec<&Record> =
            alive.iter().copied().filter(|r| Group::of(&r.launch.name) == group).collect();
        stop_group(&members, group.limit()).await?;
    }
    StateFile::forget(home)?;
    Ok(alive.len())
}

async fn stop_group(members: &[&Record], limit: Duration) -> anyhow::Result<()> {
    for record in members {
        record.id.signal(Signal::TERM)?;
        // A paused process hears SIGTERM only when it goes on.
        record.id.signal(Signal::CONT)?;
    }
    if gone(members, limit).await.is_ok() {
        return Ok(());
    }
    for record in members.iter().filter(|record| record.id.is_alive()) {
        eprintln!("{} did not end within {limit:?}: killing it", record.launch.name);
        record.id.signal(Signal::KILL)?;
    }
    if let Err(error) = gone(members, Duration::from_secs(KILL_LIMIT_SECONDS)).await {
        bail!("a process cannot be killed: {error:#}");
    }
    Ok(())
}

async fn gone(members: &[&Record], limit: Duration) -> anyhow::Result<()> {
    wait::until("processes to end", limit, || async {
        let left: Vec<&str> =
            members.iter().filter(|r| r.id.is_alive()).map(|r| r.launch.name.as_str()).collect();
        if left.is_empty() { Ok(()) } else { Err(Pending::not_yet(left.join(", "))) }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_end_before_what_they_need() {
        let order = |name: &str| Group::ORDER.iter().position(|group| *group == Group::of(name)).unwrap();
        for service in ["api-0", "worker-1", "scheduler-0"] {
            assert!(order(service) < order("ca-proxy"));
            assert!(order("ca") < order("mongod-2"));
        }
    }
}
