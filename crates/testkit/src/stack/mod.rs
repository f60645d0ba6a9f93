// SPDX-License-Identifier: Apache-2.0
//! The whole system: replica set, CA, our services. One implementation for a test and for `cargo xtask up`.
//!
//! It knows our binaries from outside only: their names, their variables, their REST API.

mod client;
mod commands;
mod demo;
mod options;
mod services;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

pub use client::{Answer, ApiClient};
pub use demo::Demo;
pub use options::{Role, StackOptions};

use crate::ca::Pebble;
use crate::mongo::ReplicaSet;
use crate::network::Forward;
use crate::process::{Binaries, Launcher, Lifetime, Service};
use crate::progress::say;
use crate::scratch::Scratch;

/// The database of a stack that has a replica set of its own.
const DATABASE: &str = "certautopilot";

/// What our services need around them.
#[derive(Debug)]
pub struct Infrastructure {
    /// The CA, behind its proxy.
    pub ca: Pebble,
    /// The replica set, when it is the stack's own.
    pub replica_set: Option<ReplicaSet>,
    /// The connection string, with the database.
    pub mongo_uri: String,
}

impl Infrastructure {
    /// Starts replica set and CA side by side.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start(launcher: &Arc<Launcher>, options: &StackOptions) -> anyhow::Result<Self> {
        let pebble = options.pebble_for_apis();
        let ca = Pebble::start_kind_in(options.ca, launcher, pebble);
        if options.shared_mongo {
            let (ca, database) = tokio::try_join!(ca, ReplicaSet::fresh_database())?;
            return Ok(Self { ca, replica_set: None, mongo_uri: database.uri });
        }
        let set = ReplicaSet::start_in(launcher, options.replica_set.clone());
        let (ca, set) = tokio::try_join!(ca, set)?;
        let mongo_uri = set.uri_for(DATABASE);
        Ok(Self { ca, replica_set: Some(set), mongo_uri })
    }
}

/// The running system. Fields end in their order: services, CA, replica set, files.
#[derive(Debug)]
pub struct Stack {
    /// The API's processes.
    pub apis: Vec<Service>,
    /// The workers' processes.
    pub workers: Vec<Service>,
    /// The schedulers' processes.
    pub schedulers: Vec<Service>,
    /// Replica set and CA.
    pub infrastructure: Infrastructure,
    api_urls: Vec<String>,
    token: String,
    kek_dir: PathBuf,
    binaries: Binaries,
    launcher: Arc<Launcher>,
    // Beside the replica set, what runs on the hosts is reached by these.
    _forwards: Vec<Forward>,
    _scratch: Option<Scratch>,
}

impl Stack {
    /// A stack for one test: it ends with it.
    ///
    /// # Errors
    /// When any part does not start.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        let scratch = Scratch::create()?;
        let mut launcher = Launcher::new(scratch.path(), Lifetime::WithUs)?;
        if let Some(network) = &options.network {
            launcher = launcher.on(network.desk())?;
        }
        let launcher = Arc::new(launcher);
        let infrastructure = Infrastructure::start(&launcher, &options).await?;
        let mut stack = Self::start_in(&launcher, Binaries::find()?, infrastructure, &options).await?;
        stack._scratch = Some(scratch);
        Ok(stack)
    }

    /// The services on top of this infrastructure: keys, schema, first administrator, processes, token.
    ///
    /// # Errors
    /// When any part does not start.
    pub async fn start_in(
        launcher: &Arc<Launcher>,
        binaries: Binaries,
        infrastructure: Infrastructure,
        options: &StackOptions,
    ) -> anyhow::Result<Self> {
        let kek_dir = launcher.data_dir("kek")?;
        let plan = services::Plan::new(launcher, &binaries, &infrastructure, &kek_dir, options)?;
        commands::generate_kek(&binaries, &kek_dir).await?;
        say("migrating the schema");
        commands::migrate(&binaries, &infrastructure.mongo_uri, &kek_dir).await?;
        say("bootstrapping the first administrator");
        let bootstrap = launcher.home().join("bootstrap-token");
        let bootstrap =
            commands::bootstrap(&binaries, &infrastructure.mongo_uri, &kek_dir, &bootstrap).await?;
        say(format_args!(
            "starting {} api, {} workers, {} schedulers",
            options.apis, options.workers, options.schedulers
        ));
        let started = plan.start()?;
        for service in started.apis.iter().chain(&started.workers).chain(&started.schedulers) {
            service.wait_ready(services::READY_LIMIT).await?;
        }
        let token = match started.api_urls.first() {
            Some(url) => ApiClient::new(url, &bootstrap)?
                .exchange_token()
                .await
                .context("exchanging the bootstrap token")?,
            None => bootstrap,
        };
        Ok(Self {
            apis: started.apis,
            workers: started.workers,
            schedulers: started.schedulers,
            infrastructure,
            api_urls: started.api_urls,
            token,
            kek_dir,
            binaries,
            launcher: launcher.clone(),
            _forwards: started.forwards,
            _scratch: None,
        })
    }

    /// The base URL of an API.
    ///
    /// # Errors
    /// When there is no such API.
    pub fn api_url(&self, index: usize) -> anyhow::Result<&str> {
        self.api_urls.get(index).map(String::as_str).with_context(|| format!("there is no api-{index}"))
    }

    /// A client of an API, with the owner's token.
    ///
    /// # Errors
    /// When there is no such API.
    pub fn client(&self, index: usize) -> anyhow::Result<ApiClient> {
        ApiClient::new(self.api_url(index)?, &self.token)
    }

    /// The owner's token: 30 days.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The folder of the key encryption keys.
    #[must_use]
    pub fn kek_dir(&self) -> &Path {
        &self.kek_dir
    }

    /// The connection string, with the database.
    #[must_use]
    pub fn mongo_uri(&self) -> &str {
        &self.infrastructure.mongo_uri
    }

    /// The CA.
    #[must_use]
    pub fn ca(&self) -> &Pebble {
        &self.infrastructure.ca
    }

    /// The launcher, for further processes of the same lifetime.
    #[must_use]
    pub fn launcher(&self) -> &Arc<Launcher> {
        &self.launcher
    }

    /// Runs the CLI against this stack and returns its stdout.
    ///
    /// # Errors
    /// When it fails; its stderr is in the error.
    pub async fn cli(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut env = commands::environment(self.mongo_uri(), &self.kek_dir);
        env.push(("CAP_API_URL".into(), self.api_url(0)?.to_owned()));
        env.push(("CAP_TOKEN".into(), self.token.clone()));
        commands::cli(&self.binaries, args, &env).await
    }
}
