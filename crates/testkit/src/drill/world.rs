// SPDX-License-Identifier: Apache-2.0
//! The system that a drill breaks, and questions that drills ask of it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bson::{Document, doc};
use mongodb::{Client, Collection, Database};
use serde_json::Value;

use super::{Form, Run};
use crate::mongo::{MemberState, ReplicaSet};
use crate::process::Service;
use crate::stack::{ApiClient, Demo, Role, Stack, StackOptions};
use crate::wait::{self, Pending};

/// An issuance, a start, a recovery: a bound against hanging, not a measure.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// MongoDB's own settings, which a soak runs with.
const MONGODB_ELECTION_MS: i64 = 10_000;
const MONGODB_HEARTBEAT_MS: i64 = 2_000;

impl Form {
    /// The system that a drill of this form runs on; each drill changes what it needs otherwise.
    #[must_use]
    pub fn options(self) -> StackOptions {
        let mut options = match self {
            Self::Short => StackOptions::for_test(),
            Self::Soak => StackOptions::as_shipped(),
        };
        if self == Self::Soak {
            options.replica_set.election_timeout_ms = MONGODB_ELECTION_MS;
            options.replica_set.heartbeat_interval_ms = MONGODB_HEARTBEAT_MS;
        }
        options.shared_mongo = false;
        options.workers = 2;
        // A drill has the same certificates renewed in each round, and asks without pause: here nobody is to be slowed down.
        options.with(Role::Worker, "CAP_ISSUANCE_FUSE", "1000").with(Role::Api, "CAP_API_RATE_PER_TOKEN", "0")
    }
}

/// A running system with a project and an issuer in it.
#[derive(Debug)]
pub struct World {
    /// The system.
    pub stack: Stack,
    /// The project and the issuer.
    pub demo: Demo,
    /// How the drill is run.
    pub run: Run,
    database: Database,
}

impl World {
    /// Starts the system.
    ///
    /// # Errors
    /// When any part of it does not start.
    pub async fn start(run: Run, mut options: StackOptions) -> anyhow::Result<Self> {
        options.ca = run.ca;
        let stack = Stack::start(options).await?;
        let demo = Demo::create(&stack.client(0)?, stack.ca(), "drill", "local-ca").await?;
        let client = Client::with_uri_str(stack.mongo_uri()).await.context("connecting past our services")?;
        let database = client.default_database().context("the stack's connection string names a database")?;
        Ok(Self { stack, demo, run, database })
    }

    /// A client of the first API, with the owner's token.
    ///
    /// # Errors
    /// When there is no API.
    pub fn api(&self) -> anyhow::Result<ApiClient> {
        self.stack.client(0)
    }

    /// The path of something in the project.
    #[must_use]
    pub fn path(&self, below: &str) -> String {
        format!("/api/v1/projects/{}/{below}", self.demo.project)
    }

    /// A collection, past every interface of ours.
    #[must_use]
    pub fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    /// Every service.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.stack.apis.iter().chain(&self.stack.workers).chain(&self.stack.schedulers)
    }

    /// The replica set of the drill's own.
    ///
    /// # Errors
    /// When the drill has none.
    pub fn replica_set(&mut self) -> anyhow::Result<&mut ReplicaSet> {
        self.stack.infrastructure.replica_set.as_mut().context("this drill shares its replica set")
    }

    /// Waits until each member of the replica set is one again, and one of them the primary.
    ///
    /// # Errors
    /// When they are not within two minutes.
    pub async fn wait_healthy(&mut self) -> anyhow::Result<()> {
        let set = self.replica_set()?;
        wait::until("every member to be well", PATIENCE, || async {
            let states = set.members().await;
            let is_well =
                |state: &MemberState| matches!(state, MemberState::Primary | MemberState::Secondary);
            if states.iter().all(is_well) && states.contains(&MemberState::Primary) {
                Ok(())
            } else {
                Err(Pending::not_yet(format_args!("{states:?}")))
            }
        })
        .await
    }

    /// Certificates that are valid and due in months, by name.
    ///
    /// # Errors
    /// When one is not issued.
    pub async fn issued(&self, names: &[String]) -> anyhow::Result<Vec<String>> {
        let (api, collection, mut ids) = (self.api()?, self.demo.certificates(), Vec::new());
        for name in names {
            let body = self.demo.request_body(&[name]);
            let what = format!("{name} to be asked for");
            let asked = wait::until(&what, PATIENCE, || async {
                let answer = api.call("POST", &collection, Some(&body), Some(name)).await;
                let answer = answer.map_err(Pending::not_yet)?;
                answer.json()["id"].as_str().map(str::to_owned).ok_or_else(|| Pending::not_yet(answer.text))
            });
            ids.push(asked.await?);
        }
        for id in &ids {
            self.demo.wait_valid(&api, id).await?;
        }
        Ok(ids)
    }

    /// A certificate's record, as the API shows it.
    pub(super) async fn record(&self, certificate: &str) -> anyhow::Result<Value> {
        let (api, path) = (self.api()?, self.path(&format!("certificates/{certificate}")));
        let what = format!("GET {path} to be answered");
        wait::until(&what, PATIENCE, || async { api.get(&path).await.map_err(Pending::not_yet) }).await
    }

    /// Makes certificates due so many milliseconds from now, by the database's clock.
    ///
    /// # Errors
    /// When one of them is not there.
    pub async fn make_due(&self, certificates: &[String], in_ms: i64) -> anyhow::Result<()> {
        let due = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "millisecond", "amount": in_ms } };
        let filter = doc! { "_id": { "$in": certificates } };
        let change = vec![doc! { "$set": { "renew_at": &due, "plan_at": due } }];
        let changed = self.collection("certificates").update_many(filter, change).await?;
        ensure!(changed.matched_count == u64::try_from(certificates.len())?, "a certificate is missing");
        Ok(())
    }

    /// Waits until the current version of each has this number, or a higher one.
    ///
    /// # Errors
    /// When one has not after `limit`.
    pub async fn wait_version(
        &self,
        certificates: &[String],
        number: i64,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let api = self.api()?;
        wait::until(&format!("version {number} of {}", certificates.join(", ")), limit, || async {
            for certificate in certificates {
                let record = api.get(&self.path(&format!("certificates/{certificate}"))).await;
                let record = record.map_err(Pending::not_yet)?;
                if version_of(&record) < number {
                    return Err(Pending::not_yet(record));
                }
            }
            Ok(())
        })
        .await
    }
}

/// The number of a certificate's current version; 0 for none.
pub(super) fn version_of(record: &Value) -> i64 {
    record["version"]["number"].as_i64().unwrap_or(0)
}
