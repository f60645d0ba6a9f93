// SPDX-License-Identifier: Apache-2.0
//! One `mongod`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};

use super::admin::{self, To};
use super::replica_set::ReplicaSetOptions;
use crate::disk::Disk;
use crate::process::{Launch, Launcher, PortLease, Process};
use crate::wait::{self, Pending};

/// A cold start, or a recovery from the journal after a kill.
const START_LIMIT_SECONDS: u64 = 60;
/// A primary that is told to stop waits this long for its clients to move on (15 s by default).
const QUIESCE_MS: u32 = 500;

/// How much longer than usual a member waits for one that it copies from: where the old primary hangs, a majority waits
/// for that twice (5 s by default).
const SOURCE_PATIENCE_SECONDS: u32 = 2;

/// What a member says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It takes writes.
    Primary,
    /// It follows.
    Secondary,
    /// It answers, and is neither.
    Other,
    /// It does not answer.
    Down,
}

/// One member: its port and data stay when its process comes and goes.
#[derive(Debug)]
pub(super) struct Member {
    lease: PortLease,
    data: PathBuf,
    launch: Launch,
    launcher: Arc<Launcher>,
    address: Ipv4Addr,
    pub(super) process: Process,
    // Behind the process, which has files open there.
    disk: Option<Disk>,
}

impl Member {
    pub(super) fn start(
        launcher: &Arc<Launcher>,
        mongod: &Path,
        index: usize,
        options: &ReplicaSetOptions,
        key_file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let name = format!("mongod-{index}");
        let lease = crate::process::reserve_one()?;
        let host = options.network.as_ref().map(|network| network.host(&name)).transpose()?;
        let address = host.as_ref().map_or(Ipv4Addr::LOCALHOST, |host| host.address());
        let launcher = host.map_or_else(|| Ok(launcher.clone()), |host| launcher.on(&host).map(Arc::new))?;
        let data = launcher.data_dir(&name)?;
        let disk = options.disk_mib.map(|mib| Disk::mount(&data, mib)).transpose()?;
        let at = SocketAddr::from((address, lease.port()));
        let launch = Launch {
            name,
            program: mongod.to_owned(),
            args: arguments(at, &data, options, key_file),
            env: BTreeMap::new(),
            address: at.to_string(),
        };
        let process = launcher.spawn(launch.clone())?;
        Ok(Self { lease, data, launch, launcher, address, process, disk })
    }

    pub(super) fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill9()?;
        self.process = self.launcher.spawn(self.launch.clone())?;
        Ok(())
    }

    pub(super) fn at(&self) -> SocketAddr {
        SocketAddr::from((self.address, self.lease.port()))
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Waits until it answers, in whatever state.
    pub(super) async fn wait_answers(&self) -> anyhow::Result<()> {
        let what = format!("{} to answer", self.process.name());
        wait::until(&what, Duration::from_secs(START_LIMIT_SECONDS), || async {
            if !self.process.is_running() {
                return Err(self.process.died());
            }
            admin::run(To::member(self.at()), doc! { "ping": 1 }).await.map_err(Pending::not_yet)
        })
        .await?;
        Ok(())
    }

    pub(super) async fn state(&self) -> MemberState {
        if !self.process.is_running() {
            return MemberState::Down;
        }
        match admin::run(To::member(self.at()), doc! { "hello": 1 }).await {
            Ok(hello) if says(&hello, "isWritablePrimary") => MemberState::Primary,
            Ok(hello) if says(&hello, "secondary") => MemberState::Secondary,
            Ok(_) => MemberState::Other,
            Err(_) => MemberState::Down,
        }
    }
}

fn says(hello: &Document, what: &str) -> bool {
    hello.get_bool(what).unwrap_or(false)
}

fn arguments(
    at: SocketAddr,
    data: &Path,
    options: &ReplicaSetOptions,
    key_file: Option<&Path>,
) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut pair = |name: &str, value: String| args.extend([name.to_owned(), value]);
    pair("--replSet", options.name.clone());
    pair("--bind_ip", at.ip().to_string());
    pair("--port", at.port().to_string());
    pair("--dbpath", data.display().to_string());
    pair("--oplogSize", options.oplog_mb.to_string());
    pair("--wiredTigerCacheSizeGB", format!("{:.3}", f64::from(options.cache_mb) / 1_024.0));
    // A scan of the files for secrets must be able to find them.
    let compressor = if options.compresses { "snappy" } else { "none" };
    pair("--wiredTigerCollectionBlockCompressor", compressor.to_owned());
    pair("--wiredTigerJournalCompressor", compressor.to_owned());
    pair("--wiredTigerIndexPrefixCompression", options.compresses.to_string());
    let fixed = [
        "enableTestCommands=1".to_owned(),
        "diagnosticDataCollectionEnabled=false".to_owned(),
        format!("shutdownTimeoutMillisForSignaledShutdown={QUIESCE_MS}"),
        format!("oplogNetworkTimeoutBufferSeconds={SOURCE_PATIENCE_SECONDS}"),
        // As docs/operations.md recommends: nobody reads what is past.
        "minSnapshotHistoryWindowInSeconds=0".to_owned(),
    ];
    for parameter in fixed.iter().chain(&options.parameters) {
        pair("--setParameter", parameter.clone());
    }
    if options.disk_mib.is_some() {
        // Small files, made when they are needed: a member with room set aside does not notice that its disk is full.
        pair("--wiredTigerEngineConfigString", "log=(file_max=1MB,prealloc=false)".to_owned());
    }
    if let Some(key_file) = key_file {
        // Members prove themselves with it, and whoever else comes needs a user and a password.
        pair("--keyFile", key_file.display().to_string());
    }
    args.push("--nounixsocket".to_owned());
    args
}
