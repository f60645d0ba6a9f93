// SPDX-License-Identifier: Apache-2.0
//! `POST /cluster/step-down`: asks the scheduler that leads to give the lead up. It does so itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_store::{Mutation, Replay, SCHEDULER_LEASE, StoreError};

use crate::app::App;
use crate::auth::Caller;
use crate::body::Body;
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, CONFLICT};

type Answer = (StatusCode, Json<wire::SteppingDown>);

pub(super) async fn step_down(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    body: Body<wire::StepDown>,
) -> Result<Answer, ApiError> {
    caller.must(Action::AdministerCluster)?;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return again(&app, &earlier).await;
    }
    let asked = leader(&app, &body.value).await?;
    let draft = Draft::new(audit::Action::LeaderStepDownRequested, None, &asked.holder)
        .detail("epoch", asked.epoch)
        .detail("force", body.value.force);
    let audit = app.audit(&caller, &draft).await?;
    let resource = format!("{}/{}", asked.epoch, asked.holder);
    let request = key.request(&app, &caller, &body.sha256, 202, resource);
    // Written down first: between the two, at worst a request is on record that nobody carries out, and its client,
    // which has no answer, repeats it.
    match app.store.record_step_down(Mutation { audit: &audit, request: request.as_ref() }).await {
        Ok(()) => {}
        Err(StoreError::Replayed(earlier)) => return again(&app, &key.same(*earlier, &body.sha256)?).await,
        Err(error) => return Err(error.into()),
    }
    if !app.store.ask_step_down(SCHEDULER_LEASE, asked.epoch).await? {
        return Err(over(asked.epoch));
    }
    Ok(answer(asked))
}

/// Who is to be asked, if it is the one that is meant and may go.
async fn leader(app: &App, asked: &wire::StepDown) -> Result<wire::SteppingDown, ApiError> {
    let ((roll, _), lease) = tokio::try_join!(app.store.roll(), app.store.lease(SCHEDULER_LEASE))?;
    let Some((lease, false)) = lease.filter(|(lease, _)| lease.epoch > 0) else {
        let detail = "no scheduler leads at the moment; start one, or wait for the next election";
        return Err(ApiError::new(CONFLICT, detail));
    };
    if asked.epoch.is_some_and(|epoch| epoch != lease.epoch) {
        return Err(over(asked.epoch.unwrap_or_default()));
    }
    if roll.standbys(&lease.holder) == 0 && !asked.force {
        let detail = format!(
            "no other scheduler stands by, so that nobody would lead for the length of a lease after {} stepped down; \
             start another, wait for one that stepped down itself lately, or send \"force\": true",
            lease.holder
        );
        return Err(ApiError::new(CONFLICT, detail));
    }
    Ok(wire::SteppingDown { holder: lease.holder, epoch: lease.epoch })
}

/// The answer to the same request sent again. It was written down before its leader was asked, so that one is asked again; where
/// it leads no more, it may have been asked, or nobody was.
async fn again(app: &App, earlier: &Replay) -> Result<Answer, ApiError> {
    let parts = earlier.resource.split_once('/');
    let parts = parts.and_then(|(epoch, holder)| Some((epoch.parse().ok()?, holder.to_owned())));
    let (epoch, holder) = parts.ok_or_else(|| ApiError::internal("a step-down's record names no epoch"))?;
    let is_asked = app.store.ask_step_down(SCHEDULER_LEASE, epoch).await?
        || app.store.was_asked_to_step_down(SCHEDULER_LEASE, epoch).await?;
    if !is_asked {
        return Err(over(epoch));
    }
    Ok(answer(wire::SteppingDown { holder, epoch }))
}

fn over(epoch: i64) -> ApiError {
    let detail = format!("the leader of epoch {epoch} leads no more; look who leads now, and decide anew");
    ApiError::new(CONFLICT, detail)
}

fn answer(asked: wire::SteppingDown) -> Answer {
    (StatusCode::ACCEPTED, Json(asked))
}
