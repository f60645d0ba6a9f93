// SPDX-License-Identifier: Apache-2.0
//! `certautopilot-api`: the REST API and the HTTP-01 responder.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use cap_api::{API_BOUNDS, App, CHALLENGE_BOUNDS, Entrance, Metrics, Overload, Waiting};
use cap_core::instance::Doing;
use cap_core::retention::Retention;
use cap_runtime::config::{ApiConfig, KekConfig, MongoConfig};
use cap_runtime::{Exit, Failure, OrExit, Process, Role, serve};
use cap_store::ChallengeCache;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    cap_runtime::run(Role::Api, answer)
}

async fn answer(
    process: Process,
    (mongo, kek, config, retention): (MongoConfig, KekConfig, ApiConfig, Retention),
) -> Result<(), Failure> {
    let tls = config.tls.as_ref().map(serve::tls).transpose().or_exit(Exit::Config)?;
    let metrics = Metrics::new(process.metrics.registry()).or_exit(Exit::Bug)?;
    let waiting = Arc::new(Waiting {
        readiness: process.readiness.clone(),
        clock: process.clock.clone(),
        entropy: process.entropy.clone(),
        metrics: metrics.clone(),
    });
    let api = bind(config.listen, "CAP_API_LISTEN").await?;
    let challenge = bind(config.challenge_listen, "CAP_CHALLENGE_LISTEN").await?;
    // Before the cluster is open: without a quorum whoever asks is told so, and not refused a connection.
    let (for_callers, for_cas) = (Entrance::default(), Entrance::default());
    let callers = for_callers.router(cap_api::api_waiting(waiting.clone()));
    let cas = for_cas.router(cap_api::challenges_waiting(waiting));
    tracing::info!(listen = %config.listen, challenge_listen = %config.challenge_listen, tls = tls.is_some(), "listening");
    // Readiness goes first and the listeners stay for a while: whoever routes requests must notice before they end.
    let closed = CancellationToken::new();
    let closing = process.shutdown.tasks().clone();
    closing.spawn(serve::serve(api, callers, tls, API_BOUNDS, closed.clone()));
    closing.spawn(serve::serve(challenge, cas, None, CHALLENGE_BOUNDS, closed.clone()));
    let Some(cluster) = cap_boot::open(&process, &mongo, kek).await? else {
        closed.cancel();
        return Ok(());
    };
    let member = cap_boot::enrol(&process, &cluster.store, || Doing::Api);
    let challenges = ChallengeCache::new(cluster.store.clone(), cluster.clock.clone());
    let app = Arc::new(App {
        store: cluster.store.keeping(retention).working_in_groups(),
        keyring: cluster.keyring,
        auditor: cluster.auditor,
        canary: cluster.canary,
        kek_provider: cluster.kek.provider(),
        challenges: challenges.clone(),
        readiness: process.readiness.clone(),
        clock: cluster.clock,
        entropy: process.entropy.clone(),
        metrics,
        overload: Overload::new(&config.limits),
    });
    for_callers.open(cap_api::api(app.clone()));
    for_cas.open(cap_api::challenges(app));
    tracing::info!("answering");
    let stop = process.shutdown.soft();
    tokio::select! {
        () = challenges.follow() => {}
        () = async { stop.cancelled().await; process.clock.sleep(process.service.shutdown_delay).await } => {}
    }
    closed.cancel();
    member.leave();
    Ok(())
}

async fn bind(address: SocketAddr, variable: &str) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).await;
    bound
        .with_context(|| format!("listening on {address}; is {variable} free on this host?"))
        .or_exit(Exit::Refused)
}
