// SPDX-License-Identifier: Apache-2.0
//! A service as a member of the cluster: it says that it is there, how it is and what it does, until it says goodbye.
//!
//! Nothing waits for it and nothing fails by it: while the database is away it is tried again, and whoever reads sees the
//! process as lost for as long.

use std::sync::Arc;
use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::entropy::{self, Entropy};
use cap_core::id::InstanceId;
use cap_core::instance::{BEAT, BEAT_JITTER, Doing, State};
use cap_runtime::args::{COMMIT, VERSION};
use cap_runtime::health::Readiness;
use cap_runtime::{Process, host};
use cap_store::{Beat, Store, StoreError};
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How often a process looks at itself: what changed about it is told within this.
const LOOK: Duration = Duration::from_millis(500);
/// The least time between two beats, whatever changes.
const BEAT_MIN: Duration = Duration::from_secs(1);
/// The wait after a beat that failed.
const AGAIN: Duration = Duration::from_secs(3);
/// Beats between two looks whether another process has this one's name.
const BEATS_PER_NAMESAKES: u32 = 6;
/// How long a process that ends waits for its goodbye to be heard. Unheard, it counts as lost for a day.
const GOODBYE: Duration = Duration::from_secs(3);

/// The place of a service in the cluster. Dropped without [`Membership::leave`], it is left without a word.
#[derive(Debug)]
pub struct Membership(oneshot::Sender<()>);

impl Membership {
    /// Says goodbye, in the background: the process ends when it was heard, or some seconds later.
    pub fn leave(self) {
        // The other end is gone only when the process is being ended by force.
        let _ = self.0.send(());
    }
}

/// From now on says that this process is there, and what `doing` answers.
pub fn enrol(
    process: &Process,
    store: &Store,
    doing: impl Fn() -> Doing + Send + Sync + 'static,
) -> Membership {
    let (sender, receiver) = oneshot::channel();
    let member = Member {
        id: InstanceId::generate(process.clock.as_ref(), process.entropy.as_ref()),
        name: process.service.instance_name.clone(),
        host: host::name(),
        store: store.clone(),
        clock: process.clock.clone(),
        entropy: process.entropy.clone(),
        readiness: process.readiness.clone(),
        stopping: process.shutdown.soft(),
        doing: Box::new(doing),
    };
    process.shutdown.tasks().spawn(member.live(receiver));
    Membership(sender)
}

struct Member {
    id: InstanceId,
    name: String,
    host: String,
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    readiness: Readiness,
    stopping: CancellationToken,
    doing: Box<dyn Fn() -> Doing + Send + Sync>,
}

/// What was told so far.
#[derive(Default)]
struct Told {
    last: Option<(State, Doing)>,
    started_at: Option<Timestamp>,
    beats: u32,
    failed: u32,
    was_ready: bool,
    /// The boot times of the last try and of the next one.
    tried_at: Duration,
    next_at: Duration,
}

impl Member {
    async fn live(self, mut left: oneshot::Receiver<()>) {
        let mut told = Told::default();
        loop {
            let ended = {
                let beating = self.beat_if_due(&mut told);
                tokio::pin!(beating);
                let ended = tokio::select! {
                    () = &mut beating => None,
                    ended = &mut left => Some(ended),
                };
                if let Some(Ok(())) = ended {
                    // A beat that is under way would arrive after the goodbye, and tell of a process that is gone.
                    let _ = tokio::time::timeout(GOODBYE, beating).await;
                }
                ended
            };
            let ended = match ended {
                None => tokio::select! {
                    () = self.clock.sleep(LOOK) => None,
                    ended = &mut left => Some(ended),
                },
                ended => ended,
            };
            match ended {
                None => {}
                Some(Ok(())) => return self.say_goodbye().await,
                Some(Err(_)) => return,
            }
        }
    }

    /// Tells what there is to tell, if it is time or news.
    async fn beat_if_due(&self, told: &mut Told) {
        let now = self.clock.boottime();
        let ready = self.readiness.ready();
        let state = State::of(self.stopping.is_cancelled(), ready, told.was_ready);
        told.was_ready |= ready;
        let doing = (self.doing)();
        let is_news = told.last.is_none_or(|(was, did)| was != state || did.differs_in_kind(doing));
        if now < told.next_at && !(is_news && now >= told.tried_at + BEAT_MIN) {
            return;
        }
        told.tried_at = now;
        match self.beat(told, state, doing).await {
            Ok(()) => {
                if told.failed > 0 {
                    tracing::info!(failed = told.failed, "the cluster knows of this process again");
                }
                told.failed = 0;
                told.last = Some((state, doing));
                let jitter = entropy::between(self.entropy.as_ref(), Duration::ZERO, BEAT_JITTER * 2);
                told.next_at = now + BEAT - BEAT_JITTER + jitter;
            }
            Err(error) => {
                if told.failed == 0 {
                    tracing::warn!(%error, "the cluster could not be told that this process is there; trying again");
                }
                told.failed = told.failed.saturating_add(1);
                told.last = None;
                told.tried_at = self.clock.boottime() + AGAIN;
                told.next_at = told.tried_at;
            }
        }
    }

    async fn beat(&self, told: &mut Told, state: State, doing: Doing) -> Result<(), StoreError> {
        let beat = Beat {
            id: self.id,
            name: &self.name,
            version: VERSION,
            commit: COMMIT,
            host: &self.host,
            pid: std::process::id(),
            started_at: told.started_at,
            state,
            doing,
        };
        let started_at = self.store.beat(&beat, self.clock.as_ref()).await?;
        if told.started_at.is_none() {
            self.store.forget_replaced(self.id, doing.role(), &self.name, started_at).await?;
            told.started_at = Some(started_at);
        }
        told.beats = told.beats.wrapping_add(1);
        if told.beats.is_multiple_of(BEATS_PER_NAMESAKES) {
            self.look_for_namesakes(doing.role()).await?;
        }
        Ok(())
    }

    /// Two processes of one name cannot be told apart in any log, table or lease.
    async fn look_for_namesakes(&self, role: &str) -> Result<(), StoreError> {
        let (roll, _) = self.store.roll_of(role, &self.name).await?;
        for other in roll.namesakes().into_iter().flatten().filter(|other| other.id != self.id) {
            tracing::error!(
                name = self.name,
                other_host = other.host,
                other_pid = other.pid,
                "another living {role} has this process's name; give each a CAP_INSTANCE_NAME of its own"
            );
        }
        Ok(())
    }

    async fn say_goodbye(&self) {
        // A beat that was cut short may arrive after this; the entry then counts as lost, and goes by itself in a day.
        match tokio::time::timeout(GOODBYE, self.store.forget_instance(self.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(%error, "the goodbye was not heard: this process will count as lost")
            }
            Err(_) => tracing::info!("the goodbye was not heard in time: this process will count as lost"),
        }
    }
}
