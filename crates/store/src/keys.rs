// SPDX-License-Identifier: Apache-2.0
//! Wrapped project keys and KEK canaries.

use async_trait::async_trait;
use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use cap_core::envelope::{Canary, KeyStore, KeyStoreError, WrappedKey};
use cap_core::id::ClusterId;
use serde::Deserialize;

use crate::document::read;
use crate::error::StoreError;
use crate::{Store, bounded};

#[derive(Deserialize)]
struct CanaryDocument {
    #[serde(rename = "_id")]
    kek_version: u32,
    cluster: ClusterId,
    wrapped: Binary,
}

#[derive(Deserialize)]
struct KeyDocument {
    key: String,
    version: u32,
    kek_version: u32,
    wrapped: Binary,
}

fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

impl Store {
    /// The canary of the KEK version in use; nothing before the first migration.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn canary(&self) -> Result<Option<Canary>, StoreError> {
        let versions = self.collection::<Document>("kek_versions");
        let newest = versions.find_one(doc! { "state": "active" }).sort(doc! { "_id": -1 });
        let Some(document) = bounded("read the KEK canary", newest).await? else { return Ok(None) };
        let found: CanaryDocument = read("kek_versions", document)?;
        Ok(Some(Canary {
            cluster: found.cluster,
            kek_version: found.kek_version,
            wrapped: found.wrapped.bytes,
        }))
    }

    /// Adds a canary unless one of that version is there; answers the one that is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn insert_canary(&self, canary: &Canary, provider: &str) -> Result<Canary, StoreError> {
        let record = doc! {
            "_id": canary.kek_version,
            "state": "active",
            "provider": provider,
            "cluster": canary.cluster.to_string(),
            "wrapped": binary(&canary.wrapped),
        };
        let versions = self.collection::<Document>("kek_versions");
        match bounded("store the KEK canary", versions.insert_one(record)).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        let missing = || StoreError::Corrupt {
            collection: "kek_versions",
            cause: "the canary just stored is gone".into(),
        };
        self.canary().await?.ok_or_else(missing)
    }
}

#[async_trait]
impl KeyStore for Store {
    async fn find(&self, key: &str, version: Option<u32>) -> Result<Option<WrappedKey>, KeyStoreError> {
        let keys = self.collection::<Document>("project_keys");
        let filter = match version {
            Some(version) => doc! { "_id": row_id(key, version) },
            // Ids sort by key, then by version: versions are written with ten digits.
            None => doc! { "_id": { "$gte": row_id(key, 0), "$lte": row_id(key, u32::MAX) } },
        };
        let found = bounded("read a project key", keys.find_one(filter).sort(doc! { "_id": -1 })).await?;
        let Some(document) = found else { return Ok(None) };
        let found: KeyDocument = read("project_keys", document)?;
        let KeyDocument { key, version, kek_version, wrapped } = found;
        Ok(Some(WrappedKey { key, version, kek_version, wrapped: wrapped.bytes }))
    }

    async fn insert(&self, wrapped: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
        let record = doc! {
            "_id": row_id(&wrapped.key, wrapped.version),
            "key": &wrapped.key,
            "version": wrapped.version,
            "kek_version": wrapped.kek_version,
            "wrapped": binary(&wrapped.wrapped),
        };
        let keys = self.collection::<Document>("project_keys");
        match bounded("store a project key", keys.insert_one(record)).await {
            Ok(_) => Ok(wrapped),
            // Somebody else was first, or this try's predecessor was: what is stored counts.
            Err(StoreError::Conflict { .. }) => {
                let stored = self.find(&wrapped.key, Some(wrapped.version)).await?;
                stored.ok_or_else(|| KeyStoreError(format!("project key {} vanished", wrapped.key)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn row_id(key: &str, version: u32) -> String {
    format!("{key}/{version:010}")
}
