// SPDX-License-Identifier: Apache-2.0
//! MongoDB: repositories, transactions, migrations.
//!
//! The only crate that names the driver. Its sessions and filters never leave it: one method is one atomic fact, and
//! every filter is made of typed values, so nothing that a client sends can become an operator. It decides nothing
//! about certificates, orders or jobs; it only refuses writes whose conditions no longer hold.

mod abandoned;
mod attention;
mod audit;
mod certificates;
mod challenges;
mod cleanup;
mod clock;
mod document;
mod drift;
mod duties;
mod error;
mod fact;
mod far_looks;
mod idempotency;
mod instances;
mod issuers;
mod jobs;
mod keys;
mod leases;
mod notices;
mod orders;
mod projects;
mod reader;
mod recorder;
mod renewal_info;
mod renewals;
mod revocations;
mod schema;
mod stream;
mod tokens;
mod topology;
mod totals;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use cap_core::id::ProjectId;
use cap_core::retention::Retention;
use mongodb::options::{ClientOptions, ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{Client, Collection, Database};
use secrecy::{ExposeSecret, SecretString};

pub use certificates::{CertificateChange, CertificateRecord, Deleted, VersionRecord};
pub use challenges::ChallengeCache;
pub use cleanup::Expiring;
pub use clock::DatabaseClock;
pub use drift::enrolment::{DriftChange, Enrolment, ProjectDrift};
pub use drift::{DriftFound, DriftRecord, DriftSeen};
pub use error::StoreError;
pub use idempotency::{Mutation, Replay, Request};
pub use instances::Beat;
pub use issuers::{
    ExternalRecord, HoldRecord, IssuerChange, IssuerDeleted, IssuerRecord, IssuerUser, Registration, Rolled,
    RolloverRecord,
};
pub use jobs::{
    Claimed, Extended, JobAttempt, JobFilter, JobRecord, JobRefusal, JobWatch, LanesSeen, Search,
};
pub use leases::{LeaseWatch, SCHEDULER_LEASE};
pub use notices::{Due, NoticeRecord, Noticed};
pub use orders::{OpenOrder, Opened, Parked};
pub use projects::{ProjectChange, ProjectRecord};
pub use recorder::Writer;
pub use renewal_info::{DueLook, Looked, RenewalInfoRecord, RenewalInfoSeen};
pub use renewals::Planned;
pub use revocations::{IssuedChain, RevocationAsked, RevocationRecord, Revoked};
pub use schema::{MigrateError, SchemaStatus};
pub use tokens::TokenRecord;
pub use topology::{MemberStanding, MemberState, ReplicaSetState};
pub use totals::{COUNT_PAGE, TotalRecord};

use crate::error::{classify, timed_out};
use crate::reader::Look;

/// The longest that one try of anything may take; beyond it the outcome is unknown.
pub const TRY_BOUND: Duration = Duration::from_secs(5);
/// The longest wait for a TCP and TLS connection. The driver has no socket time-out, so this bounds how long a dead
/// host is tried.
const CONNECT_BOUND: Duration = Duration::from_secs(2);
/// The longest that a primary tries to have itself confirmed.
const CONFIRM_BOUND: Duration = Duration::from_millis(1_400);
/// How often the driver looks at every member.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The longest wait for a primary.
const SELECTION_BOUND: Duration = Duration::from_secs(5);
/// Connections of one process at most: a claimer, a heart, streams, and requests beside them.
const POOL: u32 = 64;
/// How long the database keeps a change stream's question before it answers that nothing happened. What does happen is
/// answered at once, so this only says how often a quiet stream asks: each second, were it not given.
const STREAM_WAIT: Duration = Duration::from_secs(10);
/// The database when neither the URI nor the configuration names one.
const DATABASE: &str = "certautopilot";

/// The database of one cluster.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    database: Database,
    recorder: Option<recorder::Recorder>,
    reader: Option<reader::Reader>,
    retention: Retention,
    unread_jobs: Arc<jobs::Told>,
}

impl Store {
    /// Prepares to use the database at `uri`. Nothing is sent to it yet: whether it answers shows at the first call.
    ///
    /// Writes are acknowledged by a majority and reads come from the primary's majority, whatever the URI says.
    ///
    /// # Errors
    /// When the URI cannot be used; [`StoreError::Unavailable`] when the DNS does not know the hosts of a `mongodb+srv`
    /// URI now.
    pub async fn connect(uri: &SecretString, database: Option<&str>, app: &str) -> Result<Self, StoreError> {
        const LOOKUP: &str = "be found in the DNS";
        let refused = |cause| StoreError::Refused { doing: "use CAP_MONGO_URI", cause };
        let unusable = |error: mongodb::error::Error| match *error.kind {
            mongodb::error::ErrorKind::InvalidArgument { message, .. } => refused(message),
            mongodb::error::ErrorKind::DnsResolve { message, .. } => {
                StoreError::Unavailable { doing: LOOKUP, cause: message }
            }
            other => refused(other.to_string()),
        };
        // The name of a `mongodb+srv` URI is looked up here.
        let parsed = tokio::time::timeout(TRY_BOUND, ClientOptions::parse(uri.expose_secret()));
        let parsed = parsed.await.map_err(|_| timed_out(LOOKUP, TRY_BOUND))?;
        let mut options = parsed.map_err(unusable)?;
        options.app_name = Some(app.to_owned());
        options.connect_timeout = Some(CONNECT_BOUND);
        options.heartbeat_freq = Some(HEARTBEAT);
        options.server_selection_timeout = Some(SELECTION_BOUND);
        options.max_pool_size = Some(POOL);
        options.retry_writes = Some(true);
        options.retry_reads = Some(true);
        options.read_concern = Some(ReadConcern::majority());
        options.write_concern = Some(transaction::acknowledged());
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        let name = database.map(str::to_owned).or_else(|| options.default_database.clone());
        let client = Client::with_options(options).map_err(unusable)?;
        let database = client.database(name.as_deref().unwrap_or(DATABASE));
        let (retention, unread_jobs) = (Retention::default(), Arc::default());
        Ok(Self { client, database, recorder: None, reader: None, retention, unread_jobs })
    }

    /// Whether the database has a primary that a majority follows. A primary that is cut off answers other reads until
    /// it knows; this one waits for a majority to confirm it.
    ///
    /// # Errors
    /// When there is none, or no answer in time.
    pub async fn confirm_primary(&self) -> Result<(), StoreError> {
        let migrations = self.collection::<Document>("migrations");
        let read = migrations.find_one(doc! { "_id": 1 }).projection(doc! { "_id": 1 });
        let read = read.read_concern(ReadConcern::linearizable()).max_time(CONFIRM_BOUND);
        bounded("have the primary confirmed by a majority", read).await?;
        Ok(())
    }

    /// The same store, which keeps what is over for as long as `retention` says; without it, as long as its default says.
    #[must_use]
    pub fn keeping(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// How long what is over is kept.
    #[must_use]
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// A project's record by its id. The database finds by the id alone, which takes it half as long as by both.
    async fn record_of(
        &self,
        doing: &'static str,
        collection: &'static str,
        project: ProjectId,
        id: &str,
    ) -> Result<Option<Document>, StoreError> {
        let found = self.find_record(doing, collection, id).await?;
        let project = project.to_string();
        Ok(found.filter(|record| record.get_str("project").is_ok_and(|of| of == project)))
    }

    /// The record of this id, found together with what other tasks of this process ask for where the store works in groups.
    async fn find_record(
        &self,
        doing: &'static str,
        collection: &'static str,
        id: &str,
    ) -> Result<Option<Document>, StoreError> {
        Ok(self.look_up(doing, Look::Records(collection), vec![id.to_owned()]).await?.pop())
    }

    async fn look_up(
        &self,
        doing: &'static str,
        look: Look,
        ids: Vec<String>,
    ) -> Result<Vec<Document>, StoreError> {
        match &self.reader {
            Some(reader) => reader.find(doing, look, ids).await,
            None => bounded(doing, look.find(self, &ids)).await,
        }
    }

    fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.database.collection(name)
    }
}

/// Runs one try of something against the database, bounded by [`TRY_BOUND`].
async fn bounded<T>(
    doing: &'static str,
    work: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(TRY_BOUND, work.into_future()).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(classify(doing, &error).error),
        Err(_) => Err(timed_out(doing, TRY_BOUND)),
    }
}
