// SPDX-License-Identifier: Apache-2.0
//! Notices about certificates that run out.

use cap_core::page::Slice;
use reqwest::Method;
use serde::Serialize;

use crate::error::ClientError;
use crate::pages::PageQuery;
use crate::transport::Client;
use crate::wire::Notice;

/// Which notices.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NoticeQuery {
    /// Which page.
    #[serde(flatten)]
    pub page: PageQuery,
    /// Only those that are open, or only those that are resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
}

impl Client {
    /// A page of a project's notices.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn notices(&self, project: &str, query: &NoticeQuery) -> Result<Slice<Notice>, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "projects", project, "notices"])?.query(query);
        self.exchange(request).await?.json()
    }
}
