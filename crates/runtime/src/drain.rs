// SPDX-License-Identifier: Apache-2.0
//! Stopping: asked once, the process drains; asked twice, or out of time, it ends.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exit::Exit;
use crate::health::Readiness;

/// How long work has, once it was told that the time is up, to hand back what it holds.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The two stages of stopping, and the tasks that a stop waits for. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Nobody asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a drain: take nothing new, end what is in hand.
    pub fn begin(&self) {
        self.soft.cancel();
    }

    /// Says that the time is up: drop what is in hand.
    pub fn expire(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Cancelled when the drain begins: take nothing new.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when the time is up: hand back what is in hand and return.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Where to spawn tasks that the process must not end before.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}

impl Signals {
    /// From now on the signals ask instead of killing.
    ///
    /// # Errors
    /// When the kernel refuses the handlers.
    pub fn install() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    /// The next one's name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Turns signals into the stages: the first one begins the drain and takes readiness away, the second one ends the
/// process. `hold` (the time that listeners stay open) and `grace` together bound the drain.
pub async fn supervise(
    shutdown: Shutdown,
    readiness: Readiness,
    mut signals: Signals,
    bounds: (Duration, Duration),
) {
    let (asked_by, already) = tokio::select! {
        name = signals.next() => (name, 1),
        () = shutdown.soft.cancelled() => ("the process itself", 0),
    };
    let (hold, grace) = bounds;
    tracing::info!(asked_by, hold_ms = ms(hold), grace_ms = ms(grace), "draining");
    readiness.shut_down();
    shutdown.begin();
    tokio::select! {
        name = second_signal(&mut signals, already) => {
            tracing::warn!(asked_by = name, tasks = shutdown.tasks.len(), "asked twice: ending now");
            std::process::exit(Exit::Aborted.code().into());
        }
        () = tokio::time::sleep(hold + grace) => {
            tracing::warn!(tasks = shutdown.tasks.len(), "the grace is over: dropping what is in hand");
            shutdown.expire();
        }
    }
    tokio::select! {
        _ = signals.next() => {}
        () = tokio::time::sleep(LAST_WORDS) => {}
    }
    tracing::error!(
        tasks = shutdown.tasks.len(),
        "the drain did not end in time; leases that are still held run out by themselves"
    );
    std::process::exit(Exit::Aborted.code().into());
}

/// The second signal, when `already` have come. A drain that the process began itself was asked for by none.
async fn second_signal(signals: &mut Signals, already: u32) -> &'static str {
    if already == 0 {
        let first = signals.next().await;
        tracing::info!(asked_by = first, "already draining");
    }
    signals.next().await
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
