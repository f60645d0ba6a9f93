// SPDX-License-Identifier: Apache-2.0
//! The replica set as any client may see it: what `hello` tells, which asks for no privilege.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use cap_core::clock::until;
use futures_util::future::join_all;
use mongodb::options::SelectionCriteria;

use crate::document::time;
use crate::error::StoreError;
use crate::{Store, bounded};

/// How long a member may take to answer: one that takes longer is of no use to anybody.
const MEMBER_BOUND: Duration = Duration::from_millis(700);
/// Members of a replica set at most (MongoDB's own limit).
const MEMBERS_MAX: usize = 50;

/// The replica set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSetState {
    /// Its name; nothing where the database is none.
    pub name: Option<String>,
    /// Its members; hidden ones are told to nobody.
    pub members: Vec<MemberState>,
    /// How far the majority is behind the primary's last write.
    pub majority_lag: Option<Duration>,
}

/// A member of the replica set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// Host and port.
    pub host: String,
    /// What it is.
    pub standing: MemberStanding,
    /// How far it is behind the primary's last write.
    pub lag: Option<Duration>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberStanding {
    /// It takes writes.
    Primary,
    /// It follows.
    Secondary,
    /// It votes, and has no data.
    Arbiter,
    /// It does not answer, or is starting or catching up.
    Unavailable,
}

impl Store {
    /// The replica set as it is now.
    ///
    /// # Errors
    /// When there is no primary.
    pub async fn replica_set(&self) -> Result<ReplicaSetState, StoreError> {
        let hello =
            bounded("ask the primary who it is", self.database.run_command(doc! { "hello": 1 })).await?;
        let written = last_write(&hello, "lastWriteDate");
        let behind = |at: Option<DateTime>| Some(until(time(at?), time(written?)));
        let hosts = |name: &str| {
            let listed = hello.get_array(name).map(Vec::as_slice).unwrap_or_default();
            let listed: Vec<String> =
                listed.iter().filter_map(|host| Some(host.as_str()?.to_owned())).collect();
            listed
        };
        let arbiters = hosts("arbiters");
        let bearing: Vec<String> =
            hosts("hosts").into_iter().chain(hosts("passives")).take(MEMBERS_MAX).collect();
        let asked = join_all(bearing.iter().map(|host| self.hello(host))).await;
        let mut members: Vec<MemberState> = bearing
            .into_iter()
            .zip(asked)
            .map(|(host, answer)| MemberState {
                host,
                standing: answer.as_ref().map_or(MemberStanding::Unavailable, standing),
                lag: answer.and_then(|answer| behind(last_write(&answer, "lastWriteDate"))),
            })
            .collect();
        let arbiter = |host| MemberState { host, standing: MemberStanding::Arbiter, lag: None };
        members.extend(arbiters.into_iter().map(arbiter));
        members.sort_by(|a, b| a.host.cmp(&b.host));
        Ok(ReplicaSetState {
            name: hello.get_str("setName").ok().map(str::to_owned),
            members,
            majority_lag: behind(last_write(&hello, "majorityWriteDate")),
        })
    }

    /// What one member says of itself; nothing when it does not answer in time.
    async fn hello(&self, host: &str) -> Option<Document> {
        let host = host.to_ascii_lowercase();
        let only = SelectionCriteria::Predicate(std::sync::Arc::new(move |server| {
            server.address().to_string().to_ascii_lowercase() == host
        }));
        let asked = self.database.run_command(doc! { "hello": 1 }).selection_criteria(only).into_future();
        tokio::time::timeout(MEMBER_BOUND, asked).await.ok()?.ok()
    }
}

fn last_write(hello: &Document, which: &str) -> Option<DateTime> {
    hello.get_document("lastWrite").ok()?.get_datetime(which).ok().copied()
}

fn standing(hello: &Document) -> MemberStanding {
    let is = |name: &str| hello.get_bool(name).unwrap_or(false);
    match (is("isWritablePrimary"), is("secondary")) {
        (true, _) => MemberStanding::Primary,
        (false, true) => MemberStanding::Secondary,
        (false, false) => MemberStanding::Unavailable,
    }
}
