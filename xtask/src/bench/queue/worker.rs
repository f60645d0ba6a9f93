// SPDX-License-Identifier: Apache-2.0
//! A worker of the bench: this program again, as a process of its own. It runs the product's own runner, with its
//! claimer, its heart, its recorder and its handlers, at a CA that answers at once.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use cap_connectors::lookout::TlsLookout;
use cap_core::certificate::RevocationReason;
use cap_core::clock::Clock;
use cap_core::entropy::{self, Entropy};
use cap_core::id::ClaimId;
use cap_core::job::Room;
use cap_core::limits::{CLAIM_BATCH, JOB_PARTITIONS};
use cap_core::order::{CaAccount, CaError, CaRequest, CertificateAuthority};
use cap_core::outbound::Outbound;
use cap_core::problem::{Class, Problem};
use cap_core::secret::SecretSlice;
use cap_runtime::clock::SystemClock;
use cap_runtime::entropy::OsEntropy;
use cap_store::Search;
use cap_worker::{Metrics, Runner, Sight};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bench::ground::{self, World};

/// What an account's URL begins with at the CA that answers at once; the rest is when it was asked (boot time, ns).
const ACCOUNT: &str = "https://ca.bench.invalid/account/";
/// No job of a bench is claimed twice because of its length.
const LEASE: Duration = Duration::from_secs(600);
/// From the end of its input to the end of the process.
const END_LIMIT: Duration = Duration::from_secs(20);
/// Partitions of one look, as the runner's.
const NARROW: usize = 8;
/// The wait of a claimer that found nothing.
const EMPTY_WAIT: Duration = Duration::from_millis(5);

/// What a worker of the bench does.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Runs jobs, so many at the CA at once.
    Run(usize),
    /// Claims jobs and leaves them alone, from when it is told to begin.
    Claim,
}

/// What it is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    uri: String,
    database: String,
    kek_dir: PathBuf,
    name: String,
    task: Task,
}

/// What a claimer says at its end; times since boot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Claimed {
    pub(crate) jobs: usize,
    pub(crate) first_began: Duration,
    pub(crate) last_ended: Duration,
    pub(crate) took: Vec<Duration>,
}

/// A running one. It ends when its input does, so none outlives us.
pub(crate) struct Worker {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one, and waits until it is at work.
    pub(crate) async fn start(world: &World, name: String, task: Task) -> anyhow::Result<Self> {
        let orders = Orders {
            uri: world.uri.clone(),
            database: world.name.clone(),
            kek_dir: world.kek_dir.clone(),
            name,
            task,
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bench-worker").arg("--orders").arg(serde_json::to_string(&orders)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting a worker of the bench")?;
        let output = child.stdout.take().context("a worker has an output")?;
        let mut worker = Self { child, output: BufReader::new(output) };
        let said = worker.line().await?;
        ensure!(said == "ready", "a worker of the bench said {said:?}");
        Ok(worker)
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).await?;
        Ok(line.trim_end().to_owned())
    }

    /// Tells it to begin.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        let input = self.child.stdin.as_mut().context("a worker has an input")?;
        input.write_all(b"\n").await.context("telling a worker of the bench to begin")
    }

    /// Ends it; answers what it says then.
    pub(crate) async fn end(mut self) -> anyhow::Result<String> {
        drop(self.child.stdin.take());
        let end = async {
            let said = self.line().await?;
            let status = self.child.wait().await?;
            ensure!(status.success(), "a worker of the bench ended with {status}");
            Ok(said)
        };
        tokio::time::timeout(END_LIMIT, end).await.context("a worker of the bench does not end")?
    }
}

/// When the CA was asked, as the account's URL tells.
pub(crate) fn asked_at(account_url: &str) -> Option<Duration> {
    account_url.strip_prefix(ACCOUNT)?.parse().ok().map(Duration::from_nanos)
}

/// The CA that answers at once.
struct InstantCa(Arc<dyn Clock>);

#[async_trait]
impl CertificateAuthority for InstantCa {
    async fn register(&self, _: &CaRequest) -> Result<String, CaError> {
        Ok(format!("{ACCOUNT}{}", self.0.boottime().as_nanos()))
    }

    async fn tell_contacts(&self, _: &CaRequest, _: &str) -> Result<(), CaError> {
        Err(no_more())
    }

    async fn find(&self, _: &CaRequest) -> Result<Option<String>, CaError> {
        Err(no_more())
    }

    async fn change_key(&self, _: &CaRequest, _: &str, _: &Arc<SecretSlice<u8>>) -> Result<(), CaError> {
        Err(no_more())
    }

    async fn deactivate(&self, _: &CaRequest, _: &str) -> Result<(), CaError> {
        Err(no_more())
    }

    async fn revoke_by_key(
        &self,
        _: &CaRequest,
        _: &[u8],
        _: &SecretSlice<u8>,
        _: RevocationReason,
    ) -> Result<(), CaError> {
        Err(no_more())
    }

    async fn account(&self, _: &CaRequest, _: &str) -> Result<Arc<dyn CaAccount>, CaError> {
        Err(no_more())
    }
}

fn no_more() -> CaError {
    CaError::Refused(Problem::new(Class::Protocol, "bench", "this CA registers accounts and no more"))
}

/// The process itself.
pub(crate) async fn run(orders: &str) -> anyhow::Result<ExitCode> {
    let orders: Orders = serde_json::from_str(orders)?;
    let cluster = ground::open(&orders.uri, &orders.database, &orders.kek_dir).await?;
    let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(OsEntropy));
    let (stop, begin) = (CancellationToken::new(), Arc::new(Notify::new()));
    let (input_ended, told) = (stop.clone(), begin.clone());
    std::thread::spawn(move || {
        while std::io::stdin().read(&mut [0]).is_ok_and(|read| read > 0) {
            told.notify_one();
        }
        input_ended.cancel();
    });
    println!("ready");
    let ended = match orders.task {
        Task::Run(concurrency) => {
            let world = cap_worker::World {
                store: cluster.store.working_in_groups(),
                ca: Arc::new(InstantCa(clock.clone())),
                lookout: Arc::new(TlsLookout::new(Outbound::default())),
                keyring: cluster.keyring,
                auditor: cluster.auditor,
                clock,
                entropy,
                fuse: u32::MAX,
            };
            let metrics = Metrics::new(&prometheus::Registry::new())?;
            let runner = Runner::new(Arc::new(world), orders.name, concurrency, LEASE, metrics);
            runner.run(stop, END_LIMIT / 2).await;
            "ended".to_owned()
        }
        Task::Claim => {
            stop.run_until_cancelled(begin.notified()).await;
            let claimed =
                claim(&cluster.store, &orders.name, clock.as_ref(), entropy.as_ref(), &stop).await?;
            serde_json::to_string(&claimed)?
        }
    };
    println!("{ended}");
    // The driver tidies up behind its clients, which a runtime that ends would cut short with a panic.
    std::process::exit(0)
}

/// Claims what there is until it is told to stop, looking as a runner with much to do looks.
async fn claim(
    store: &cap_store::Store,
    name: &str,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    stop: &CancellationToken,
) -> anyhow::Result<Claimed> {
    let (mut claimed, held) = (Claimed::default(), BTreeMap::new());
    let mut sight = Sight::default();
    while !stop.is_cancelled() {
        let start = u16::try_from(entropy::below(entropy, u64::from(JOB_PARTITIONS)))?;
        let all: Vec<u16> = (0..JOB_PARTITIONS).map(|offset| (start + offset) % JOB_PARTITIONS).collect();
        let mut jobs = 0;
        let lanes = sight.lanes(clock.boottime()).cloned();
        let quick = lanes.as_ref().map(|lanes| (&all[..NARROW], Some(lanes)));
        for (partitions, lanes) in quick.into_iter().chain([(&all[..NARROW], None), (&all, None)]) {
            let token = ClaimId::generate(clock, entropy);
            let began = clock.boottime();
            let room = Room { all: CLAIM_BATCH, side: 0 };
            let search = Search::anything(room, partitions, &held, clock.now());
            let search = Search { by_lanes: true, is_crowded: true, lanes, ..search };
            // One that met others too often says so, and is made again.
            jobs = match store.claim_jobs(name, token, LEASE, &search).await {
                Ok(found) => {
                    if lanes.is_none() {
                        sight.saw_lanes((began, clock.boottime()), found.lanes);
                    }
                    found.claims.len()
                }
                Err(error) => {
                    eprintln!("{name}: a claim was not answered: {error}");
                    0
                }
            };
            if jobs > 0 {
                let ended = clock.boottime();
                if claimed.jobs == 0 {
                    claimed.first_began = began;
                }
                claimed.jobs += jobs;
                claimed.last_ended = ended;
                claimed.took.push(ended.saturating_sub(began));
                break;
            }
        }
        if jobs == 0 {
            tokio::time::sleep(EMPTY_WAIT).await;
        }
    }
    Ok(claimed)
}
