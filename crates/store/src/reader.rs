// SPDX-License-Identifier: Apache-2.0
//! The reader: one task a process that finds the records that many tasks ask for by their ids. To answer a question costs
//! the database much the same for one record as for ten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bson::{Document, doc};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use mongodb::action::{Action, Find};
use tokio::sync::{mpsc, oneshot};

use crate::error::{StoreError, timed_out};
use crate::orders::budget;
use crate::recorder::Writers;
use crate::{Store, TRY_BOUND, bounded};

/// Records of one round at most; the database answers as many at once.
const GROUP: usize = 100;
/// Questions that wait for the reader at most; beyond it their tasks wait to hand them over.
const WAITING: usize = 1_024;
/// For so many tasks at work a round gathers for 1 ms, and for 1 ms more for as many again, up to the longest wait. Fewer
/// wait for nobody: what they ask while a question is under way is asked next.
const WRITERS_PER_MS: usize = 16;
const GATHER_MAX: Duration = Duration::from_millis(8);

/// What an error of a whole round says was attempted.
const DOING: &str = "read records";

type Found = Result<Vec<Document>, StoreError>;

/// What is looked for by ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// Records of a collection.
    Records(&'static str),
    /// Rate limits that are being kept, and for how long.
    Limits,
}

impl Look {
    /// Finds them by itself.
    pub(crate) async fn find(self, store: &Store, ids: &[String]) -> mongodb::error::Result<Vec<Document>> {
        let which = match ids {
            [id] => doc! { "_id": id },
            _ => doc! { "_id": { "$in": ids } },
        };
        let (collection, filter, projection) = match self {
            Self::Records(collection) => (collection, which, None),
            Self::Limits => {
                ("budgets", which.into_iter().chain(budget::kept()).collect(), Some(budget::left()))
            }
        };
        let records = store.collection(collection);
        let find = records.find(filter).optional(projection, Find::projection);
        find.await?.try_collect().await
    }
}

struct Question {
    look: Look,
    ids: Vec<String>,
    answer: oneshot::Sender<Found>,
}

/// Hands questions to the reader.
#[derive(Debug, Clone)]
pub(crate) struct Reader(mpsc::Sender<Question>);

impl Reader {
    /// Starts the reader; it ends with the last of these.
    pub(crate) fn start(store: Store, writers: Writers) -> Self {
        let (questions, waiting) = mpsc::channel(WAITING);
        tokio::spawn(read(store, waiting, writers));
        Self(questions)
    }

    /// What there is of these ids, no longer than a try may take, although the question may lie behind others.
    pub(crate) async fn find(&self, doing: &'static str, look: Look, ids: Vec<String>) -> Found {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            let gone = || StoreError::Unavailable { doing, cause: "the reader ended".into() };
            self.0.send(Question { look, ids, answer }).await.map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        };
        let found = tokio::time::timeout(TRY_BOUND, asked).await;
        found.unwrap_or_else(|_| Err(timed_out(doing, TRY_BOUND))).map_err(|error| error.while_doing(doing))
    }
}

/// Answers what waits, a round at a time.
async fn read(store: Store, mut waiting: mpsc::Receiver<Question>, writers: Writers) {
    let mut round = Vec::with_capacity(GROUP);
    while waiting.recv_many(&mut round, GROUP).await > 0 {
        let ms = u64::try_from(writers.load(Ordering::Relaxed) / WRITERS_PER_MS).unwrap_or(u64::MAX);
        let until = tokio::time::Instant::now() + Duration::from_millis(ms).min(GATHER_MAX);
        while ms > 0 && round.len() < GROUP {
            match tokio::time::timeout_at(until, waiting.recv()).await {
                Ok(Some(question)) => round.push(question),
                Ok(None) | Err(_) => break,
            }
        }
        let mut looks: BTreeMap<Look, Vec<Question>> = BTreeMap::new();
        for question in round.drain(..).filter(|question| !question.answer.is_closed()) {
            looks.entry(question.look).or_default().push(question);
        }
        join_all(looks.into_iter().map(|(look, asked)| answer(&store, look, asked))).await;
    }
}

/// Answers questions of one kind. Two may ask for the same.
async fn answer(store: &Store, look: Look, asked: Vec<Question>) {
    let ids: BTreeSet<String> = asked.iter().flat_map(|question| question.ids.iter().cloned()).collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let found = bounded(DOING, look.find(store, &ids)).await.map(|records| {
        let named = |record: Document| (record.get_str("_id").unwrap_or_default().to_owned(), record);
        records.into_iter().map(named).collect::<BTreeMap<String, Document>>()
    });
    for Question { ids, answer, .. } in asked {
        let own = found.as_ref().map(|found| ids.iter().filter_map(|id| found.get(id).cloned()).collect());
        drop(answer.send(own.map_err(Clone::clone)));
    }
}
