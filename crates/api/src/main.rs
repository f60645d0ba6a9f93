// SPDX-License-Identifier: Apache-2.0
//! `certautopilot-api`: the REST API and the HTTP-01 responder.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use cap_api::{API_BOUNDS, App, CHALLENGE_BOUNDS, Metrics, Overload};
use cap_core::instance::Doing;
use cap_core::retention::Retention;
use cap_runtime::config::{ApiConfig, KekConfig, MongoConfig};
use cap_runtime::{Exit, Failure, OrExit, Process, Role, serve};
use cap_store::ChallengeCache;
use tokio::net::TcpListener;

fn main() -> ExitCode {
    cap_runtime::run(Role::Api, answer)
}

async fn answer(
    process: Process,
    (mongo, kek, config, retention): (MongoConfig, KekConfig, ApiConfig, Retention),
) -> Result<(), Failure> {
    let tls = config.tls.as_ref().map(serve::tls).transpose().or_exit(Exit::Config)?;
    let Some(cluster) = cap_boot::open(&process, &mongo, kek).await? else { return Ok(()) };
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
        metrics: Metrics::new(process.metrics.registry()).or_exit(Exit::Bug)?,
        overload: Overload::new(&config.limits),
    });
    let api = bind(config.listen, "CAP_API_LISTEN").await?;
    let challenge = bind(config.challenge_listen, "CAP_CHALLENGE_LISTEN").await?;
    tracing::info!(listen = %config.listen, challenge_listen = %config.challenge_listen, tls = tls.is_some(), "answering");
    let stop = process.shutdown.soft();
    let closing = process.shutdown.tasks().clone();
    // Readiness goes first and the listeners stay for a while: whoever routes requests must notice before they end.
    let closed = tokio_util::sync::CancellationToken::new();
    closing.spawn(serve::serve(api, cap_api::api(app.clone()), tls, API_BOUNDS, closed.clone()));
    closing.spawn(serve::serve(challenge, cap_api::challenges(app), None, CHALLENGE_BOUNDS, closed.clone()));
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
