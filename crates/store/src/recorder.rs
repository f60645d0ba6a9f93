// SPDX-License-Identifier: Apache-2.0
//! The recorder: one task a process that writes the facts of many tasks in one transaction. A majority commit costs the
//! replica set much the same for one fact as for fifty.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::error::{Failure, StoreError, timed_out};
use crate::fact::Fact;
use crate::reader::Reader;
use crate::{Store, TRY_BOUND};

/// Facts of one transaction at most.
const GROUP: usize = 100;
/// Facts that wait for the recorder at most; beyond it their tasks wait to hand them over.
const WAITING: usize = 1_024;
/// A group gathers until none has come for this part of the time that the last group took to be written, within these bounds: where
/// the database is slow or the machine has much else to do, a wait costs little and buys much.
const QUIET_DIVISOR: u32 = 2;
const QUIET_MIN: Duration = Duration::from_millis(1);
const QUIET_MAX: Duration = Duration::from_millis(25);
/// And for so many times as long as that at most, all in all.
const QUIETS: u32 = 8;
/// Nor for more than these tenths of those who write: a few are always elsewhere.
const WRITERS_TENTHS: usize = 9;
/// Facts written at once when a group was refused and each goes alone.
const ALONE: usize = 8;

/// What an error of a whole group says was attempted.
const DOING: &str = "record facts";

type Answer = oneshot::Sender<Result<(), StoreError>>;

/// Hands facts to the recorder.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    facts: mpsc::Sender<(Fact, Answer)>,
    store: Box<Store>,
    writers: Writers,
}

/// How many have announced that they write fact after fact.
pub(crate) type Writers = Arc<AtomicUsize>;

/// Somebody who writes fact after fact, until dropped: the more there are, the longer a group gathers.
#[derive(Debug)]
pub struct Writer(Writers);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Store {
    /// The same store, whose facts share transactions and whose reads by id share questions from now on. Needs a Tokio
    /// runtime; its tasks end with the last clone of what is answered.
    #[must_use]
    pub fn working_in_groups(self) -> Self {
        let (facts, waiting) = mpsc::channel(WAITING);
        let (alone, writers) = (Self { recorder: None, reader: None, ..self }, Writers::default());
        tokio::spawn(record(alone.clone(), waiting, writers.clone()));
        let reader = Reader::start(alone.clone(), writers.clone());
        let recorder = Recorder { facts, store: Box::new(alone.clone()), writers };
        Self { recorder: Some(recorder), reader: Some(reader), ..alone }
    }

    /// Announces somebody who will write fact after fact; nothing where the store does not work in groups.
    #[must_use]
    pub fn writer(&self) -> Option<Writer> {
        let writers = &self.recorder.as_ref()?.writers;
        writers.fetch_add(1, Ordering::Relaxed);
        Some(Writer(writers.clone()))
    }
}

impl Recorder {
    /// Hands a fact over and waits for its end, no longer than a try may take, although it may lie behind others that
    /// have to wait.
    pub(crate) async fn write(&self, fact: Fact) -> Result<(), StoreError> {
        let doing = fact.doing;
        let written = tokio::time::timeout(TRY_BOUND, self.hand_over(fact)).await;
        written.unwrap_or_else(|_| Err(timed_out(doing, TRY_BOUND)))
    }

    async fn hand_over(&self, fact: Fact) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        match self.facts.send((fact, answer)).await {
            Ok(()) => answered.await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable { doing: DOING, cause: "the recorder ended".into() })
            }),
            // The recorder is gone: slower, and as safe.
            Err(mpsc::error::SendError((fact, _))) => self.store.write_alone(&fact).await,
        }
    }
}

/// Writes what waits, a group at a time. While one is being written the next gathers.
async fn record(store: Store, mut waiting: mpsc::Receiver<(Fact, Answer)>, writers: Writers) {
    let mut group = Vec::with_capacity(GROUP);
    let mut quiet = QUIET_MIN;
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        gather(&mut waiting, &mut group, writers.load(Ordering::Relaxed), quiet).await;
        // Whoever gave up waiting was told that it failed: it must not happen later, unseen.
        group.retain(|(_, answer)| !answer.is_closed());
        let (facts, answers): (Vec<Fact>, Vec<Answer>) = group.drain(..).unzip();
        let (began, is_one) = (Instant::now(), facts.len() == 1);
        if settle(&store, facts, answers).await || is_one {
            quiet = (began.elapsed() / QUIET_DIVISOR).clamp(QUIET_MIN, QUIET_MAX);
        }
    }
}

/// Waits for more: while they keep coming, with no more than `quiet` between two, and until most of the writers have.
async fn gather(
    waiting: &mut mpsc::Receiver<(Fact, Answer)>,
    group: &mut Vec<(Fact, Answer)>,
    writers: usize,
    quiet: Duration,
) {
    let wanted = GROUP.min(writers * WRITERS_TENTHS / 10);
    let until = Instant::now() + quiet * QUIETS;
    while group.len() < wanted {
        let quiet_until = until.min(Instant::now() + quiet);
        match tokio::time::timeout_at(quiet_until, waiting.recv()).await {
            Ok(Some(entry)) => group.push(entry),
            Ok(None) | Err(_) => break,
        }
    }
}

/// Writes a group, and answers each of its tasks. If a fact stands against it, each goes alone: a poisoned one must not
/// hold up the others. Answers whether all were written together.
async fn settle(store: &Store, facts: Vec<Fact>, answers: Vec<Answer>) -> bool {
    if facts.len() > 1 {
        let written = tokio::time::timeout(TRY_BOUND, store.try_write(DOING, &facts)).await;
        let failure = match written {
            Ok(Ok(())) => {
                answers.into_iter().for_each(|answer| drop(answer.send(Ok(()))));
                return true;
            }
            Ok(Err(failure)) => failure,
            Err(_) => timed_out(DOING, TRY_BOUND).into(),
        };
        // The database is away, which is nobody's fault here: all of them may or may not be written.
        if let Failure { error: StoreError::Unavailable { cause, .. }, met: false, .. } = failure {
            for (fact, answer) in facts.iter().zip(answers) {
                drop(answer.send(Err(StoreError::Unavailable { doing: fact.doing, cause: cause.clone() })));
            }
            return false;
        }
    }
    let alone = facts.into_iter().zip(answers).map(|(fact, mut answer)| async move {
        // The group, and those before this one, may have taken as long as anybody waits.
        let written = tokio::select! {
            biased;
            () = answer.closed() => return,
            written = store.write_in_turn(&fact) => written,
        };
        drop(answer.send(written));
    });
    stream::iter(alone).buffer_unordered(ALONE).collect::<()>().await;
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than a machine that is busy takes to hand over what is there.
    const QUIET: Duration = Duration::from_millis(100);

    fn entry() -> (Fact, Answer) {
        (Fact::new("test"), oneshot::channel().0)
    }

    /// The facts of a group that begins with one while `more` wait behind it.
    async fn gathered(more: usize, writers: usize) -> usize {
        let (hand, mut waiting) = mpsc::channel(WAITING);
        for _ in 0..more {
            hand.try_send(entry()).unwrap();
        }
        let mut group = vec![entry()];
        gather(&mut waiting, &mut group, writers, QUIET).await;
        group.len()
    }

    #[tokio::test]
    async fn a_group_takes_what_waits_until_most_of_the_writers_have_come() {
        for (more, writers, expected) in [
            (200, 0, 1),
            (200, 2, 1),
            (200, 10, 9),
            (200, 64, 57),
            (200, 1_000, GROUP),
            (5, 64, 6),
            (0, 64, 1),
        ] {
            assert_eq!(gathered(more, writers).await, expected, "{more} more, {writers} writers");
        }
    }

    #[tokio::test]
    async fn a_group_ends_although_a_few_keep_coming() {
        let (hand, mut waiting) = mpsc::channel(WAITING);
        let trickle = async {
            loop {
                tokio::time::sleep(QUIET / 4).await;
                hand.send(entry()).await.unwrap();
            }
        };
        let mut group = vec![entry()];
        tokio::select! {
            () = gather(&mut waiting, &mut group, 64, QUIET) => {}
            () = trickle => {}
        }
        assert!(group.len() < 57, "it waited for all of them");
    }
}
