// SPDX-License-Identifier: Apache-2.0
//! A replica set of three (or another number of) members on loopback ports.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bson::{Bson, Document, doc};

use super::access::{self, MongoUser};
use super::admin::{self, To};
use super::member::{Member, MemberState};
use crate::disk::Disk;
use crate::fetch;
use crate::network::Network;
use crate::process::{Launcher, Lifetime, Process, Signal};
use crate::progress::say;
use crate::scratch::Scratch;
use crate::wait::{self, Pending};

/// Members start, elect and confirm a write; a machine under load takes some seconds.
const READY_LIMIT_SECONDS: u64 = 60;
/// One try of the majority write within that time.
const WRITE_LIMIT_MS: u64 = 3_000;
/// A member that was told to stop flushes its journal.
const STOP_LIMIT_SECONDS: u64 = 30;

/// How a replica set is made.
#[derive(Clone, Debug)]
pub struct ReplicaSetOptions {
    /// Its name.
    pub name: String,
    /// How many members, each with a vote.
    pub members: usize,
    /// How long members wait for a primary's heartbeat before they elect another.
    pub election_timeout_ms: i64,
    /// How often members send one.
    pub heartbeat_interval_ms: i64,
    /// The oplog's size; drills that write much while a member is down need more.
    pub oplog_mb: u32,
    /// The cache of each member; test data are small, and three members share the machine.
    pub cache_mb: u32,
    /// Whether data are compressed. Not in a test that looks for secrets in the files; where there are millions of
    /// records, the disk wants it.
    pub compresses: bool,
    /// More `--setParameter NAME=VALUE`.
    pub parameters: Vec<String>,
    /// Whether whoever comes needs a user and a password. There is one user then, who may do everything, and whom
    /// [`ReplicaSet::uri`] names.
    pub asks_for_passwords: bool,
    /// The network that each member is a host of, `mongod-0` and so on; all are at loopback without one. Whoever speaks
    /// to the set must then be on a host of it too.
    pub network: Option<Arc<Network>>,
    /// The size of the disk that each member has for itself, to be filled up; the machine's own without one. Needs root.
    pub disk_mib: Option<u32>,
}

impl Default for ReplicaSetOptions {
    fn default() -> Self {
        Self {
            name: "rs0".into(),
            members: 3,
            election_timeout_ms: 2_000,
            heartbeat_interval_ms: 500,
            oplog_mb: 128,
            cache_mb: 256,
            compresses: false,
            parameters: Vec::new(),
            asks_for_passwords: false,
            network: None,
            disk_mib: None,
        }
    }
}

/// A running replica set. Dropping one that lives with us kills its members and removes their data.
#[derive(Debug)]
pub struct ReplicaSet {
    members: Vec<Member>,
    options: ReplicaSetOptions,
    administrator: Option<MongoUser>,
    // After the members: the data go when nobody uses them any more.
    _scratch: Option<Scratch>,
}

impl ReplicaSet {
    /// Three members of our own, in a scratch folder.
    ///
    /// # Errors
    /// When `mongod` cannot be had, or no primary comes up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(ReplicaSetOptions::default()).await
    }

    /// Members of our own, in a scratch folder.
    ///
    /// # Errors
    /// When `mongod` cannot be had, or no primary comes up.
    pub async fn start_with(options: ReplicaSetOptions) -> anyhow::Result<Self> {
        let scratch = Scratch::create()?;
        let launcher = Arc::new(Launcher::new(scratch.path(), Lifetime::WithUs)?);
        let mut set = Self::start_in(&launcher, options).await?;
        set._scratch = Some(scratch);
        Ok(set)
    }

    /// Members under this launcher's folder, with its lifetime.
    ///
    /// # Errors
    /// When `mongod` cannot be had, or no primary comes up.
    pub async fn start_in(launcher: &Arc<Launcher>, options: ReplicaSetOptions) -> anyhow::Result<Self> {
        let mongod = fetch_mongod().await?;
        ensure!(options.members > 0, "a replica set has at least one member");
        say(format_args!("starting a replica set of {} members", options.members));
        let key_file = options.asks_for_passwords.then(|| access::write_key_file(launcher)).transpose()?;
        let members = (0..options.members)
            .map(|index| Member::start(launcher, &mongod, index, &options, key_file.as_deref()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut set = Self { members, options, administrator: None, _scratch: None };
        for member in &set.members {
            member.wait_answers().await?;
        }
        let first = set.member(0)?.at();
        admin::run(To::member(first), doc! { "replSetInitiate": set.configuration()? })
            .await
            .context("initiating the replica set")?;
        if set.options.asks_for_passwords {
            set.administrator = Some(set.create_administrator().await?);
        }
        set.wait_ready(Duration::from_secs(READY_LIMIT_SECONDS)).await?;
        Ok(set)
    }

    /// From this machine the first user can be made by nobody (MongoDB's localhost exception).
    async fn create_administrator(&self) -> anyhow::Result<MongoUser> {
        let primary = wait::until("a primary", Duration::from_secs(READY_LIMIT_SECONDS), || async {
            self.primary().await.map_err(Pending::not_yet)
        });
        let user = MongoUser::administrator();
        let to = To::member(self.member(primary.await?)?.at());
        admin::run(to, user.create_with_role("root")).await.context("creating the administrator")?;
        Ok(user)
    }

    /// The connection string, without a database.
    #[must_use]
    pub fn uri(&self) -> String {
        self.uri_for("")
    }

    /// The connection string with this database.
    #[must_use]
    pub fn uri_for(&self, database: &str) -> String {
        self.uri_of(self.administrator.as_ref(), database)
    }

    /// The connection string with this database for this user.
    #[must_use]
    pub fn uri_as(&self, user: &MongoUser, database: &str) -> String {
        self.uri_of(Some(user), database)
    }

    fn uri_of(&self, user: Option<&MongoUser>, database: &str) -> String {
        let (login, source) = user.map(MongoUser::in_uri).unwrap_or_default();
        let hosts: Vec<String> = self.members.iter().map(|member| member.at().to_string()).collect();
        format!("mongodb://{login}{}/{database}?replicaSet={}{source}", hosts.join(","), self.options.name)
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never: a replica set has members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The index of the primary now.
    ///
    /// # Errors
    /// When there is none.
    pub async fn primary(&self) -> anyhow::Result<usize> {
        for (index, member) in self.members.iter().enumerate() {
            if !member.process.id().is_paused() && member.state().await == MemberState::Primary {
                return Ok(index);
            }
        }
        bail!("the replica set has no primary now")
    }

    /// Waits for a primary other than this one.
    ///
    /// # Errors
    /// When there is none after `limit`.
    pub async fn wait_primary_other_than(&self, index: usize, limit: Duration) -> anyhow::Result<usize> {
        wait::until("another primary", limit, || async {
            match self.primary().await {
                Ok(primary) if primary != index => Ok(primary),
                Ok(_) => Err(Pending::not_yet("the same primary")),
                Err(error) => Err(Pending::not_yet(error)),
            }
        })
        .await
    }

    /// What each member says about itself.
    pub async fn members(&self) -> Vec<MemberState> {
        let mut states = Vec::with_capacity(self.members.len());
        for member in &self.members {
            states.push(member.state().await);
        }
        states
    }

    /// Waits until a write reaches a majority.
    ///
    /// # Errors
    /// When none does within `limit`.
    pub async fn wait_ready(&self, limit: Duration) -> anyhow::Result<()> {
        let uri = self.uri();
        wait::until("a primary with a majority", limit, || async {
            admin::write_with_majority(&uri, Duration::from_millis(WRITE_LIMIT_MS))
                .await
                .map_err(Pending::not_yet)
        })
        .await
    }

    /// The process of a member.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn process(&self, index: usize) -> anyhow::Result<&Process> {
        Ok(&self.member(index)?.process)
    }

    /// Kills a member: SIGKILL.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn kill(&self, index: usize) -> anyhow::Result<()> {
        self.member(index)?.process.kill9()
    }

    /// Ends a member in order: SIGTERM; a primary steps down first.
    ///
    /// # Errors
    /// When there is no such member, or it does not end.
    pub async fn stop(&self, index: usize) -> anyhow::Result<()> {
        let member = self.member(index)?;
        member.process.signal(Signal::TERM)?;
        member.process.wait_exit(Duration::from_secs(STOP_LIMIT_SECONDS)).await?;
        Ok(())
    }

    /// Stops a member in its tracks: SIGSTOP. Its sockets stay open and say nothing.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn pause(&self, index: usize) -> anyhow::Result<()> {
        self.member(index)?.process.signal(Signal::STOP).map(drop)
    }

    /// Lets a paused member go on: SIGCONT.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn resume(&self, index: usize) -> anyhow::Result<()> {
        self.member(index)?.process.signal(Signal::CONT).map(drop)
    }

    /// Starts a member again on its port and data, and waits until it answers.
    ///
    /// # Errors
    /// When there is no such member, or it does not come up.
    pub async fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        let member = self.members.get_mut(index).with_context(|| format!("there is no member {index}"))?;
        member.restart()?;
        member.wait_answers().await
    }

    /// A member's data folder.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn data_dir(&self, index: usize) -> anyhow::Result<&Path> {
        Ok(self.member(index)?.data())
    }

    /// A member's own disk.
    ///
    /// # Errors
    /// When there is no such member, or it has none of its own.
    pub fn disk(&self, index: usize) -> anyhow::Result<&Disk> {
        self.member(index)?.disk().with_context(|| format!("member {index} has no disk of its own"))
    }

    /// Makes every member that answers write its data to its files.
    ///
    /// # Errors
    /// When a member that runs cannot.
    pub async fn checkpoint(&self) -> anyhow::Result<()> {
        for member in self.members.iter().filter(|member| member.process.is_running()) {
            admin::run(self.to(member, "admin"), doc! { "fsync": 1 }).await?;
        }
        Ok(())
    }

    /// How many writes waited for a majority so far, by the primary's count: the same for one record and for fifty.
    ///
    /// # Errors
    /// When there is no primary.
    pub async fn majority_writes(&self) -> anyhow::Result<i64> {
        let status = self.command(self.primary().await?, doc! { "serverStatus": 1 }).await?;
        let waits = status.get_document("metrics")?.get_document("getLastError")?.get_document("wtime")?;
        Ok(waits.get_i32("num").map(i64::from).or_else(|_| waits.get_i64("num"))?)
    }

    /// Runs a command on one member's `admin` database: fail points, step-downs.
    ///
    /// # Errors
    /// When there is no such member, or it refuses.
    pub async fn command(&self, index: usize, command: Document) -> anyhow::Result<Document> {
        admin::run(self.to(self.member(index)?, "admin"), command).await
    }

    /// Runs a command on this database at the primary: roles, users.
    ///
    /// # Errors
    /// When there is no primary, or it refuses.
    pub async fn command_in(&self, database: &str, command: Document) -> anyhow::Result<Document> {
        admin::run(self.to(self.member(self.primary().await?)?, database), command).await
    }

    fn to<'a>(&'a self, member: &Member, database: &'a str) -> To<'a> {
        To { at: member.at(), database, user: self.administrator.as_ref() }
    }

    fn member(&self, index: usize) -> anyhow::Result<&Member> {
        self.members.get(index).with_context(|| format!("there is no member {index}"))
    }

    fn configuration(&self) -> anyhow::Result<Document> {
        let mut members = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            let id = i32::try_from(index).context("few members")?;
            members.push(Bson::Document(doc! { "_id": id, "host": member.at().to_string() }));
        }
        Ok(doc! {
            "_id": &self.options.name,
            "members": members,
            "settings": {
                "electionTimeoutMillis": self.options.election_timeout_ms,
                "heartbeatIntervalMillis": self.options.heartbeat_interval_ms,
                // A member that comes back must not take the primary's place from one that works.
                "catchUpTimeoutMillis": self.options.election_timeout_ms,
            },
        })
    }
}

/// Off the runtime's threads: it may download.
async fn fetch_mongod() -> anyhow::Result<std::path::PathBuf> {
    tokio::task::spawn_blocking(fetch::mongod).await.context("obtaining mongod")?
}
