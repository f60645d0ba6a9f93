// SPDX-License-Identifier: Apache-2.0
//! Removes, page by page, what no TTL index can.

use std::time::Duration;

use cap_core::audit::{Action, Draft, Origin};
use cap_core::limits::ORDER_LIFE_DEFAULT;
use cap_core::order::{Order, is_abandoned};
use cap_core::problem::{Class, Problem};
use cap_store::{Expiring, StoreError};

use super::{Duties, PAGES, pages};
use crate::planner::Fault;

pub(super) const NAME: &str = "cleanup";
/// The wait between two looks: what it removes has lain there for days.
pub(super) const LOOK: Duration = Duration::from_secs(10 * 60);
/// Records of one page.
const PAGE: u32 = 500;

/// Does each part, although another one failed; answers the first failure.
pub(super) async fn look(duties: &Duties<'_>) -> anyhow::Result<()> {
    let mut result = Ok(());
    let (store, epoch) = (duties.store, duties.epoch);
    for which in Expiring::ALL {
        let now = duties.clock.now();
        let shortened = pages(duties, PAGE, async || store.shorten(which, now, PAGE, epoch).await);
        result = result.and(shortened.await);
    }
    let now = duties.clock.now();
    let removed = pages(duties, PAGE, async || store.remove_dead_tokens(now, PAGE, epoch).await);
    result = result.and(removed.await);
    result = result.and(pages(duties, PAGE, async || end_wrong_waits(duties).await).await);
    result = result.and(pages(duties, PAGE, async || end_far_looks(duties).await).await);
    result = result.and(forget_ahead(duties).await);
    result = result.and(restore_bounds(duties).await);
    result = result.and(pages(duties, PAGE, async || duties.store.mend_lists(PAGE, epoch).await).await);
    result.and(end_abandoned_orders(duties).await)
}

async fn end_wrong_waits(duties: &Duties<'_>) -> Result<u32, StoreError> {
    let jobs = duties.store.end_wrong_waits(duties.clock.now(), PAGE, duties.epoch).await?;
    if jobs > 0 {
        tracing::warn!(
            jobs,
            "jobs were due far later than they had to wait, stamped by a database clock that was wrong; they are due now"
        );
    }
    Ok(jobs)
}

async fn end_far_looks(duties: &Duties<'_>) -> Result<u32, StoreError> {
    let certificates = duties.store.end_far_looks(duties.clock.now(), PAGE, duties.epoch).await?;
    if certificates > 0 {
        tracing::warn!(
            certificates,
            "drift scans, or looks at renewal information, were put off far longer than any is, by a database clock that was \
             wrong; they are due now"
        );
    }
    Ok(certificates)
}

async fn forget_ahead(duties: &Duties<'_>) -> anyhow::Result<()> {
    let instances = duties.store.forget_ahead(duties.clock.now(), PAGE, duties.epoch).await?;
    if instances > 0 {
        tracing::warn!(
            instances,
            "processes were listed as seen in the future, stamped by a database clock that was wrong; they are forgotten, \
             and those that live tell of themselves again"
        );
    }
    Ok(())
}

async fn restore_bounds(duties: &Duties<'_>) -> anyhow::Result<()> {
    let bounds = duties.store.restore_bounds(duties.epoch).await?;
    if bounds > 0 {
        tracing::warn!(
            bounds,
            "documents `bound/...` were missing in the collection `jobs`, and are put back: without them each look at the \
             queue reads through what others claimed"
        );
    }
    Ok(())
}

async fn end_abandoned_orders(duties: &Duties<'_>) -> anyhow::Result<()> {
    let now = duties.clock.now();
    let before = cap_core::clock::earlier(now, ORDER_LIFE_DEFAULT);
    let mut after = None;
    for _ in 0..PAGES {
        let (orders, last) = duties.store.old_live_orders(before, after.as_deref(), PAGE).await?;
        for order in &orders {
            if !duties.mandate.holds() {
                return Ok(());
            }
            if is_abandoned(&order.state, order.id.made_at(), now) {
                match end(duties, order).await {
                    Ok(()) => {}
                    // What is in the way of one keeps no other from being ended.
                    Err(Fault::This(error)) => {
                        tracing::error!(order = %order.id, "an old order cannot be ended: {error:#}");
                    }
                    Err(Fault::Everybody(error)) => return Err(error),
                }
            }
        }
        after = last;
        if after.is_none() {
            break;
        }
    }
    Ok(())
}

async fn end(duties: &Duties<'_>, order: &Order) -> Result<(), Fault> {
    let problem = Problem::new(
        Class::Protocol,
        "order-abandoned",
        "no job went on with the order before it was over, so it was ended; a renewal places a new one",
    );
    let draft = Draft::new(Action::OrderAbandoned, Some(order.project), order.certificate)
        .detail("order", order.id.to_string())
        .detail("epoch", duties.epoch);
    let draft = match order.state.placed() {
        Some(placed) => draft.detail("order_url", placed.url.clone()),
        None => draft,
    };
    let audit = duties.auditor.row(&Origin::service("scheduler"), &draft).await?;
    let ended = duties.store.end_abandoned_order(order, &problem, duties.epoch, &audit).await;
    let ended = ended.map_err(|error| match error {
        // A later leader does this.
        StoreError::Fenced => Fault::Everybody(error.into()),
        error => error.into(),
    });
    if ended? {
        tracing::info!(order = %order.id, certificate = %order.certificate, "an order that nobody went on with was ended");
    }
    Ok(())
}
