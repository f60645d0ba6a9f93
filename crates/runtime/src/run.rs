// SPDX-License-Identifier: Apache-2.0
//! From the first instruction of a service to its exit code.

use std::future::Future;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::{COMMIT, CommonArgs, VERSION};
use crate::clock::SystemClock;
use crate::config::{Config, Faults, Group, ServiceConfig};
use crate::drain::{Shutdown, Signals, supervise};
use crate::entropy::OsEntropy;
use crate::exit::{Exit, Failure, OrExit};
use crate::health::Readiness;
use crate::metrics::Metrics;
use crate::role::Role;
use crate::{admin, harden, serve, telemetry};

/// What every service has once it has started.
#[derive(Debug)]
pub struct Process {
    /// Which service it is.
    pub role: Role,
    /// What it was told.
    pub service: ServiceConfig,
    /// The system's clocks.
    pub clock: Arc<dyn Clock>,
    /// The system's random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Its metrics, shown by the admin listener.
    pub metrics: Metrics,
    /// Its readiness, shown by the admin listener: unready until every check of its role has a probe that passed.
    pub readiness: Readiness,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// Runs a service: parses the arguments and the whole configuration, then hardens the process, turns log lines on,
/// opens the admin listener and calls `main`. When `main` returns the process ends.
///
/// `main` gets the process and the groups of the configuration that it named. It returns `Ok` once it has drained
/// after [`Shutdown::soft`]; it must return soon after [`Shutdown::hard`], or is ended.
pub fn run<G, F, Fut>(role: Role, main: F) -> ExitCode
where
    G: Group,
    F: FnOnce(Process, G) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    match CommonArgs::parse_for(role, std::env::args_os()) {
        Ok(args) => run_with(role, &args, main).into(),
        Err(told) => {
            // Help and the version are told this way too, and are no fault.
            let _ = told.print();
            let exit = if told.use_stderr() { Exit::Config } else { Exit::Ok };
            exit.into()
        }
    }
}

/// [`run`] with arguments that are parsed already.
pub fn run_with<G, F, Fut>(role: Role, args: &CommonArgs, main: F) -> Exit
where
    G: Group,
    F: FnOnce(Process, G) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let refused = harden::memory();
    harden::tls();
    let mut config = Config::load(args);
    let (service, own) = match settings::<G>(&mut config) {
        Ok(settings) => settings,
        Err(faults) => return tell(&faults, Exit::Config),
    };
    if args.check_config {
        return tell(&"the configuration has no fault", Exit::Ok);
    }
    if let Err(error) = telemetry::start(&service.log, service.log_format) {
        return tell(&error, Exit::Config);
    }
    tracing::info!(
        role = role.name(),
        version = VERSION,
        commit = COMMIT,
        instance = service.instance_name,
        "starting"
    );
    for warning in config.warnings().iter().chain(&refused) {
        tracing::warn!("{warning}");
    }
    let ended = catch_unwind(AssertUnwindSafe(|| started(role, service, own, main)));
    match ended {
        Ok(Ok(())) => Exit::Ok,
        Ok(Err(failure)) => {
            tracing::error!(exit = failure.exit().code(), "{failure}");
            failure.exit()
        }
        // The panic hook has logged it.
        Err(_) => Exit::Bug,
    }
}

fn settings<G: Group>(config: &mut Config) -> Result<(ServiceConfig, G), Faults> {
    #[cfg(feature = "drill")]
    crate::drill::install()?;
    config.finish()
}

/// One line on stderr, before log lines are on.
fn tell(what: &dyn std::fmt::Display, exit: Exit) -> Exit {
    let _ = writeln!(std::io::stderr(), "{what}");
    exit
}

fn started<G, F, Fut>(role: Role, service: ServiceConfig, own: G, main: F) -> Result<(), Failure>
where
    F: FnOnce(Process, G) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let tokio = tokio.context("starting the threads").or_exit(Exit::Refused)?;
    let ended = tokio.block_on(live(role, service, own, main));
    // Blocking calls that nobody waits for any more must not hold the exit.
    tokio.shutdown_background();
    ended
}

async fn live<G, F, Fut>(role: Role, service: ServiceConfig, own: G, main: F) -> Result<(), Failure>
where
    F: FnOnce(Process, G) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let readiness = Readiness::new(Arc::clone(&clock));
    // Before anybody can ask: what has not been looked at yet is not ready.
    for check in role.checks() {
        readiness.expect(check);
    }
    let metrics = Metrics::new(role).context("registering metrics").or_exit(Exit::Bug)?;
    let shutdown = Shutdown::new();
    let signals = Signals::install().context("taking SIGTERM").or_exit(Exit::Refused)?;
    let listen = service.admin_listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen}; is CAP_ADMIN_LISTEN free on this host?"))
        .or_exit(Exit::Refused)?;
    let open_at = listener.local_addr().context("asking for the address").or_exit(Exit::Refused)?;
    tracing::info!(%open_at, "the admin listener is open");
    let shown = admin::router(metrics.clone(), readiness.clone());
    let end = CancellationToken::new();
    tokio::spawn(serve::serve(listener, shown, None, admin::BOUNDS, end.clone()));
    let bounds = (role.hold(&service), service.shutdown_grace);
    tokio::spawn(supervise(shutdown.clone(), readiness.clone(), signals, bounds));

    let began = clock.boottime();
    let stop = shutdown.clone();
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let process = Process { role, service, clock: Arc::clone(&clock), entropy, metrics, readiness, shutdown };
    main(process, own).await?;
    // A service that ended by itself stops its tasks, too; `supervise` bounds the wait.
    let was_asked = stop.soft().is_cancelled();
    stop.begin();
    stop.tasks().close();
    stop.tasks().wait().await;
    end.cancel();
    let ran_s = clock.boottime().saturating_sub(began).as_secs();
    if stop.hard().is_cancelled() {
        let error = anyhow::anyhow!("the drain was cut short; what was in hand was handed back or runs out");
        return Err(Failure::new(Exit::Aborted, error));
    }
    tracing::info!(ran_s, was_asked, "drained; nothing was left in hand");
    Ok(())
}
