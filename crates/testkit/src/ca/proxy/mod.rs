// SPDX-License-Identifier: Apache-2.0
//! The CA proxy: stands in front of every CA, and is what clients know as the CA.
//!
//! It keeps Pebble from deadlocking ([`gate`]), finishes every call although the client left ([`server`]), counts
//! what was ordered and issued ([`ledger`]), can answer later, and injects faults ([`faults`]). It changes no request:
//! Host is kept, because CAs build their URLs from it and each request's signature covers its URL.
//!
//! ```text
//! client ── faults ── gate ── Pebble        (step-ca needs no gate)
//!              control port: GET /proxy/counts, POST /proxy/delay?ms=N, GET POST DELETE /proxy/faults
//! ```

mod control;
mod faults;
mod gate;
mod ledger;
mod route;
mod server;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use faults::{Fault, FaultRule, Wrong};
pub use ledger::{Counts, NameSetCounts};
pub use route::Asked;

use faults::Faults;
use gate::Gate;
use ledger::Ledger;
use upstream::Upstream;

/// Enough to keep Pebble busy on a small machine, and to serve the control port meanwhile.
const THREADS: usize = 2;

/// Where the proxy listens, and what stands behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProxyConfig {
    /// ACME over TLS.
    pub listen: SocketAddr,
    /// Counts and settings, plain HTTP.
    pub control: SocketAddr,
    /// The CA.
    pub upstream: SocketAddr,
    /// The proxy's certificate.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The root that vouches for the CA's TLS.
    pub root_file: PathBuf,
    /// Whether the CA is one that must be kept from deadlocking: Pebble.
    pub is_gated: bool,
}

/// What the parts of the proxy share.
#[derive(Debug)]
struct Shared {
    faults: Faults,
    gate: Option<Gate>,
    ledger: Ledger,
    upstream: Upstream,
    delay_ms: AtomicU64,
}

impl Shared {
    fn counts(&self) -> Counts {
        let (faults, too_early) = self.faults.counts();
        Counts { faults, too_early, ..self.ledger.counts() }
    }

    fn set_delay(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))
    }
}

/// A proxy on a thread of its own, so that it outlives the runtime of the test that started it. Ends on drop.
#[derive(Debug)]
pub struct CaProxy {
    shared: Arc<Shared>,
    config: ProxyConfig,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl CaProxy {
    /// Starts it; it listens when this returns.
    ///
    /// # Errors
    /// When a file cannot be read or an address is taken.
    pub fn start(config: ProxyConfig) -> anyhow::Result<Self> {
        let shared = Arc::new(shared(&config)?);
        let (stop, stopped) = oneshot::channel();
        let (ready, listening) = std::sync::mpsc::channel();
        let (for_thread, its_config) = (shared.clone(), config.clone());
        let thread = std::thread::Builder::new().name("ca-proxy".into()).spawn(move || {
            let serve = || -> anyhow::Result<()> {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(THREADS)
                    .enable_all()
                    .build()?;
                let told = ready.clone();
                runtime.block_on(async {
                    let servers = server::listen(&its_config, for_thread).await?;
                    told.send(Ok(())).map_err(|_| anyhow!("nobody waits for the proxy"))?;
                    tokio::select! {
                        () = servers.run() => {}
                        _ = stopped => {}
                    }
                    Ok(())
                })
            };
            if let Err(error) = serve() {
                let _nobody_waits = ready.send(Err(error));
            }
        });
        let thread = thread.context("starting the proxy's thread")?;
        listening.recv().context("the proxy's thread ended")?.context("starting the CA proxy")?;
        Ok(Self { shared, config, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs it until the process is told to end: for a process of its own.
    ///
    /// # Errors
    /// When a file cannot be read or an address is taken.
    pub async fn run(config: ProxyConfig) -> anyhow::Result<()> {
        let servers = server::listen(&config, Arc::new(shared(&config)?)).await?;
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            () = servers.run() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }

    /// The ACME directory.
    #[must_use]
    pub fn directory_url(&self) -> String {
        format!("https://{}/dir", self.config.listen)
    }

    /// What was ordered and issued.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Makes each answer come this much later.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.set_delay(delay);
    }
}

impl Drop for CaProxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ended_already = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _its_panic_was_printed = thread.join();
        }
    }
}

fn shared(config: &ProxyConfig) -> anyhow::Result<Shared> {
    crate::tls::install();
    Ok(Shared {
        faults: Faults::default(),
        gate: config.is_gated.then(Gate::default),
        ledger: Ledger::default(),
        upstream: Upstream::new(config.upstream, &config.root_file)?,
        delay_ms: AtomicU64::new(0),
    })
}
