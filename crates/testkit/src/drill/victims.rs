// SPDX-License-Identifier: Apache-2.0
//! Workers that are told where to die, to stop, or what guard to do without; each issues for a name of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::world::{PATIENCE, version_of};
use super::{Form, Run, World};
use crate::ca::NameSetCounts;
use crate::process::Service;
use crate::scratch::Scratch;
use crate::wait::{self, Pending};

/// Which worker is told to die, and which is its peer.
pub(super) const VICTIM: usize = 0;
pub(super) const PEER: usize = 1;
/// What a worker is told by.
pub(super) const KILL: &str = "CAP_DRILL_KILL";
pub(super) const STOP: &str = "CAP_DRILL_STOP";
pub(super) const MUTANT: &str = "CAP_DRILL_MUTANT";
const HITS: &str = "CAP_DRILL_HITS";
const LEASE: &str = "CAP_JOB_LEASE";
/// The product's own.
const SOAK_LEASE: Duration = Duration::from_secs(60);

/// A world whose workers are started one by one.
pub(super) struct Victims {
    pub(super) world: World,
    pub(super) lease: Duration,
    /// The certificate of each name.
    certificates: HashMap<String, String>,
    folder: Scratch,
    begun: u32,
}

impl Victims {
    /// A world for this run with so many workers, none of which is at work. Their lease is this one in the tests.
    pub(super) async fn start(run: Run, workers: usize, short_lease: Duration) -> anyhow::Result<Self> {
        let mut options = run.form.options();
        // Nothing happens to the database here.
        options.shared_mongo = run.form == Form::Short;
        options.workers = u8::try_from(workers)?;
        let world = World::start(run, options).await?;
        let lease = match run.form {
            Form::Short => short_lease,
            Form::Soak => SOAK_LEASE,
        };
        let mut victims =
            Self { world, lease, certificates: HashMap::new(), folder: Scratch::create()?, begun: 0 };
        victims.set_lease(&format!("{}s", lease.as_secs()));
        victims.kill_all()?;
        Ok(victims)
    }

    pub(super) fn set_lease(&mut self, lease: &str) {
        for worker in &mut self.world.stack.workers {
            worker.set_env(LEASE, lease);
        }
    }

    pub(super) fn kill_all(&self) -> anyhow::Result<()> {
        self.world.stack.workers.iter().try_for_each(Service::kill9)
    }

    /// Starts a worker that is told this and nothing else; answers the file in which it notes the points that it passes.
    pub(super) fn begin(&mut self, worker: usize, told: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
        self.begun += 1;
        let hits = self.folder.path().join(format!("hits-{}", self.begun));
        let worker = &mut self.world.stack.workers[worker];
        // What is empty counts as not said.
        for silent in [KILL, STOP, MUTANT] {
            worker.set_env(silent, "");
        }
        worker.set_env(HITS, &hits.display().to_string());
        for (name, value) in told {
            worker.set_env(name, value);
        }
        worker.restart()?;
        Ok(hits)
    }

    /// Asks for a certificate for this name.
    pub(super) async fn request(&mut self, name: &str) -> anyhow::Result<String> {
        let id = self.world.demo.request(&self.world.api()?, &[name]).await?;
        self.certificates.insert(name.to_owned(), id.clone());
        Ok(id)
    }

    /// Waits until a worker passes this point, as the last one.
    pub(super) async fn wait_at(&self, hits: &Path, point: &str) -> anyhow::Result<()> {
        wait::until(&format!("a worker to come to {point}"), PATIENCE, || async {
            let passed = std::fs::read_to_string(hits).map_err(Pending::not_yet)?;
            if passed.lines().last() == Some(point) { Ok(()) } else { Err(Pending::not_yet(passed)) }
        })
        .await
    }

    /// Waits until the certificate of this name is valid.
    pub(super) async fn valid(&self, name: &str, limit: Duration) -> anyhow::Result<()> {
        let certificate = self.certificates.get(name).map(String::as_str).unwrap_or_default();
        let certificates = [certificate.to_owned()];
        self.world.wait_version(&certificates, 1, limit).await
    }

    /// Whether the certificate says that this is in its way; not where it is issued.
    ///
    /// # Errors
    /// When neither is so within `limit`.
    pub(super) async fn says(&self, name: &str, problem: &str, limit: Duration) -> anyhow::Result<bool> {
        let certificate = self.certificates.get(name).map(String::as_str).unwrap_or_default();
        wait::until(&format!("{name} to be issued, or to say {problem}"), limit, || async {
            let record = self.world.record(certificate).await.map_err(Pending::not_yet)?;
            match record["problem"]["type"].as_str() {
                Some(kind) if kind == problem => Ok(true),
                _ if version_of(&record) > 0 => Ok(false),
                _ => Err(Pending::not_yet(record)),
            }
        })
        .await
    }

    /// What the CA counted for this name.
    pub(super) async fn counted(&self, name: &str) -> anyhow::Result<NameSetCounts> {
        Ok(self.world.stack.ca().counts().await?.of(&[name]))
    }

    /// Every worker at work again, told nothing.
    pub(super) async fn rest(&mut self) -> anyhow::Result<()> {
        for worker in 0..self.world.stack.workers.len() {
            self.begin(worker, &[])?;
            self.world.stack.workers[worker].wait_ready(PATIENCE).await?;
        }
        Ok(())
    }
}
