// SPDX-License-Identifier: Apache-2.0
//! Answers to HTTP-01 challenges: written with the order, read by every api replica.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{Document, doc};
use cap_core::challenge::{ChallengeAnswer, ChallengeToken};
use cap_core::clock::Clock;
use jiff::Timestamp;
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::options::FullDocumentType;
use tokio::sync::Semaphore;

use crate::document::{date, time};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::{STREAM_WAIT, Store, TRY_BOUND, bounded};

/// Answers kept in memory at most; beyond it the cache starts anew and the database answers.
const CACHED: usize = 20_000;
/// The wait before a change stream that broke is opened again.
const REOPEN_WAIT: Duration = Duration::from_secs(1);
/// How long a request waits for the database to have a primary again: an election must not fail a validation.
const ELECTION_WAIT: Duration = Duration::from_secs(8);
/// Looks at the database at once: whoever asks for tokens that are not there must not keep others from it.
const LOOKS: usize = 8;
/// The wait between two looks during an election.
const ELECTION_LOOK: Duration = Duration::from_millis(250);

impl Fact {
    /// With the answers to an order's challenges.
    pub(crate) fn answering(self, answers: &[ChallengeAnswer]) -> Self {
        answers.iter().fold(self, |fact, answer| {
            let set = doc! { "$set": {
                "key_authorization": &answer.key_authorization,
                "project": answer.project.to_string(),
                "order": answer.order.to_string(),
                "expire_at": date(answer.expires_at),
            } };
            // A CA may hand out the same order, and so the same tokens, again after an attempt of ours has ended.
            fact.upsert("challenge_tokens", doc! { "_id": answer.token.to_string() }, set)
        })
    }
}

impl Store {
    async fn answer(&self, token: &ChallengeToken) -> Result<Option<Answer>, StoreError> {
        let tokens = self.collection::<Document>("challenge_tokens");
        let found =
            bounded("look up a challenge", tokens.find_one(doc! { "_id": token.to_string() })).await?;
        Ok(found.as_ref().and_then(|document| read_answer(document).map(|(_, answer)| answer)))
    }
}

#[derive(Clone)]
struct Answer {
    key_authorization: String,
    expires_at: Timestamp,
}

/// The answers that one process knows, fed by a change stream of what a majority has.
#[derive(Clone)]
pub struct ChallengeCache {
    store: Store,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<HashMap<String, Answer>>>,
    looks: Arc<Semaphore>,
}

impl ChallengeCache {
    /// An empty cache over `store`.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, known: Arc::default(), looks: Arc::new(Semaphore::new(LOOKS)) }
    }

    /// Follows the change stream for ever; ends only when dropped. While it is broken the database is asked.
    pub async fn follow(&self) {
        loop {
            let tokens = self.store.collection::<Document>("challenge_tokens");
            // An answer changes when its account has taken another key.
            let changes =
                vec![doc! { "$match": { "operationType": { "$in": ["insert", "update", "replace"] } } }];
            let watch = tokens.watch().pipeline(changes).full_document(FullDocumentType::UpdateLookup);
            let watch = watch.max_await_time(STREAM_WAIT);
            match bounded("watch challenges", watch).await {
                Ok(stream) => {
                    self.learn_from(stream).await;
                    // What changes from now on is not heard.
                    self.forget();
                }
                Err(error) => {
                    tracing::warn!(%error, "the stream of challenges cannot be opened; the database is asked");
                }
            }
            self.clock.sleep(REOPEN_WAIT).await;
        }
    }

    /// Reads until the stream breaks. The database answers every so often, with news or without: one that says nothing is gone.
    async fn learn_from(&self, mut stream: ChangeStream<ChangeStreamEvent<Document>>) {
        while let Ok(Ok(found)) = tokio::time::timeout(STREAM_WAIT + TRY_BOUND, stream.next_if_any()).await {
            match found.as_ref().map(|event| event.full_document.as_ref().and_then(read_answer)) {
                Some(Some((token, answer))) => self.learn(token, answer),
                Some(None) => {}
                None if stream.is_alive() => {}
                None => return,
            }
        }
    }

    /// The key authorization for `token`. Without a primary the request is held for up to 8 s.
    ///
    /// # Errors
    /// When the database had no primary all that time.
    pub async fn find(&self, token: &ChallengeToken) -> Result<Option<String>, StoreError> {
        if let Some(answer) = self.recall(token) {
            return Ok(Some(answer));
        }
        let _place = self.looks.acquire().await;
        let deadline = self.clock.boottime() + ELECTION_WAIT;
        loop {
            let error = match self.store.answer(token).await {
                Ok(found) => {
                    return Ok(found
                        .filter(|a| a.expires_at > self.clock.now())
                        .map(|a| a.key_authorization));
                }
                Err(error) => error,
            };
            if self.clock.boottime() >= deadline {
                return Err(error);
            }
            self.clock.sleep(ELECTION_LOOK).await;
        }
    }

    fn recall(&self, token: &ChallengeToken) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = known.get(&token.to_string())?;
        (answer.expires_at > self.clock.now()).then(|| answer.key_authorization.clone())
    }

    fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn learn(&self, token: String, answer: Answer) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHED {
            known.clear();
        }
        known.insert(token, answer);
    }
}

impl std::fmt::Debug for ChallengeCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChallengeCache").finish_non_exhaustive()
    }
}

fn read_answer(document: &Document) -> Option<(String, Answer)> {
    let token = document.get_str("_id").ok()?.to_owned();
    let key_authorization = document.get_str("key_authorization").ok()?.to_owned();
    let expires_at = time(*document.get_datetime("expire_at").ok()?);
    Some((token, Answer { key_authorization, expires_at }))
}
