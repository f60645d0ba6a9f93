// SPDX-License-Identifier: Apache-2.0
//! What every mutation carries besides itself: its audit row, and the record that makes a repeated request harmless.

use bson::{DateTime, Document, doc};
use cap_core::audit::Row;
use cap_core::id::JobId;
use jiff::Timestamp;
use mongodb::options::ReadConcern;
use serde::{Deserialize, Serialize};

use crate::document::{date, read};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::{CONFIRM_BOUND, Store, bounded};

/// A request that its client may repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Caller, route and the client's key, joined.
    pub id: String,
    /// SHA-256 of the body, hex.
    pub body_sha256: String,
    /// The answer's status.
    pub status: u16,
    /// What it made or changed.
    pub resource: String,
    /// Until when it is remembered: longer than any client goes on repeating it.
    pub remembered_until: Timestamp,
}

impl Request {
    /// A repeated request is answered with the job that does the work, whichever that is.
    pub(crate) fn answered_by(&self, job: JobId) -> Self {
        Self { resource: job.to_string(), ..self.clone() }
    }
}

/// A request that was carried out before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// SHA-256 of the body that it had, hex.
    pub body_sha256: String,
    /// The answer's status.
    pub status: u16,
    /// What it made or changed.
    pub resource: String,
}

/// What goes in together with a mutation.
#[derive(Debug, Clone, Copy)]
pub struct Mutation<'a> {
    /// Its audit row.
    pub audit: &'a Row,
    /// The request, where the client named it.
    pub request: Option<&'a Request>,
}

impl Fact {
    /// With what goes in together with a mutation.
    pub(crate) fn accompanied(self, mutation: &Mutation<'_>) -> Self {
        let fact = self.audited(mutation.audit);
        match mutation.request {
            Some(request) => fact.remembering(request),
            None => fact,
        }
    }

    /// With the request, so that it is known when it is repeated.
    fn remembering(self, request: &Request) -> Self {
        let expire_at: DateTime = date(request.remembered_until);
        let record = doc! {
            "_id": &request.id,
            "body_sha256": &request.body_sha256,
            "status": i32::from(request.status),
            "resource": &request.resource,
            "expire_at": expire_at,
        };
        self.insert("idempotency", record)
    }
}

impl Store {
    /// Whether a request was carried out before.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn replay(&self, id: &str) -> Result<Option<Replay>, StoreError> {
        self.replay_as_of(ReadConcern::majority(), id).await
    }

    async fn replay_as_of(&self, concern: ReadConcern, id: &str) -> Result<Option<Replay>, StoreError> {
        let requests = self.collection::<Document>("idempotency");
        let find = requests.find_one(doc! { "_id": id }).read_concern(concern).max_time(CONFIRM_BOUND);
        let found = bounded("look up a request", find).await?;
        found.map(|document| read("idempotency", document)).transpose()
    }

    /// The outcome of the request with this id, as of now: what a refusal stands against may be on the primary alone yet, and
    /// so may the earlier request be that made it; only a linearizable read waits for both.
    pub(crate) async fn replay_of_refused(&self, id: &str) -> Result<Option<Replay>, StoreError> {
        self.replay_as_of(ReadConcern::linearizable(), id).await
    }

    /// Remembers a request that there was nothing to do for, since what it asks for was under way: repeated when that is over,
    /// it begins nothing.
    ///
    /// # Errors
    /// [`StoreError::Replayed`] when the same request was carried out before.
    pub async fn remember(&self, request: &Request) -> Result<(), StoreError> {
        let result = self.write(Fact::new("remember a request").remembering(request)).await;
        self.replayed_request(Some(request), result).await
    }

    /// A conflict may be the trace of the same request carried out before: then it is a replay.
    pub(crate) async fn replayed<T>(
        &self,
        mutation: &Mutation<'_>,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.replayed_request(mutation.request, result).await
    }

    /// A refusal may be the trace of the same request carried out before, too.
    pub(crate) async fn refused<T>(&self, mutation: &Mutation<'_>, refusal: T) -> Result<T, StoreError> {
        let Some(request) = mutation.request else { return Ok(refusal) };
        match self.replay_of_refused(&request.id).await? {
            Some(replay) => Err(StoreError::Replayed(Box::new(replay))),
            None => Ok(refusal),
        }
    }

    async fn replayed_request<T>(
        &self,
        request: Option<&Request>,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match (result, request) {
            (Err(conflict @ StoreError::Conflict { .. }), Some(request)) => {
                match self.replay_of_refused(&request.id).await? {
                    Some(replay) => Err(StoreError::Replayed(Box::new(replay))),
                    None => Err(conflict),
                }
            }
            (result, _) => result,
        }
    }
}
