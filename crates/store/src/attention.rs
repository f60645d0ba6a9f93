// SPDX-License-Identifier: Apache-2.0
//! The certificates of a project that somebody should look at first: a few of each kind.

use bson::{Bson, Document, bson, doc};
use cap_core::certificate::Status;
use cap_core::id::ProjectId;
use cap_core::limits::ATTENTION;
use jiff::Timestamp;

use crate::Store;
use crate::certificates::{CertificateRecord, Listed};
use crate::document::date;
use crate::error::StoreError;

impl Store {
    /// The failing certificates whose versions end soonest, or ended first; those without a version before them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn failing_soonest(&self, project: ProjectId) -> Result<Vec<CertificateRecord>, StoreError> {
        let status = Status::Failing.as_str();
        self.soonest(doc! { "project": project.to_string(), "status": status }, ATTENTION).await
    }

    /// The certificates whose versions end soonest after `now`, but for failing and revoked ones, and a few of
    /// those that are being renewed and ended before. What else ended would hide them for ever; the list of what is expired has that.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ending_soonest(
        &self,
        project: ProjectId,
        now: Timestamp,
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let of = |status: Status, bound: &str| {
            doc! {
                "project": project.to_string(), "status": status.as_str(), "version.not_after": { bound: date(now) },
                "version.revocation.revoked_at": Bson::Null,
            }
        };
        // One that begins to be renewed, or ends, in between may be missed this once, or shown as it was.
        let mut found = self.soonest(of(Status::Renewing, "$lte"), ATTENTION / 2).await?;
        let ended = found.len();
        for status in [Status::Renewing, Status::Valid] {
            for certificate in self.soonest(of(status, "$gt"), ATTENTION).await? {
                if found.iter().all(|seen| seen.id != certificate.id) {
                    found.push(certificate);
                }
            }
        }
        found[ended..]
            .sort_by_key(|certificate| certificate.version.as_ref().map(|version| version.not_after));
        found.truncate(usize::try_from(ATTENTION).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn soonest(&self, which: Document, limit: i64) -> Result<Vec<CertificateRecord>, StoreError> {
        let wanted = Listed { which, order: doc! { "version.not_after": 1 }, limit };
        self.listed("look for certificates that end soon", wanted, bson!([])).await
    }
}
