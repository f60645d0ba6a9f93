// SPDX-License-Identifier: Apache-2.0
//! Projects.

use bson::{Document, doc};
use cap_core::id::ProjectId;
use cap_core::job::Weight;
use cap_core::name::Label;
use cap_core::page::{Order, Page, Slice};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{as_date, document, read};
use crate::drift::enrolment::{DriftChange, ProjectDrift};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::{Store, bounded};

/// A project as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRecord {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: ProjectId,
    /// Its name.
    pub name: Label,
    /// How its certificates are scanned for drift; absent until somebody says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<ProjectDrift>,
    /// What it weighs where workers' places are short.
    #[serde(default)]
    pub weight: Weight,
    /// When it was made.
    #[serde(with = "as_date")]
    pub created_at: Timestamp,
}

/// What may be changed about a project; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectChange {
    /// What it weighs.
    pub weight: Option<Weight>,
    /// How its certificates are scanned for drift.
    pub drift: DriftChange,
}

impl Store {
    /// Adds a project.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name is taken.
    pub async fn create_project(
        &self,
        project: &ProjectRecord,
        mutation: Mutation<'_>,
    ) -> Result<(), StoreError> {
        self.insert_with("projects", "create a project", project, mutation).await
    }

    /// Changes a project. Answers whether it is still there. Its certificates follow how they are scanned when the leader
    /// next looks.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn change_project(
        &self,
        project: ProjectId,
        change: &ProjectChange,
        mutation: Mutation<'_>,
    ) -> Result<bool, StoreError> {
        let mut fields = if change.drift.is_empty() {
            doc! {}
        } else {
            change.drift.fields()
        };
        if let Some(weight) = change.weight {
            fields.insert("weight", i64::from(u32::from(weight)));
        }
        fields.insert("last_event", mutation.audit.event.to_string());
        let fact = Fact::new("change a project")
            .must("projects", doc! { "_id": project.to_string() }, vec![doc! { "$set": fields }])
            .accompanied(&mutation);
        match self.replayed(&mutation, self.write(fact).await).await {
            Ok(()) => Ok(true),
            Err(StoreError::Fenced) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The project with this id or name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn project(&self, id_or_name: &str) -> Result<Option<ProjectRecord>, StoreError> {
        let filter = match (id_or_name.parse::<ProjectId>(), id_or_name.parse::<Label>()) {
            (Ok(id), _) => doc! { "_id": id.to_string() },
            (_, Ok(name)) => doc! { "name": name.to_string() },
            _ => return Ok(None),
        };
        let found =
            bounded("read a project", self.collection::<Document>("projects").find_one(filter)).await?;
        found.map(|document| read("projects", document)).transpose()
    }

    /// A page of projects; of one only, when `only` says so.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn projects(
        &self,
        only: Option<ProjectId>,
        page: &Page,
    ) -> Result<Slice<ProjectRecord>, StoreError> {
        let filter = only.map_or_else(Document::new, |id| doc! { "$and": [{ "_id": id.to_string() }] });
        self.list("projects", filter, page, |project: &ProjectRecord| project.id.to_string()).await
    }

    /// Adds a record with what goes in with it, in one transaction.
    pub(crate) async fn insert_with<T: Serialize + Send + Sync>(
        &self,
        collection: &'static str,
        doing: &'static str,
        record: &T,
        mutation: Mutation<'_>,
    ) -> Result<(), StoreError> {
        let mut record = document(collection, record)?;
        record.insert("last_event", mutation.audit.event.to_string());
        let result = self.write(Fact::new(doing).insert(collection, record).accompanied(&mutation)).await;
        self.replayed(&mutation, result).await
    }

    /// A page of a collection, in the order of ids.
    pub(crate) async fn list<T: for<'de> Deserialize<'de>>(
        &self,
        collection: &'static str,
        filter: Document,
        page: &Page,
        id: impl Fn(&T) -> String,
    ) -> Result<Slice<T>, StoreError> {
        self.list_in(Order::Asc, collection, filter, page, id).await
    }

    /// A page of a collection, in this order of ids.
    pub(crate) async fn list_in<T: for<'de> Deserialize<'de>>(
        &self,
        order: Order,
        collection: &'static str,
        mut filter: Document,
        page: &Page,
        id: impl Fn(&T) -> String,
    ) -> Result<Slice<T>, StoreError> {
        use futures_util::TryStreamExt;
        let (behind, direction) = match order {
            Order::Asc => ("$gt", 1),
            Order::Desc => ("$lt", -1),
        };
        if let Some(after) = &page.after {
            filter.insert("_id", doc! { behind: after });
        }
        let found: Vec<Document> = bounded("read a page", async {
            let records = self.collection::<Document>(collection);
            records
                .find(filter)
                .sort(doc! { "_id": direction })
                .limit(i64::from(page.limit) + 1)
                .await?
                .try_collect()
                .await
        })
        .await?;
        let items =
            found.into_iter().map(|document| read(collection, document)).collect::<Result<Vec<T>, _>>()?;
        Ok(page.slice_in(order, items, id))
    }
}
