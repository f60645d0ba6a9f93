// SPDX-License-Identifier: Apache-2.0
//! Opens the cluster for a process: database, schema, KEK, keyring, auditor.
//!
//! The one place where the services and the offline verbs of the CLI put store and KEK provider together. It creates
//! nothing: `schema migrate` does that, everybody else waits for it.

mod member;
mod probes;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cap_connectors::kek::{EnvKek, FileKek};
use cap_core::audit::Auditor;
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_core::envelope::{Canary, Kek, KekError, Keyring};
use cap_runtime::config::{KekConfig, KekProvider, MongoConfig};
use cap_runtime::{Exit, Failure, OrExit, Process};
use cap_store::{DatabaseClock, SchemaStatus, Store, StoreError};

pub use member::{Membership, enrol};
use probes::{KekProbe, MongoProbe, SchemaProbe};

/// The wait between two looks at a database that is away or not migrated yet.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two log lines about the same wait.
const LOOKS_PER_LINE: u32 = 10;

/// A cluster that this process may use.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its database.
    pub store: Store,
    /// Who holds its KEKs.
    pub kek: Arc<dyn Kek>,
    /// The canary of the KEK version in use.
    pub canary: Canary,
    /// Seals and opens.
    pub keyring: Arc<Keyring>,
    /// Makes audit entries.
    pub auditor: Auditor,
    /// The time that all of them go by: the database's, in a service.
    pub clock: Arc<dyn Clock>,
}

/// The database, not asked anything yet.
///
/// # Errors
/// When its URI cannot be used (64), or the DNS does not know its hosts now (69).
pub async fn store(config: &MongoConfig, app: &str) -> Result<Store, Failure> {
    let connected = Store::connect(&config.uri, Some(&config.database), app).await;
    connected.map_err(|error| Failure::new(exit_of(&error), error))
}

/// What a URI that was not taken ends a process with.
fn exit_of(error: &StoreError) -> Exit {
    match error {
        StoreError::Unavailable { .. } => Exit::Refused,
        StoreError::Refused { .. }
        | StoreError::Conflict { .. }
        | StoreError::Fenced
        | StoreError::Replayed(_)
        | StoreError::Corrupt { .. } => Exit::Config,
    }
}

/// The KEK provider.
///
/// # Errors
/// When it cannot be read, or has no key.
pub fn kek(config: KekConfig, entropy: Arc<dyn Entropy>) -> Result<Arc<dyn Kek>, Failure> {
    Ok(match config.provider {
        KekProvider::File { dir } => Arc::new(FileKek::open(&dir, entropy).or_exit(Exit::Config)?),
        KekProvider::Env { keys } => Arc::new(EnvKek::new(keys, entropy).or_exit(Exit::Config)?),
    })
}

/// Opens the cluster for a service: waits for the database and its name in the DNS, for an older schema to be migrated, for the KEK
/// provider to answer, and for the database's time, which is followed from then on. Nothing when the process was asked to stop meanwhile.
///
/// # Errors
/// When the schema is one that this build must not touch (69), or the KEK is the wrong one (78).
pub async fn open(
    process: &Process,
    mongo: &MongoConfig,
    kek_config: KekConfig,
) -> Result<Option<Cluster>, Failure> {
    // The KEK first: a provider that cannot be read is a fault that no waiting mends.
    let kek = kek(kek_config, process.entropy.clone())?;
    let stop = process.shutdown.soft();
    let opening = async {
        let store = wait_for_store(mongo, process.role.binary(), process.clock.as_ref()).await?;
        let probe = MongoProbe { store: store.clone(), role: process.role };
        process.readiness.watch(Arc::new(probe), stop.clone());
        process.readiness.watch(Arc::new(SchemaProbe(store.clone())), stop.clone());
        let canary = wait_for_canary(&store, process.clock.as_ref()).await?;
        // Before the wait, so that readiness tells why it is waited for.
        let probe = KekProbe { canary: canary.clone(), kek: kek.clone() };
        process.readiness.watch(Arc::new(probe), stop.clone());
        wait_for_kek(&canary, kek.as_ref(), process.clock.as_ref()).await?;
        let clock = Arc::new(DatabaseClock::new(process.clock.clone()));
        wait_for_time(&clock, &store, process.clock.as_ref()).await?;
        Ok::<_, Failure>((store, canary, clock))
    };
    let (store, canary, clock) = tokio::select! {
        opened = opening => opened?,
        () = stop.cancelled() => return Ok(None),
    };
    let (followed, of) = (clock.clone(), store.clone());
    let follow = async move { match followed.follow(&of).await {} };
    process.shutdown.tasks().spawn(stop.run_until_cancelled_owned(follow));
    let instance = process.service.instance_name.clone();
    Ok(Some(assemble(store, kek, canary, instance, clock, process.entropy.clone())))
}

/// Opens the cluster for a verb that is run by hand: nothing is waited for.
///
/// # Errors
/// When the database does not answer or is not migrated (69), or the KEK is the wrong one (78).
pub async fn open_now(
    mongo: &MongoConfig,
    kek_config: KekConfig,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Cluster, Failure> {
    let store = store(mongo, "certautopilot").await?;
    let kek = kek(kek_config, entropy.clone())?;
    judge(store.schema_status().await.or_exit(Exit::Refused)?)?.ok_or_else(not_migrated)?;
    let canary = store.canary().await.or_exit(Exit::Refused)?.ok_or_else(not_migrated)?;
    canary.check(kek.as_ref()).await.map_err(refused_by_kek)?;
    Ok(assemble(store, kek, canary, "cli".to_owned(), clock, entropy))
}

/// What the KEK's refusal ends a process with.
#[must_use]
pub fn refused_by_kek(error: KekError) -> Failure {
    let exit = match error {
        KekError::Wrong(_) | KekError::UnknownVersion(_) => Exit::WrongKek,
        KekError::Unavailable(_) => Exit::Refused,
    };
    Failure::new(exit, error)
}

fn assemble(
    store: Store,
    kek: Arc<dyn Kek>,
    canary: Canary,
    instance: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Cluster {
    let keys = Arc::new(store.clone());
    let keyring = Arc::new(Keyring::new(&canary, kek.clone(), keys, clock.clone(), entropy.clone()));
    let auditor = Auditor::new(instance, keyring.clone(), clock.clone(), entropy);
    Cluster { store, kek, canary, keyring, auditor, clock }
}

fn not_migrated() -> Failure {
    Failure::new(
        Exit::Refused,
        anyhow::anyhow!("the database is not migrated; run `certautopilot schema migrate`"),
    )
}

/// Whether the schema can be used now; nothing when it must be migrated first.
fn judge(status: SchemaStatus) -> Result<Option<()>, Failure> {
    match status {
        SchemaStatus::Current(_) => Ok(Some(())),
        SchemaStatus::Older { .. } => Ok(None),
        SchemaStatus::Unknown { database, build } => {
            let error = anyhow::anyhow!(
                "the database has schema {database}, and this build knows {build}: it is newer or was changed by hand; \
                 use the build that migrated it"
            );
            Err(Failure::new(Exit::Refused, error))
        }
    }
}

/// Looks until what was waited for is there, or never will be; says now and then what is in the way.
async fn wait<T>(
    clock: &dyn Clock,
    mut look: impl AsyncFnMut() -> Result<Result<T, String>, Failure>,
) -> Result<T, Failure> {
    let mut looks = 0_u32;
    loop {
        let waits_for = match look().await? {
            Ok(there) => return Ok(there),
            Err(waits_for) => waits_for,
        };
        if looks.is_multiple_of(LOOKS_PER_LINE) {
            tracing::warn!("waiting: {waits_for}");
        }
        looks = looks.wrapping_add(1);
        clock.sleep(LOOK).await;
    }
}

async fn wait_for_store(mongo: &MongoConfig, app: &str, clock: &dyn Clock) -> Result<Store, Failure> {
    wait(clock, async || match Store::connect(&mongo.uri, Some(&mongo.database), app).await {
        Ok(store) => Ok(Ok(store)),
        Err(error @ StoreError::Unavailable { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(Failure::new(exit_of(&error), error)),
    })
    .await
}

async fn wait_for_time(told: &DatabaseClock, store: &Store, clock: &dyn Clock) -> Result<(), Failure> {
    wait(clock, async || match told.look(store).await {
        true => Ok(Ok(())),
        false => {
            Ok(Err("the database's time, which it does not say, or not soon enough to be of use".to_owned()))
        }
    })
    .await
}

async fn wait_for_canary(store: &Store, clock: &dyn Clock) -> Result<Canary, Failure> {
    wait(clock, async || look(store).await).await
}

/// The canary, or what must happen before there is one.
async fn look(store: &Store) -> Result<Result<Canary, String>, Failure> {
    let unmigrated =
        "the database is not migrated to this build's schema; run `certautopilot schema migrate`";
    let status = match store.schema_status().await {
        Ok(status) => status,
        Err(error @ StoreError::Unavailable { .. }) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error).context("reading the schema").or_exit(Exit::Refused),
    };
    if judge(status)?.is_none() {
        return Ok(Err(unmigrated.to_owned()));
    }
    match store.canary().await {
        Ok(Some(canary)) => Ok(Ok(canary)),
        Ok(None) => Ok(Err(unmigrated.to_owned())),
        Err(error @ StoreError::Unavailable { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error).context("reading the KEK canary").or_exit(Exit::Refused),
    }
}

async fn wait_for_kek(canary: &Canary, kek: &dyn Kek, clock: &dyn Clock) -> Result<(), Failure> {
    wait(clock, async || match canary.check(kek).await {
        Ok(()) => Ok(Ok(())),
        Err(error @ KekError::Unavailable(_)) => Ok(Err(error.to_string())),
        Err(error @ (KekError::Wrong(_) | KekError::UnknownVersion(_))) => Err(refused_by_kek(error)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn exit(uri: &str) -> Exit {
        let config =
            MongoConfig { uri: uri.into(), database: "certautopilot".to_owned(), allow_plaintext: false };
        store(&config, "test").await.unwrap_err().exit()
    }

    #[tokio::test]
    async fn a_name_that_the_dns_does_not_know_is_no_fault_of_the_configuration() {
        // The domain `invalid` never has a name (RFC 6761, 6.4), whether or not a DNS can be asked.
        assert_eq!(exit("mongodb+srv://db.cluster.invalid/x").await, Exit::Refused);
    }

    #[tokio::test]
    async fn a_uri_that_makes_no_sense_is_one() {
        for uri in ["nonsense", "mongodb+srv://a.b.test,c.d.test/x", "mongodb://h/?w=some&maxPoolSize=x"] {
            assert_eq!(exit(uri).await, Exit::Config, "{uri}");
        }
    }
}
