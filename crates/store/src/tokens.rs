// SPDX-License-Identifier: Apache-2.0
//! API tokens: digests only.

use bson::doc;
use cap_core::actor::{Role, Scope};
use cap_core::id::{ProjectId, TokenId};
use cap_core::name::Label;
use cap_core::page::{Page, Slice};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::document::{as_date, as_date_option, date, document, read};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::idempotency::Mutation;

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
        let fact = Fact::new("bootstrap the cluster")
            .insert("migrations", doc! { "_id": BOOTSTRAPPED, "token": token.id.to_string() })
            .insert("tokens", document("tokens", token)?)
            .accompanied(&mutation);
        let result = self.write(fact).await;
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
        let found = self.find_record("read a token", "tokens", &id.to_string()).await?;
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
        let filter = doc! { "_id": id.to_string(), "revoked_at": null };
        let event = mutation.audit.event.to_string();
        let change = doc! { "$set": { "revoked_at": date(at), "last_event": event } };
        let fact = Fact::new("revoke a token").must("tokens", filter, change).accompanied(&mutation);
        match self.write(fact).await {
            Ok(()) => Ok(true),
            Err(StoreError::Fenced) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
