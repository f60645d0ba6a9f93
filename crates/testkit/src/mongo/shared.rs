// SPDX-License-Identifier: Apache-2.0
//! The replica set that the tests of a process share, and that `cargo xtask test` shares between processes.

use std::sync::OnceLock;

use anyhow::anyhow;

use super::database::TestDatabase;
use super::replica_set::ReplicaSet;
use super::scans;

/// Names the set that `cargo xtask test` started for all test binaries.
const URI_VARIABLE: &str = "CAP_TEST_MONGO_URI";

impl ReplicaSet {
    /// The connection string of the shared set; starts one when nobody did. Do not kill its members: tests that do
    /// so start a set of their own.
    ///
    /// # Errors
    /// When `mongod` cannot be had, or no primary comes up.
    pub async fn shared() -> anyhow::Result<String> {
        if let Ok(uri) = std::env::var(URI_VARIABLE) {
            return Ok(uri);
        }
        tokio::task::spawn_blocking(|| {
            own().as_ref().map(ReplicaSet::uri).map_err(|error| anyhow!("{error}"))
        })
        .await?
    }

    /// An empty database in the shared set, which notes what of ours has no index.
    ///
    /// # Errors
    /// When there is no shared set and none can be started.
    pub async fn fresh_database() -> anyhow::Result<TestDatabase> {
        let database = TestDatabase::in_set(&Self::shared().await?)?;
        scans::note_scans(&database.uri).await?;
        Ok(database)
    }
}

/// The set of this process. A static is never dropped: the kernel kills the members with us, and the next process
/// sweeps their data.
fn own() -> &'static Result<ReplicaSet, String> {
    static OWN: OnceLock<Result<ReplicaSet, String>> = OnceLock::new();
    OWN.get_or_init(|| {
        // On a runtime of its own: that of the test which comes first ends with that test.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(ReplicaSet::start()).map_err(|error| format!("{error:#}"))
    })
}
