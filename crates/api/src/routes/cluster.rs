// SPDX-License-Identifier: Apache-2.0
//! `/cluster`: who leads, how deep the queue is, and which KEK is in use.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::limits::QUEUE_SAMPLE_KEPT;
use cap_store::SCHEDULER_LEASE;

use crate::app::App;
use crate::auth::Caller;
use crate::problem::ApiError;
use crate::routes::{Access, Route};

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/cluster", Access::Bearer, read)]
}

async fn read(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<wire::Cluster>, ApiError> {
    caller.must(Action::ReadCluster)?;
    let leader = app.store.lease(SCHEDULER_LEASE).await?.filter(|(lease, _)| lease.epoch > 0);
    let queue = app.store.queue_sample().await?.map(|sample| wire::Queue {
        depth: sample.depth.jobs,
        capped: sample.depth.capped,
        oldest_age_seconds: sample.oldest_age.as_secs_f64(),
        measured_at: sample.measured_at,
    });
    Ok(Json(wire::Cluster {
        leader: leader.map(|(lease, expired)| wire::Leader {
            holder: lease.holder,
            epoch: lease.epoch,
            expires_at: lease.expires_at,
            expired,
        }),
        queue_unavailable: queue.is_none().then(unmeasured),
        queue,
        kek_version: app.canary.kek_version,
        kek_provider: app.kek_provider.to_owned(),
    }))
}

/// Why there is nothing about the queue.
fn unmeasured() -> String {
    format!(
        "no scheduler has measured the queue in the last {} s; see that one runs, and leads",
        QUEUE_SAMPLE_KEPT.as_secs()
    )
}
