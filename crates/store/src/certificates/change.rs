// SPDX-License-Identifier: Apache-2.0
//! Changes of a certificate's settings, and its end.

use bson::{Document, doc};
use cap_core::certificate::{ChainName, KeyType, Profile};
use cap_core::drift::DriftTarget;
use cap_core::id::CertificateId;
use jiff::Timestamp;

use super::CertificateRecord;
use crate::Store;
use crate::document::{bson, date, read};
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::renewals::plan;
use crate::transaction::{Transaction, transact};

/// What became of removing a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It is still there: a version of it is being revoked.
    BeingRevoked,
}

/// What may be changed about a certificate; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct CertificateChange {
    /// Whether it is renewed without being asked.
    pub auto_renew: Option<bool>,
    /// The algorithm of the key of the next versions.
    pub key_type: Option<KeyType>,
    /// Whether renewals keep the key.
    pub key_reuse: Option<bool>,
    /// The CA's profile; its default when it is to be unset.
    pub profile: Option<Option<Profile>>,
    /// The chain that is taken where the CA offers it; its default when it is to be unset.
    pub preferred_chain: Option<Option<ChainName>>,
    /// Where it is served; at its names when it is to be unset.
    pub drift_target: Option<Option<DriftTarget>>,
}

impl CertificateChange {
    /// What is set of its settings. None is null, which reads as none.
    fn settings(&self) -> Result<Document, StoreError> {
        let mut set = Document::new();
        if let Some(auto_renew) = self.auto_renew {
            set.insert("auto_renew", auto_renew);
        }
        if let Some(key_type) = self.key_type {
            set.insert("key_type", key_type.as_str());
        }
        if let Some(key_reuse) = self.key_reuse {
            set.insert("key_reuse", key_reuse);
        }
        if let Some(profile) = &self.profile {
            set.insert("profile", bson("certificates", profile)?);
        }
        if let Some(chain) = &self.preferred_chain {
            set.insert("preferred_chain", bson("certificates", chain)?);
        }
        Ok(set)
    }
}

impl Store {
    /// Changes a certificate's settings. Answers whether it is still there.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not as `seen` any more, [`StoreError::Replayed`] when the same request was
    /// carried out before.
    pub async fn update_certificate(
        &self,
        id: CertificateId,
        seen: Option<&CertificateRecord>,
        change: CertificateChange,
        at: Timestamp,
        mutation: Mutation<'_>,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "update a certificate";
        let mut set = doc! { "updated_at": date(at), "last_event": mutation.audit.event.to_string() };
        set.extend(change.settings()?);
        let mut fact = Fact::new(DOING).accompanied(&mutation);
        if let Some(target) = &change.drift_target {
            // None is null, which reads as none.
            set.insert("drift_target", bson("certificates", target)?);
            fact = fact.scanning_now(id);
        }
        let mut stages = plan::stages(doc! { "$set": set });
        if change.auto_renew == Some(true) {
            // What was revoked is due at once from when it is to be renewed by itself again.
            let is_revoked = doc! { "$ifNull": ["$version.revocation.revoked_at", false] };
            let as_it_is = doc! { "$ifNull": ["$renew_at", "$$REMOVE"] };
            stages.push(doc! { "$set": { "renew_at": { "$cond": [is_revoked, date(at), as_it_is] } } });
            stages.push(plan::stage());
        }
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            self.must_be_as_seen(&mut transaction, seen).await?;
            let certificates = self.collection::<Document>("certificates");
            let update = certificates
                .update_one(doc! { "_id": id.to_string() }, stages.clone())
                .session(&mut transaction.session);
            if update.await.map_err(failed)?.matched_count == 0 {
                return Ok(false);
            }
            self.write_within(&mut transaction, std::slice::from_ref(&fact)).await?;
            transaction.commit().await?;
            Ok(true)
        });
        self.replayed(&mutation, result).await
    }

    /// Removes a certificate with its versions and keys, and ends what is going on for it; but not while one of its versions is
    /// being revoked: what the CA has to be told would be gone.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not as `seen` any more.
    pub async fn delete_certificate(
        &self,
        id: CertificateId,
        seen: Option<&CertificateRecord>,
        mutation: Mutation<'_>,
    ) -> Result<Deleted, StoreError> {
        const DOING: &str = "delete a certificate";
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            self.must_be_as_seen(&mut transaction, seen).await?;
            if self.is_being_revoked(&mut transaction, id).await? {
                return Ok(Deleted::BeingRevoked);
            }
            let own = doc! { "certificate": id.to_string() };
            let certificates = self.collection::<Document>("certificates");
            let gone =
                certificates.delete_one(doc! { "_id": id.to_string() }).session(&mut transaction.session);
            gone.await.map_err(&failed)?;
            let versions = self.collection::<Document>("certificate_versions");
            versions.delete_many(own.clone()).session(&mut transaction.session).await.map_err(&failed)?;
            let orders = self.collection::<Document>("orders");
            orders.delete_many(own).session(&mut transaction.session).await.map_err(&failed)?;
            self.cancel_jobs(&mut transaction, &id.to_string()).await?;
            self.resolve_notices(&mut transaction, id).await?;
            self.write_within(&mut transaction, &[Fact::new(DOING).accompanied(&mutation)]).await?;
            transaction.commit().await?;
            Ok(Deleted::Gone)
        })
    }

    /// Refuses when a certificate changed since it was `seen`; from here on the snapshot keeps it as it is.
    pub(crate) async fn must_be_as_seen(
        &self,
        transaction: &mut Transaction,
        seen: Option<&CertificateRecord>,
    ) -> Result<(), Failure> {
        let Some(seen) = seen else { return Ok(()) };
        let failed = transaction.failed();
        let certificates = self.collection::<Document>("certificates");
        let found = certificates
            .find_one(doc! { "_id": seen.id.to_string() })
            .session(&mut transaction.session)
            .await
            .map_err(failed)?;
        let now: Option<CertificateRecord> =
            found.map(|document| read("certificates", document)).transpose()?;
        if now.as_ref() == Some(seen) {
            return Ok(());
        }
        let what = "the certificate changed in the same moment".to_owned();
        Err(StoreError::Conflict { doing: "change a certificate", what }.into())
    }
}
