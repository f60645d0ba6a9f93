// SPDX-License-Identifier: Apache-2.0
//! Readiness: probes are asked in the background; who asks us gets the score at once.

mod query;
mod report;
mod track;

pub use query::{BadQuery, ReadyQuery};
pub use report::{Report, report};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cap_core::clock::Clock;
pub use cap_core::health::Probe;
use cap_core::health::{Check, Finding};
use tokio_util::sync::CancellationToken;

pub use track::CONFIRMED_FOR;
use track::{Rule, Track};

/// The score of every check that the process has. Clones share it.
#[derive(Clone)]
pub struct Readiness {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    tracks: Mutex<BTreeMap<Check, Track>>,
    is_shutting_down: AtomicBool,
}

impl Readiness {
    /// No check yet, save that the process is not shutting down.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let inner = Inner { clock, tracks: Mutex::default(), is_shutting_down: AtomicBool::new(false) };
        Self { inner: Arc::new(inner) }
    }

    /// Says beforehand that there will be a probe for `check`: until it has passed once, the process is not ready.
    pub fn expect(&self, check: Check) {
        self.with_track(check, |_| ());
    }

    /// Asks `probe` from now on, in the background, until `stop`. Until it has passed once, the process is not ready.
    pub fn watch(&self, probe: Arc<dyn Probe>, stop: CancellationToken) {
        self.expect(probe.check());
        let readiness = self.clone();
        tokio::spawn(async move {
            let check = probe.check();
            while !stop.is_cancelled() {
                let wait = readiness.ask(probe.as_ref()).await;
                tokio::select! {
                    () = readiness.inner.clock.sleep(wait) => {}
                    () = stop.cancelled() => {}
                }
            }
            tracing::debug!(check = check.as_str(), "no longer probed");
        });
    }

    /// Says that the process is shutting down: it is not ready from now on.
    pub fn shut_down(&self) {
        self.inner.is_shutting_down.store(true, Ordering::SeqCst);
    }

    /// What each check found, in the order in which they are shown.
    #[must_use]
    pub fn findings(&self, exclude: &[Check]) -> Vec<Finding> {
        let now = self.inner.clock.boottime();
        let mut tracks = self.tracks();
        let mut fault_of = |check| match check {
            Check::Shutdown => {
                let stopping = self.inner.is_shutting_down.load(Ordering::SeqCst);
                Some(stopping.then(|| "the process is shutting down".to_owned()))
            }
            Check::Mongo | Check::Kek | Check::Schema => {
                tracks.get_mut(&check).map(|track| track.fault(Rule::of(check), now))
            }
        };
        let shown = Check::ALL.into_iter().filter(|check| !exclude.contains(check));
        shown.filter_map(|check| Some(Finding { check, fault: fault_of(check)? })).collect()
    }

    /// Whether the process may be given work.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.findings(&[]).iter().all(|finding| finding.fault.is_none())
    }

    /// When the last try of `check` that passed began (boot time).
    #[must_use]
    pub fn passed_at(&self, check: Check) -> Option<Duration> {
        self.with_track(check, |track| track.passed_at())
    }

    /// One try, scored. Returns how long to wait for the next.
    async fn ask(&self, probe: &dyn Probe) -> Duration {
        let (check, clock) = (probe.check(), &self.inner.clock);
        let rule = Rule::of(check).paced(probe.pace());
        let asked_at = clock.boottime();
        let answer = tokio::select! {
            answer = probe.probe() => answer,
            () = clock.sleep(rule.bound) => Err(format!("no answer within {} ms", rule.bound.as_millis())),
        };
        let is_news = self.with_track(check, |track| track.record(asked_at, answer.clone()));
        match answer {
            Ok(()) if is_news => tracing::info!(check = check.as_str(), "the check passes"),
            Err(fault) if is_news => tracing::warn!(check = check.as_str(), fault, "the check fails"),
            Ok(()) | Err(_) => {}
        }
        self.with_track(check, |track| track.wait(rule))
    }

    fn with_track<T>(&self, check: Check, act: impl FnOnce(&mut Track) -> T) -> T {
        act(self.tracks().entry(check).or_default())
    }

    fn tracks(&self) -> std::sync::MutexGuard<'_, BTreeMap<Check, Track>> {
        self.inner.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.findings(&[])).finish()
    }
}

#[cfg(test)]
mod tests;
