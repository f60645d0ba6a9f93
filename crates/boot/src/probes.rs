// SPDX-License-Identifier: Apache-2.0
//! What readiness asks of the cluster.

use std::sync::Arc;

use async_trait::async_trait;
use cap_core::envelope::{Canary, Kek};
use cap_core::health::{Check, Probe};
use cap_runtime::Role;
use cap_store::{SchemaStatus, Store};

/// The database has a primary that a majority follows.
pub(crate) struct MongoProbe {
    pub(crate) store: Store,
    pub(crate) role: Role,
}

/// Where no caller is let in by a confirmation, it is asked for half as often: an idle process is to be a quiet one.
const PACE_WITHOUT_CALLERS: u32 = 2;

/// The database's schema is this build's, or an older one that is about to be migrated.
pub(crate) struct SchemaProbe(pub(crate) Store);

/// The KEK opens its canary.
pub(crate) struct KekProbe {
    pub(crate) canary: Canary,
    pub(crate) kek: Arc<dyn Kek>,
}

#[async_trait]
impl Probe for MongoProbe {
    fn check(&self) -> Check {
        Check::Mongo
    }

    async fn probe(&self) -> Result<(), String> {
        self.store.confirm_primary().await.map_err(|error| error.to_string())
    }

    fn pace(&self) -> u32 {
        match self.role {
            Role::Api => 1,
            Role::Worker | Role::Scheduler => PACE_WITHOUT_CALLERS,
        }
    }
}

#[async_trait]
impl Probe for SchemaProbe {
    fn check(&self) -> Check {
        Check::Schema
    }

    async fn probe(&self) -> Result<(), String> {
        match self.0.schema_status().await.map_err(|error| error.to_string())? {
            SchemaStatus::Current(_) => Ok(()),
            SchemaStatus::Older { database, build } => Err(format!(
                "schema {database}, this build needs {build}; run `certautopilot schema migrate`"
            )),
            SchemaStatus::Unknown { database, build } => {
                Err(format!("schema {database} is not one that this build ({build}) knows"))
            }
        }
    }
}

#[async_trait]
impl Probe for KekProbe {
    fn check(&self) -> Check {
        Check::Kek
    }

    async fn probe(&self) -> Result<(), String> {
        self.canary.check(self.kek.as_ref()).await.map_err(|error| error.to_string())
    }
}
