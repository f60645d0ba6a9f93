// SPDX-License-Identifier: Apache-2.0
//! `certautopilot-scheduler`: competes for the lease; the leader plans what is due.

use std::process::ExitCode;

use cap_core::instance::{Doing, Standing};
use cap_core::retention::Retention;
use cap_runtime::config::{KekConfig, MongoConfig, SchedulerConfig};
use cap_runtime::{Exit, Failure, OrExit, Process, Role};
use cap_scheduler::{Metrics, Scheduler};
use tokio::sync::watch;

fn main() -> ExitCode {
    cap_runtime::run(Role::Scheduler, schedule)
}

async fn schedule(
    process: Process,
    (mongo, kek, config, retention): (MongoConfig, KekConfig, SchedulerConfig, Retention),
) -> Result<(), Failure> {
    let Some(cluster) = cap_boot::open(&process, &mongo, kek).await? else { return Ok(()) };
    let (standing, stands) = watch::channel(Standing::StandsBy);
    let member = cap_boot::enrol(&process, &cluster.store, move || Doing::Scheduler(*stands.borrow()));
    let scheduler = Scheduler {
        store: cluster.store.keeping(retention),
        auditor: cluster.auditor,
        instance: process.service.instance_name.clone(),
        ttl: config.lease,
        clock: process.clock.clone(),
        entropy: process.entropy.clone(),
        metrics: Metrics::new(process.metrics.registry(), process.clock.clone()).or_exit(Exit::Bug)?,
        standing,
    };
    scheduler.run(process.shutdown.soft()).await;
    member.leave();
    Ok(())
}
