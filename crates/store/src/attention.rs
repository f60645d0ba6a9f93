// SPDX-License-Identifier: Apache-2.0
//! The certificates of a project that somebody should look at first.

use bson::{Document, doc};
use cap_core::certificate::Status;
use cap_core::id::ProjectId;
use cap_core::limits::ATTENTION;
use futures_util::TryStreamExt;

use crate::certificates::CertificateRecord;
use crate::document::read;
use crate::error::StoreError;
use crate::{Store, bounded};

impl Store {
    /// The certificates of these statuses whose versions end soonest, those without a version first; a few.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ending_soonest(
        &self,
        project: ProjectId,
        statuses: &[Status],
    ) -> Result<Vec<CertificateRecord>, StoreError> {
        let statuses: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
        let filter = doc! { "project": project.to_string(), "status": { "$in": statuses } };
        let found: Vec<Document> = bounded("look for certificates that end soon", async {
            let certificates = self.collection::<Document>("certificates");
            let soonest = certificates.find(filter).sort(doc! { "version.not_after": 1 });
            soonest.limit(ATTENTION).await?.try_collect().await
        })
        .await?;
        found.into_iter().map(|document| read("certificates", document)).collect()
    }
}
