// SPDX-License-Identifier: Apache-2.0
//! Clocks that a drill turns while its processes run (libfaketime). Only the time of day: what counts seconds since the
//! machine was started goes on.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::fetch;
use crate::process::Service;
use crate::scratch::Scratch;

/// A clock for each process that has one of its own.
#[derive(Debug)]
pub(super) struct Clocks {
    folder: Scratch,
    library: PathBuf,
}

impl Clocks {
    pub(super) async fn create() -> anyhow::Result<Self> {
        // Off the runtime's threads: it may download.
        let library =
            tokio::task::spawn_blocking(fetch::faketime).await.context("obtaining libfaketime")??;
        Ok(Self { folder: Scratch::create()?, library })
    }

    /// Gives a service a clock of its own, which is right, and starts it again.
    pub(super) fn give(&self, service: &mut Service) -> anyhow::Result<()> {
        self.turn(service.name(), 0)?;
        service.set_env("LD_PRELOAD", &self.library.display().to_string());
        service.set_env("FAKETIME_TIMESTAMP_FILE", &self.file(service.name()).display().to_string());
        service.set_env("FAKETIME_NO_CACHE", "1");
        service.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        service.restart()
    }

    /// Turns the clock of the service of this name so many seconds ahead of the machine's; behind it below zero.
    pub(super) fn turn(&self, name: &str, ahead_s: i64) -> anyhow::Result<()> {
        let file = self.file(name);
        // Read anew at each look at the time, so never half-written.
        let written = file.with_extension("new");
        std::fs::write(&written, format!("{ahead_s:+}\n"))
            .with_context(|| format!("turning {name}'s clock"))?;
        std::fs::rename(&written, &file).with_context(|| format!("turning {name}'s clock"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
