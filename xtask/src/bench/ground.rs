// SPDX-License-Identifier: Apache-2.0
//! What the benches stand on: a replica set of their own, and migrated databases in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cap_boot::Cluster;
use cap_core::audit::{Action, Draft, Origin, Row};
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_core::id::ProjectId;
use cap_runtime::clock::SystemClock;
use cap_runtime::config::{KekConfig, KekProvider, MongoConfig};
use cap_runtime::entropy::OsEntropy;
use cap_testkit::mongo::driver::bson::Document;
use cap_testkit::mongo::driver::options::{ClientOptions, WriteConcern};
use cap_testkit::mongo::driver::{Client, Collection, Database, bson::doc};
use cap_testkit::mongo::{ReplicaSet, ReplicaSetOptions};
use cap_testkit::process::{Launcher, Lifetime};
use cap_testkit::scratch::Scratch;

use super::usage;

/// Connections of the bench's own client: more than it has in flight at once.
const CONNECTIONS: u32 = 160;

/// A replica set and a KEK. Fields end in their order: members, then files.
pub(crate) struct Ground {
    pub(crate) set: ReplicaSet,
    pub(crate) launcher: Arc<Launcher>,
    kek_dir: PathBuf,
    _scratch: Scratch,
}

/// One migrated database.
pub(crate) struct World {
    pub(crate) uri: String,
    pub(crate) name: String,
    pub(crate) kek_dir: PathBuf,
    pub(crate) cluster: Cluster,
    /// The database itself, past every interface of ours; its writes wait for a majority.
    pub(crate) raw: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) project: ProjectId,
}

/// The database of a process as our own services would open it.
pub(crate) async fn open(uri: &str, database: &str, kek_dir: &Path) -> anyhow::Result<Cluster> {
    let mongo = MongoConfig { uri: uri.into(), database: database.to_owned(), allow_plaintext: true };
    let kek = KekConfig { provider: KekProvider::File { dir: kek_dir.to_owned() } };
    let opened = cap_boot::open_now(&mongo, kek, Arc::new(SystemClock), Arc::new(OsEntropy)).await;
    opened.map_err(|failure| anyhow::anyhow!("opening the cluster: {failure:?}"))
}

impl Ground {
    pub(crate) async fn start(options: ReplicaSetOptions) -> anyhow::Result<Self> {
        let scratch = Scratch::create()?;
        let launcher = Arc::new(Launcher::new(scratch.path(), Lifetime::WithUs)?);
        let kek_dir = launcher.data_dir("kek")?;
        cap_connectors::kek::generate(&kek_dir, &OsEntropy)?;
        let set = ReplicaSet::start_in(&launcher, options).await?;
        Ok(Self { set, launcher, kek_dir, _scratch: scratch })
    }

    /// A migrated database of this name.
    pub(crate) async fn world(&self, name: &str) -> anyhow::Result<World> {
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
            (Arc::new(SystemClock), Arc::new(OsEntropy));
        let uri = self.set.uri_for(name);
        let kek = cap_connectors::kek::FileKek::open(&self.kek_dir, entropy.clone())?;
        let store = cap_store::Store::connect(&uri.clone().into(), None, "bench").await?;
        store.migrate(&kek, clock.as_ref(), entropy.as_ref()).await.context("migrating")?;
        let mut options = ClientOptions::parse(&uri).await?;
        options.max_pool_size = Some(CONNECTIONS);
        options.write_concern = Some(WriteConcern::majority());
        Ok(World {
            cluster: open(&uri, name, &self.kek_dir).await?,
            raw: Client::with_options(options)?.database(name),
            uri,
            name: name.to_owned(),
            kek_dir: self.kek_dir.clone(),
            project: ProjectId::generate(clock.as_ref(), entropy.as_ref()),
            clock,
            entropy,
        })
    }

    /// Has everything written out, so that what was done before does not weigh on what is measured next.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        self.set.checkpoint().await
    }

    /// What the primary counted, and all members used, so far.
    pub(crate) async fn counts(&self) -> anyhow::Result<Counts> {
        let status = self.set.command(self.set.primary().await?, doc! { "serverStatus": 1 }).await?;
        let transactions = status.get_document("transactions")?;
        let conflicts = status.get_document("metrics")?.get_document("operation")?;
        Ok(Counts {
            aborted: whole(transactions, "totalAborted")?,
            committed: whole(transactions, "totalCommitted")?,
            conflicts: whole(conflicts, "writeConflicts")?,
            cpu_seconds: self.cpu_seconds()?,
        })
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let member = |index| Ok((format!("mongod-{index}"), self.set.process(index)?.pid()));
        let members = (0..self.set.len()).map(member).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(usage::of(&members)?.values().map(|used| used.cpu_seconds).sum())
    }
}

/// What a primary counted, and all members used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) aborted: i64,
    pub(crate) committed: i64,
    pub(crate) conflicts: i64,
    pub(crate) cpu_seconds: f64,
}

impl Counts {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            aborted: self.aborted - before.aborted,
            committed: self.committed - before.committed,
            conflicts: self.conflicts - before.conflicts,
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
        }
    }
}

/// A count to reckon with.
pub(crate) fn real(count: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let real = count as f64;
    real
}

fn whole(document: &Document, name: &str) -> anyhow::Result<i64> {
    let value = document.get(name).with_context(|| format!("the server counts no {name}"))?;
    value.as_i64().or_else(|| value.as_i32().map(i64::from)).with_context(|| format!("{name}: {value}"))
}

impl World {
    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.raw.collection(name)
    }

    /// An audit row as a service would make it.
    pub(crate) async fn row(&self) -> anyhow::Result<Row> {
        let draft = Draft::new(Action::IssuerCreated, Some(self.project), "bench");
        Ok(self.cluster.auditor.row(&Origin::service("api"), &draft).await?)
    }

    /// The time until `boottime`, which every process of this host reads alike.
    pub(crate) fn since(&self, boottime: Duration) -> Duration {
        self.clock.boottime().saturating_sub(boottime)
    }
}
