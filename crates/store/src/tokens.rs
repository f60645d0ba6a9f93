// SPDX-License-Identifier: Apache-2.0
//! API tokens: digests only.

use bson::{Document, doc};
use cap_core::actor::{Role, Scope};
use cap_core::id::{ProjectId, TokenId};
use cap_core::name::Label;
use cap_core::page::{Page, Slice};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{as_date, as_date_option, date, read};
use crate::error::StoreError;
use crate::idempotency::Mutation;
use crate::transaction::transact;
use crate::{Store, bounded};

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: TokenId,
    /// What it is called.
    pub name: Label,
    /// What its bearer may do.
    pub role: Role,
    /// The project that it is confined to; the whole organisation when unset.
    pub project: Option<ProjectId>,
    /// HMAC-SHA-256 of the token under the pepper.
    #[serde(with = "serde_bytes")]
    pub digest: Vec<u8>,
    /// The version of the pepper.
    pub pepper_version: u32,
    /// When it was made.
    #[serde(with = "as_date")]
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(with = "as_date")]
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[serde(with = "as_date_option")]
    pub revoked_at: Option<Timestamp>,
}

impl TokenRecord {
    /// Where its role holds.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.project.map_or(Scope::Organisation, Scope::Project)
    }
}

/// The record whose existence says that the first administrator was made.
const BOOTSTRAPPED: &str = "bootstrapped";

impl Store {
    /// Adds a token.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_token(&self, token: &TokenRecord, mutation: Mutation<'_>) -> Result<(), StoreError> {
        self.insert_with("tokens", "create a token", token, mutation).await
    }

    /// Adds the first administrator's token; of any number of tries at once exactly one succeeds, once and for all.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the cluster was bootstrapped before.
    pub async fn bootstrap(&self, token: &TokenRecord, mutation: Mutation<'_>) -> Result<(), StoreError> {
        const DOING: &str = "bootstrap the cluster";
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            let mark = doc! { "_id": BOOTSTRAPPED, "token": token.id.to_string() };
            let marks = self.collection::<Document>("migrations");
            marks.insert_one(mark).session(&mut transaction.session).await.map_err(&failed)?;
            let tokens = self.collection::<TokenRecord>("tokens");
            tokens.insert_one(token).session(&mut transaction.session).await.map_err(&failed)?;
            self.accompany(&mut transaction, &mutation).await?;
            transaction.commit().await
        });
        match result {
            // A commit whose outcome was unknown may have been ours.
            Err(conflict @ StoreError::Conflict { .. }) if self.token(token.id).await?.is_none() => {
                Err(conflict)
            }
            Err(StoreError::Conflict { .. }) => Ok(()),
            result => result,
        }
    }

    /// The token with this id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        let tokens = self.collection::<Document>("tokens");
        let found = bounded("read a token", tokens.find_one(doc! { "_id": id.to_string() })).await?;
        found.map(|document| read("tokens", document)).transpose()
    }

    /// A page of tokens.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tokens(&self, page: &Page) -> Result<Slice<TokenRecord>, StoreError> {
        self.list("tokens", doc! {}, page, |token: &TokenRecord| token.id.to_string()).await
    }

    /// Revokes a token; one that is revoked already stays as it is. Answers whether it changed anything.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn revoke_token(
        &self,
        id: TokenId,
        at: Timestamp,
        mutation: Mutation<'_>,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "revoke a token";
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            let filter = doc! { "_id": id.to_string(), "revoked_at": null };
            let event = mutation.audit.event.to_string();
            let change = doc! { "$set": { "revoked_at": date(at), "last_event": event } };
            let tokens = self.collection::<Document>("tokens");
            let update = tokens.update_one(filter, change).session(&mut transaction.session);
            if update.await.map_err(failed)?.matched_count == 0 {
                return Ok(false);
            }
            self.accompany(&mut transaction, &mutation).await?;
            transaction.commit().await?;
            Ok(true)
        })
    }
}
