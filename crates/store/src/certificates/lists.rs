// SPDX-License-Identifier: Apache-2.0
//! Lists of certificates and of their versions. Nothing is read for them that they do not show: what the names of a certificate
//! showed may be a hundred times as much as the rest of it.

use bson::{Bson, Document, bson, doc};
use cap_core::certificate::Status;
use cap_core::id::{CertificateId, ProjectId};
use cap_core::page::{Order, Page, Slice};
use futures_util::TryStreamExt;
use jiff::Timestamp;

use super::{CertificateRecord, VersionRecord};
use crate::document::{date, read};
use crate::error::StoreError;
use crate::{Store, bounded};

/// Which certificates a list has, in which order, and how many at most.
pub(crate) struct Listed {
    pub(crate) which: Document,
    pub(crate) order: Document,
    pub(crate) limit: i64,
}

impl Store {
    /// A page of a project's certificates, of one status at `now` if given.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn certificates(
        &self,
        project: ProjectId,
        status: Option<Status>,
        now: Timestamp,
        page: &Page,
    ) -> Result<Slice<CertificateRecord>, StoreError> {
        let mut filter = doc! { "project": project.to_string() };
        let revoked_at = "version.revocation.revoked_at";
        let mut ends = |comparison: &str| {
            filter.insert("version.not_after", doc! { comparison: date(now) });
            filter.insert(revoked_at, bson::Bson::Null);
        };
        let stored = match status {
            Some(Status::Expired) => {
                ends("$lte");
                Some(Status::Valid)
            }
            Some(Status::Valid) => {
                ends("$gt");
                status
            }
            Some(Status::Revoked) => {
                filter.insert(revoked_at, doc! { "$ne": bson::Bson::Null });
                Some(Status::Valid)
            }
            status => status,
        };
        if let Some(status) = stored {
            filter.insert("status", status.as_str());
        }
        self.list_certificates(filter, bson!([]), page).await
    }

    /// A page of certificates in the order of their ids, as [`Store::listed`] reads them.
    pub(crate) async fn list_certificates(
        &self,
        mut which: Document,
        sightings: Bson,
        page: &Page,
    ) -> Result<Slice<CertificateRecord>, StoreError> {
        if let Some(after) = &page.after {
            which.insert("_id", doc! { "$gt": after });
        }
        let wanted = Listed { which, order: doc! { "_id": 1 }, limit: i64::from(page.limit) + 1 };
        let found = self.listed("read a page", wanted, sightings).await?;
        Ok(page.slice(found, |certificate| certificate.id.to_string()))
    }

    /// The certificates of a list, each with what `sightings`, an expression, leaves of what its names showed.
    pub(crate) async fn listed(
        &self,
        doing: &'static str,
        wanted: Listed,
        sightings: Bson,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let seen = doc! { "$mergeObjects": ["$drift_seen", { "names": sightings }] };
        let stages = [
            doc! { "$match": wanted.which },
            doc! { "$sort": wanted.order },
            doc! { "$limit": wanted.limit },
            doc! { "$set": { "drift_seen": { "$cond": ["$drift_seen", seen, "$$REMOVE"] } } },
        ];
        let found: Vec<Document> = bounded(doing, async {
            self.collection::<Document>("certificates").aggregate(stages).await?.try_collect().await
        })
        .await?;
        found.into_iter().map(|document| read("certificates", document)).collect()
    }

    /// A page of a certificate's versions, the newest first. What they are behind is a number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn versions(
        &self,
        certificate: CertificateId,
        page: &Page,
    ) -> Result<Slice<VersionRecord>, StoreError> {
        const DOING: &str = "read the versions";
        let mut which = doc! { "certificate": certificate.to_string() };
        if let Some(after) = &page.after {
            let refused = |_| StoreError::Refused { doing: DOING, cause: format!("{after:?} is no number") };
            which.insert("number", doc! { "$lt": after.parse::<i64>().map_err(refused)? });
        }
        let found: Vec<Document> = bounded(DOING, async {
            let versions = self.collection::<Document>("certificate_versions");
            let newest = versions.find(which).sort(doc! { "number": -1 }).limit(i64::from(page.limit) + 1);
            newest.projection(doc! { "chain_pem": 0, "key": 0 }).await?.try_collect().await
        })
        .await?;
        let versions: Result<Vec<VersionRecord>, _> =
            found.into_iter().map(|document| read("certificate_versions", document)).collect();
        Ok(page.slice_in(Order::Desc, versions?, |version| version.number.to_string()))
    }
}
