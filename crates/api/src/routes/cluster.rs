// SPDX-License-Identifier: Apache-2.0
//! `/cluster`: who is there, who leads, how deep the queue is, which KEK is in use, how the database is.

mod step_down;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::instance::{Instance, Roll};
use cap_core::job::Work;
use cap_core::lease::Lease;
use cap_core::limits::QUEUE_SAMPLE_KEPT;
use cap_core::queue::{ByKind, OfKind};
use cap_store::{MemberStanding, ReplicaSetState, SCHEDULER_LEASE};

use crate::app::App;
use crate::auth::Caller;
use crate::problem::ApiError;
use crate::routes::{Access, Route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/cluster", Access::Bearer, read),
        Route::post("/cluster/step-down", Access::Cluster, step_down::step_down),
    ]
}

async fn read(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<wire::Cluster>, ApiError> {
    caller.must(Action::ReadCluster)?;
    let ((roll, now), leases, sample, set) = tokio::try_join!(
        app.store.roll(),
        app.store.leases(),
        app.store.queue_sample(),
        app.store.replica_set()
    )?;
    let queue = sample.map(|sample| wire::Queue {
        depth: sample.depth.jobs,
        capped: sample.depth.capped,
        oldest_age_seconds: sample.oldest_age.as_secs_f64(),
        by_kind: sample.kinds.map(by_kind).unwrap_or_default(),
        measured_at: sample.measured_at,
    });
    let leader = leases.iter().find(|(name, lease, _)| name == SCHEDULER_LEASE && lease.epoch > 0);
    let mut versions = roll.living().map(|one| (&one.version, &one.commit));
    let first = versions.next();
    Ok(Json(wire::Cluster {
        version_skew: versions.any(|other| Some(other) != first),
        warnings: roll.warnings(now),
        leader: leader.map(|(_, lease, expired)| self::leader(lease, *expired, &roll)),
        leases: leases.into_iter().filter(|(_, lease, _)| lease.epoch > 0).map(self::lease).collect(),
        queue_unavailable: queue.is_none().then(unmeasured),
        queue,
        kek_version: app.canary.kek_version,
        kek_provider: app.kek_provider.to_owned(),
        database: database(set),
        instances: roll.instances().iter().map(instance).collect(),
        at: app.now(),
    }))
}

fn by_kind(kinds: ByKind) -> Vec<wire::QueueOfKind> {
    let of_kind = |(kind, of_kind): (&str, OfKind)| wire::QueueOfKind {
        kind: kind.to_owned(),
        due: of_kind.due,
        running: of_kind.running,
        capped: of_kind.capped,
        oldest_age_seconds: of_kind.oldest_age.as_secs_f64(),
    };
    Work::KINDS.into_iter().zip(kinds).map(of_kind).collect()
}

fn instance(one: &Instance) -> wire::Instance {
    wire::Instance {
        id: one.id,
        name: one.name.clone(),
        doing: one.doing,
        state: one.state,
        version: one.version.clone(),
        commit: one.commit.clone(),
        host: one.host.clone(),
        pid: one.pid,
        started_at: one.started_at,
        seen_at: one.seen_at,
        clock_skew_seconds: one.skew.as_secs_f64(),
    }
}

fn leader(lease: &Lease, expired: bool, roll: &Roll) -> wire::Leader {
    let holder = roll.living().find(|one| one.doing.role() == "scheduler" && one.name == lease.holder);
    wire::Leader {
        holder: lease.holder.clone(),
        epoch: lease.epoch,
        since: lease.since,
        expires_at: lease.expires_at,
        expired,
        stepping_down: lease.asked_to_leave && !expired,
        standbys: u32::try_from(roll.standbys(&lease.holder)).unwrap_or(u32::MAX),
        version: holder.map(|one| one.version.clone()),
    }
}

fn lease((name, lease, expired): (String, Lease, bool)) -> wire::Lease {
    let Lease { holder, epoch, expires_at, since, .. } = lease;
    wire::Lease { name, holder, epoch, since, expires_at, expired }
}

fn database(set: ReplicaSetState) -> wire::Database {
    let primary = set.members.iter().find(|member| member.standing == MemberStanding::Primary);
    wire::Database {
        replica_set: set.name,
        primary: primary.map(|member| member.host.clone()),
        majority_lag_seconds: set.majority_lag.map(|lag| lag.as_secs_f64()),
        members: set
            .members
            .into_iter()
            .map(|member| wire::DatabaseMember {
                host: member.host,
                state: match member.standing {
                    MemberStanding::Primary => wire::MemberState::Primary,
                    MemberStanding::Secondary => wire::MemberState::Secondary,
                    MemberStanding::Arbiter => wire::MemberState::Arbiter,
                    MemberStanding::Unavailable => wire::MemberState::Unavailable,
                },
                lag_seconds: member.lag.map(|lag| lag.as_secs_f64()),
            })
            .collect(),
    }
}

/// Why there is nothing about the queue.
fn unmeasured() -> String {
    format!(
        "no scheduler has measured the queue in the last {} s; see that one runs, and leads",
        QUEUE_SAMPLE_KEPT.as_secs()
    )
}
