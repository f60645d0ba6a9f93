// SPDX-License-Identifier: Apache-2.0
//! `certautopilot-worker`: claims jobs and drives them to their end.

use std::process::ExitCode;
use std::sync::Arc;

use cap_acme::Acme;
use cap_connectors::lookout::TlsLookout;
use cap_core::instance::Doing;
use cap_core::limits;
use cap_core::retention::Retention;
use cap_runtime::config::{KekConfig, MongoConfig, OutboundConfig, WorkerConfig};
use cap_runtime::{Exit, Failure, OrExit, Process, Role};
use cap_worker::{Drained, Metrics, Runner, World};

fn main() -> ExitCode {
    cap_runtime::run(Role::Worker, work)
}

async fn work(
    process: Process,
    (mongo, kek, config, retention, outbound): (
        MongoConfig,
        KekConfig,
        WorkerConfig,
        Retention,
        OutboundConfig,
    ),
) -> Result<(), Failure> {
    let Some(cluster) = cap_boot::open(&process, &mongo, kek).await? else { return Ok(()) };
    let metrics = Metrics::new(process.metrics.registry()).or_exit(Exit::Bug)?;
    let (counted, concurrency) = (metrics.clone(), u32::try_from(config.concurrency).unwrap_or(u32::MAX));
    let doing = move || Doing::Worker { running: counted.running(), concurrency };
    let member = cap_boot::enrol(&process, &cluster.store, doing);
    // A request that outlived its lease could meet a peer's: it ends well before.
    let request = limits::CA_REQUEST.min(config.job_lease / 3);
    let acme = Acme::new(cluster.clock.clone(), request, process.metrics.registry()).or_exit(Exit::Bug)?;
    let world = World {
        store: cluster.store.keeping(retention).working_in_groups(),
        ca: Arc::new(acme),
        lookout: Arc::new(TlsLookout::new(outbound.rule)),
        keyring: cluster.keyring,
        auditor: cluster.auditor,
        clock: cluster.clock,
        entropy: process.entropy.clone(),
        fuse: config.fuse,
    };
    let name = process.service.instance_name.clone();
    let runner = Runner::new(Arc::new(world), name, config.concurrency, config.job_lease, metrics);
    match runner.run(process.shutdown.soft(), process.service.shutdown_grace).await {
        Drained::Clean => {
            member.leave();
            Ok(())
        }
        Drained::Abandoned(jobs) => {
            let error = anyhow::anyhow!(
                "{jobs} jobs did not end in time; peers resume them when their leases run out"
            );
            Err(Failure::new(Exit::Aborted, error))
        }
    }
}
