// SPDX-License-Identifier: Apache-2.0
//! The schema: numbered, checksummed, idempotent migrations, run under a lease and refused when the database is newer.

mod held;

use std::time::Duration;

use bson::{Document, doc};
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_core::envelope::{Canary, Kek, KekError};
use cap_core::id::{ClusterId, InstanceId};
use futures_util::TryStreamExt;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::document::{date, read};
use crate::error::StoreError;
use crate::{Store, bounded};

/// Every migration that this build knows, in order; the number is the position.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/0001_foundation.json"),
    include_str!("../../../migrations/0002_queue.json"),
    include_str!("../../../migrations/0003_lanes.json"),
    include_str!("../../../migrations/0004_members.json"),
    include_str!("../../../migrations/0005_retention.json"),
    include_str!("../../../migrations/0006_drift.json"),
    include_str!("../../../migrations/0007_bounds.json"),
    include_str!("../../../migrations/0008_renewal_info.json"),
    include_str!("../../../migrations/0009_plans_and_ranks.json"),
    include_str!("../../../migrations/0010_budgets.json"),
    include_str!("../../../migrations/0011_due.json"),
    include_str!("../../../migrations/0012_lists.json"),
    include_str!("../../../migrations/0013_lists_of_kinds.json"),
];
/// The lease that keeps two migrations from running at once.
pub(crate) const LEASE: &str = "schema";
/// How long a migration's lease lasts; it is extended beside a command that takes longer.
const LEASE_TTL: Duration = Duration::from_secs(60);
/// Extensions within the length of a lease: two may get no answer.
const EXTENSIONS: u32 = 3;
/// How long a migration waits for another that is running.
const LEASE_WAIT: Duration = Duration::from_secs(120);
/// The wait between two looks at a lease that somebody else has.
const LEASE_LOOK: Duration = Duration::from_millis(500);
/// The server's codes for an index that is gone already and a collection that exists: a command that was run before.
const RUN_BEFORE: [i32; 2] = [27, 48];

/// How the database's schema stands to the one that this build knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaStatus {
    /// The same.
    Current(u32),
    /// Older: it must be migrated first.
    Older {
        /// The database's.
        database: u32,
        /// This build's.
        build: u32,
    },
    /// Newer, or changed by hand: this build must not touch it.
    Unknown {
        /// The database's.
        database: u32,
        /// This build's.
        build: u32,
    },
}

/// Why a migration did not happen.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database is newer than this build.
    #[error("the database has schema {database}, this build knows only up to {build}; use a newer build")]
    Newer {
        /// The database's.
        database: u32,
        /// This build's.
        build: u32,
    },
    /// A migration that was applied is not the one that this build has under that number.
    #[error(
        "migration {0} was applied with another content than this build's; use the build that applied it"
    )]
    Changed(u32),
    /// Another migration is running.
    #[error("another process is migrating; wait for it and try again")]
    Busy,
    /// The KEK is not the one that the database was sealed with, or has no version at all.
    #[error(transparent)]
    Kek(#[from] KekError),
}

#[derive(Deserialize)]
struct Migration {
    number: u32,
    name: String,
    commands: Vec<Document>,
}

#[derive(Deserialize)]
struct Applied {
    #[serde(rename = "_id")]
    number: u32,
    sha256: String,
}

#[derive(Deserialize)]
struct Cluster {
    cluster_id: ClusterId,
}

impl Store {
    /// How the database's schema stands to this build's.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn schema_status(&self) -> Result<SchemaStatus, StoreError> {
        let applied = self.applied().await?;
        let build = number(MIGRATIONS.len());
        let database = applied.iter().map(|migration| migration.number).max().unwrap_or(0);
        Ok(match changed(&applied) {
            Some(_) => SchemaStatus::Unknown { database, build },
            None if database < build => SchemaStatus::Older { database, build },
            None => SchemaStatus::Current(database),
        })
    }

    /// Brings the schema up to this build's, and makes the cluster id and the KEK canary where there are none yet.
    /// Answers the numbers of the migrations that were applied.
    ///
    /// # Errors
    /// When the database is newer or was changed, when the KEK is the wrong one, or when the database fails; running
    /// it again goes on where it stopped.
    pub async fn migrate(
        &self,
        kek: &dyn Kek,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u32>, MigrateError> {
        // Before anything is written: a wrong KEK must not leave a trace.
        if let Some(canary) = self.canary().await? {
            canary.check(kek).await?;
        }
        let nonce = InstanceId::generate(clock, entropy).to_string();
        let deadline = clock.boottime() + LEASE_WAIT;
        let term = loop {
            if let Some(term) = self.acquire_lease(LEASE, &nonce, &nonce, LEASE_TTL, clock).await? {
                break term;
            }
            if clock.boottime() >= deadline {
                return Err(MigrateError::Busy);
            }
            clock.sleep(LEASE_LOOK).await;
        };
        let result = self.migrate_under_lease(term, kek, clock, entropy).await;
        if let Err(error) = self.release_lease(LEASE, term).await {
            // It runs out by itself; what became of the schema says more.
            tracing::debug!(%error, "the lease of migrations was not given up");
        }
        result
    }

    async fn migrate_under_lease(
        &self,
        mut term: cap_core::lease::Term,
        kek: &dyn Kek,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u32>, MigrateError> {
        let applied = self.applied().await?;
        let (database, build) =
            (applied.iter().map(|m| m.number).max().unwrap_or(0), number(MIGRATIONS.len()));
        if database > build {
            return Err(MigrateError::Newer { database, build });
        }
        if let Some(number) = changed(&applied) {
            return Err(MigrateError::Changed(number));
        }
        let mut done = Vec::new();
        for text in MIGRATIONS {
            let migration: Migration = serde_json::from_str(text).map_err(|error| StoreError::Corrupt {
                collection: "migrations",
                cause: error.to_string(),
            })?;
            if migration.number <= database {
                continue;
            }
            term = self.apply(&migration, text, term, clock).await?;
            done.push(migration.number);
        }
        self.establish(kek, clock, entropy).await?;
        Ok(done)
    }

    /// Runs a migration under the lease, which is extended before each of its commands and beside it.
    async fn apply(
        &self,
        migration: &Migration,
        text: &str,
        mut term: cap_core::lease::Term,
        clock: &dyn Clock,
    ) -> Result<cap_core::lease::Term, StoreError> {
        const DOING: &str = "run a migration";
        for command in &migration.commands {
            term = self.extend_lease(LEASE, term, LEASE_TTL, clock).await?;
            let bound = held::bound(command);
            let ran = tokio::time::timeout(bound, self.database.run_command(command.clone()));
            let extend = || self.extend_lease(LEASE, term, LEASE_TTL, clock);
            match held::held(ran, LEASE_TTL / EXTENSIONS, extend).await? {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if matches!(error.kind.as_ref(), mongodb::error::ErrorKind::Command(refused) if RUN_BEFORE.contains(&refused.code)) =>
                    {}
                Ok(Err(error)) => return Err(crate::error::classify(DOING, &error).error),
                Err(_) => return Err(crate::error::timed_out(DOING, bound)),
            }
        }
        let record = doc! {
            "_id": migration.number, "name": &migration.name, "sha256": checksum(text), "applied_at": date(clock.now()),
        };
        match bounded(DOING, self.collection::<Document>("migrations").insert_one(record)).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(term),
            Err(error) => Err(error),
        }
    }

    /// Makes the cluster's id and its first canary; whoever is second takes what the first made.
    async fn establish(
        &self,
        kek: &dyn Kek,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<(), MigrateError> {
        let migrations = self.collection::<Document>("migrations");
        let fresh = doc! { "_id": "cluster", "cluster_id": ClusterId::generate(clock, entropy).to_string() };
        match bounded("create the cluster id", migrations.insert_one(fresh)).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let found = bounded("read the cluster id", migrations.find_one(doc! { "_id": "cluster" })).await?;
        let missing =
            || StoreError::Corrupt { collection: "migrations", cause: "the cluster id is gone".into() };
        let cluster: Cluster = read("migrations", found.ok_or_else(missing)?)?;
        let canary = match self.canary().await? {
            Some(canary) => canary,
            None => {
                let newest = kek.versions().await?.into_iter().max();
                let newest =
                    newest.ok_or_else(|| KekError::Unavailable("the provider has no key at all".into()))?;
                let canary = Canary::make(cluster.cluster_id, newest, kek, entropy).await?;
                self.insert_canary(&canary, kek.provider()).await?
            }
        };
        Ok(canary.check(kek).await?)
    }

    async fn applied(&self) -> Result<Vec<Applied>, StoreError> {
        let found: Vec<Document> = bounded("read the schema", async {
            let migrations = self.collection::<Document>("migrations");
            migrations
                .find(doc! { "_id": { "$type": "number" } })
                .sort(doc! { "_id": 1 })
                .await?
                .try_collect()
                .await
        })
        .await?;
        found.into_iter().map(|document| read("migrations", document)).collect()
    }
}

/// The first applied migration that is not this build's: unknown, or of another content.
fn changed(applied: &[Applied]) -> Option<u32> {
    let differs = |migration: &&Applied| {
        let index = usize::try_from(migration.number).unwrap_or(usize::MAX).wrapping_sub(1);
        MIGRATIONS.get(index).is_none_or(|text| checksum(text) != migration.sha256)
    };
    applied.iter().find(differs).map(|migration| migration.number)
}

fn checksum(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every index that migrations make and leave, as collection and name.
    fn indexes() -> BTreeSet<(String, String)> {
        let mut indexes = BTreeSet::new();
        for text in MIGRATIONS {
            for command in serde_json::from_str::<Migration>(text).unwrap().commands {
                let name = |index: &Document| index.get_str("name").unwrap().to_owned();
                if let Ok(collection) = command.get_str("createIndexes") {
                    let made = command.get_array("indexes").unwrap().iter();
                    let made = made.map(|index| (collection.to_owned(), name(index.as_document().unwrap())));
                    indexes.extend(made);
                } else if let Ok(collection) = command.get_str("dropIndexes") {
                    let dropped = (collection.to_owned(), command.get_str("index").unwrap().to_owned());
                    assert!(indexes.remove(&dropped), "{dropped:?} was never made");
                }
            }
        }
        indexes
    }

    #[test]
    fn the_page_of_indexes_names_each_once_with_the_query_that_needs_it() {
        const PAGE: &str = include_str!("../../../docs/indexes.md");
        let rows: Vec<Vec<&str>> = PAGE
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
            .collect();
        assert!(rows.iter().all(|row| row.len() == 3 && !row[2].is_empty()), "{rows:?}");
        let named: BTreeSet<(String, String)> =
            rows.iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
        assert_eq!(named.len(), rows.len(), "one is there twice");
        assert_eq!(named, indexes());
    }

    #[test]
    fn migrations_are_numbered_by_their_position() {
        for (index, text) in MIGRATIONS.iter().enumerate() {
            let migration: Migration = serde_json::from_str(text).unwrap();
            assert_eq!(usize::try_from(migration.number).unwrap(), index + 1, "{}", migration.name);
            assert!(!migration.commands.is_empty());
        }
    }

    #[test]
    fn a_migration_of_another_content_or_an_unknown_one_is_noticed() {
        let good = Applied { number: 1, sha256: checksum(MIGRATIONS[0]) };
        assert_eq!(changed(&[good]), None);
        assert_eq!(changed(&[Applied { number: 1, sha256: checksum("other") }]), Some(1));
        assert_eq!(changed(&[Applied { number: 99, sha256: checksum("newer") }]), Some(99));
    }
}
