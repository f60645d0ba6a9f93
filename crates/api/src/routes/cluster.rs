// SPDX-License-Identifier: Apache-2.0
//! `/cluster`: who leads, and which KEK is in use.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cap_client::wire;
use cap_core::access::Action;
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
    Ok(Json(wire::Cluster {
        leader: leader.map(|(lease, expired)| wire::Leader {
            holder: lease.holder,
            epoch: lease.epoch,
            expires_at: lease.expires_at,
            expired,
        }),
        kek_version: app.canary.kek_version,
        kek_provider: app.kek_provider.to_owned(),
    }))
}
