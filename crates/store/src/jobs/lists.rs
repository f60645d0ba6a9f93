// SPDX-License-Identifier: Apache-2.0
//! The lists that a job is in: its project's, those of its state and of its state and kind there, and its subject's. They are kept with
//! the job, so that one index serves all of them: each index more makes every transaction dearer (ADR 14). What lives is in
//! one list whether it waits or runs, which a claim does not change.

use bson::{Bson, Document, bson, doc};
use cap_core::id::ProjectId;
use cap_core::job::{JobState, Listed};
use cap_core::limits::PARTITIONS;
use cap_core::page::{Order, Page, Slice};
use futures_util::TryStreamExt;
use mongodb::options::Hint;

use super::{JobDocument, JobFilter, JobRecord};
use crate::document::read;
use crate::error::StoreError;
use crate::{Store, bounded};

/// The list of what waits or runs, where others have their state's name.
pub(super) const LIVING: &str = "living";
/// Running jobs of a project that a page is taken from at most: far more than there are places.
const RUNNING_MAX: i64 = 10_000;

/// An expression: the lists of a job whose state has the list `state` from now on.
pub(crate) fn when(state: impl Into<Bson>) -> Bson {
    let within = |name: Bson| bson!({ "$concat": ["$project", "/", name] });
    let state = state.into();
    let of_kind = bson!({ "$concat": [&state, "/", "$work.kind"] });
    bson!(["$project", within(state), within(of_kind), "$subject"])
}

/// The lists of states: what lives is in one.
const STATES: [&str; 4] = [LIVING, "succeeded", "dead", "cancelled"];

/// What is true of the jobs of a project that are wanted; of the lists that have them all, the shortest.
fn filter(project: ProjectId, wanted: &JobFilter) -> Document {
    let state = |state: JobState| match state {
        JobState::Queued | JobState::Running => LIVING,
        over => over.as_str(),
    };
    let list: Bson = match (&wanted.subject, wanted.state, &wanted.kind) {
        (Some(subject), ..) => subject.clone().into(),
        (None, Some(wanted), Some(kind)) => format!("{project}/{}/{kind}", state(wanted)).into(),
        (None, Some(wanted), None) => format!("{project}/{}", state(wanted)).into(),
        (None, None, Some(kind)) => {
            bson!({ "$in": STATES.map(|state| format!("{project}/{state}/{kind}")).to_vec() })
        }
        (None, None, None) => project.to_string().into(),
    };
    let mut filter = doc! { "lists": list, "project": project.to_string() };
    filter.extend(wanted.state.map(|state| ("state".to_owned(), state.as_str().into())));
    filter.extend(wanted.kind.as_ref().map(|kind| ("work.kind".to_owned(), kind.into())));
    filter
}

impl Store {
    /// Gives jobs their lists that a build from before there were any has queued, up to `limit` of them, as the leader of `epoch`.
    /// Answers how many.
    ///
    /// # Errors
    /// When the database does not answer; doing it again is safe.
    pub async fn mend_lists(&self, limit: u32, epoch: i64) -> Result<u32, StoreError> {
        let without = doc! { "lists": null, "project": { "$gt": "" } };
        let state = bson!({ "$cond": ["$alive", LIVING, "$state"] });
        let mend = vec![doc! { "$set": { "lists": when(state) } }];
        self.change_page("give jobs their lists", without, None, limit, mend, epoch).await
    }

    /// A page of a project's jobs.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn jobs(
        &self,
        project: ProjectId,
        wanted: &JobFilter,
        page: &Page,
    ) -> Result<Slice<JobRecord>, StoreError> {
        if wanted.state == Some(JobState::Running) {
            return self.running_jobs(project, wanted, page).await;
        }
        let filter = filter(project, wanted);
        let found = self.list_in(wanted.order, "jobs", filter, page, JobDocument::<Listed>::id).await?;
        Ok(found.map(JobRecord::from))
    }

    /// A page of what runs. There is as much of it as there are places, and it is found where claims would find it.
    async fn running_jobs(
        &self,
        project: ProjectId,
        wanted: &JobFilter,
        page: &Page,
    ) -> Result<Slice<JobRecord>, StoreError> {
        let all: Vec<i32> = (0..PARTITIONS).map(i32::from).collect();
        let mut running = filter(project, wanted);
        running.extend(doc! { "p": { "$in": all }, "claim_at": { "$exists": true } });
        if let Some(after) = &page.after {
            let behind = if wanted.order == Order::Asc { "$gt" } else { "$lt" };
            running.insert("_id", doc! { behind: after });
        }
        let found: Vec<Document> = bounded("read what runs", async {
            let jobs = self.collection::<Document>("jobs");
            let running = jobs.find(running).hint(Hint::Name("due".to_owned())).limit(RUNNING_MAX);
            running.await?.try_collect().await
        })
        .await?;
        let found = found.into_iter().map(|document| read("jobs", document));
        let mut found = found.collect::<Result<Vec<JobDocument<Listed>>, _>>()?;
        found.sort_by_key(JobDocument::id);
        if wanted.order == Order::Desc {
            found.reverse();
        }
        Ok(page.slice_in(wanted.order, found, JobDocument::id).map(JobRecord::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_list_is_read_and_the_rest_is_asked_of_its_jobs() {
        let project: ProjectId = format!("prj_{}", "0".repeat(32)).parse().unwrap();
        let of = |state, subject: Option<&str>, kind: Option<&str>| {
            let wanted = JobFilter {
                state,
                subject: subject.map(str::to_owned),
                kind: kind.map(str::to_owned),
                order: Order::Asc,
            };
            let mut filter = filter(project, &wanted);
            let lists = match filter.remove("lists").unwrap() {
                Bson::String(list) => vec![list],
                several => {
                    let several = several.as_document().unwrap().get_array("$in").unwrap().clone();
                    several.iter().map(|list| list.as_str().unwrap().to_owned()).collect()
                }
            };
            assert_eq!(filter.remove("project"), Some(project.to_string().into()));
            let named = |list: &String| list.replace(&project.to_string(), "project");
            (lists.iter().map(named).collect::<Vec<_>>(), filter)
        };
        let list = |list: &str| vec![list.to_owned()];
        assert_eq!(of(None, None, None), (list("project"), doc! {}));
        let everywhere =
            ["living", "succeeded", "dead", "cancelled"].map(|state| format!("project/{state}/revoke"));
        let revocations = doc! { "work.kind": "revoke" };
        assert_eq!(of(None, None, Some("revoke")), (everywhere.to_vec(), revocations));
        let dead = Some(JobState::Dead);
        let both = doc! { "state": "dead", "work.kind": "issue" };
        assert_eq!(of(dead, None, Some("issue")), (list("project/dead/issue"), both));
        assert_eq!(of(dead, Some("crt_1"), None), (list("crt_1"), doc! { "state": "dead" }));
        let waits = Some(JobState::Queued);
        assert_eq!(of(waits, None, None), (list("project/living"), doc! { "state": "queued" }));
    }
}
