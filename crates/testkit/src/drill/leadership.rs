// SPDX-License-Identifier: Apache-2.0
//! Who leads the schedulers: by the database's word, and by their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use bson::{Document, doc};
use mongodb::Collection;
use tokio::task::JoinSet;

use super::World;
use super::world::PATIENCE;
use crate::process::{Service, series};
use crate::stack::ApiClient;
use crate::wait::{self, Pending};

const LEADER: &str = "certautopilot_leader";

/// The lease of the schedulers, as the database has it: who leads, or did last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) holder: String,
    pub(super) epoch: i64,
}

impl Lease {
    pub(super) async fn read(world: &World) -> anyhow::Result<Self> {
        Self::of(&world.collection("leases")).await
    }

    async fn of(leases: &Collection<Document>) -> anyhow::Result<Self> {
        let found = leases.find_one(doc! { "_id": "scheduler" }).await?;
        let found = found.context("there is no lease: no scheduler ever led")?;
        Ok(Self { holder: found.get_str("holder")?.to_owned(), epoch: found.get_i64("epoch")? })
    }
}

/// Waits until the process that has the lease says itself that it leads.
pub(super) async fn settled(world: &World) -> anyhow::Result<Lease> {
    wait::until("a settled leader", PATIENCE, || async {
        let lease = Lease::read(world).await.map_err(Pending::not_yet)?;
        let holder = scheduler(world, &lease.holder).map_err(Pending::Never)?;
        let metrics = holder.metrics().await.map_err(Pending::not_yet)?;
        match series(&metrics, LEADER) {
            Some(leads) if leads > 0.0 => Ok(lease),
            other => Err(Pending::not_yet(format_args!("{lease:?} says {other:?}"))),
        }
    })
    .await
}

/// The scheduler of this name.
pub(super) fn scheduler<'a>(world: &'a World, name: &str) -> anyhow::Result<&'a Service> {
    let found = world.stack.schedulers.iter().find(|service| service.name() == name);
    found.with_context(|| format!("there is no {name}"))
}

/// How many certificates have other than one job for each time that they fell due, and one for their first version.
pub(super) async fn queued_otherwise(
    world: &World,
    watched: &[String],
    windows: usize,
) -> anyhow::Result<usize> {
    let mut wrong = 0;
    for certificate in watched {
        let filter = doc! { "lists": certificate, "work.kind": "issue" };
        let jobs = world.collection("jobs").count_documents(filter).await?;
        wrong += usize::from(usize::try_from(jobs)? != windows + 1);
    }
    Ok(wrong)
}

/// Looks all the while whether two schedulers say at once that they lead.
#[derive(Debug)]
pub(super) struct Watch {
    looks: Arc<AtomicUsize>,
    doubled: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Watch {
    pub(super) fn start(world: &World) -> anyhow::Result<Self> {
        let mut pages = Vec::new();
        for scheduler in &world.stack.schedulers {
            let admin = scheduler.process().launch().env.get("CAP_ADMIN_LISTEN");
            let admin = admin.context("a scheduler has an admin listener")?;
            // It asks for no token; the client has to have one.
            pages.push(ApiClient::new(&format!("http://{admin}"), "none")?);
        }
        let (looks, doubled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (leases, mut task) = (world.collection("leases"), JoinSet::new());
        let (seen, twice) = (looks.clone(), doubled.clone());
        task.spawn(async move {
            loop {
                if let Some(leading) = leading(&leases, &pages).await {
                    seen.fetch_add(1, Ordering::Relaxed);
                    // One that is being replaced may not have noticed yet what it may do no more: what counts is two
                    // who both stay.
                    if leading.len() > 1 && self::leading(&leases, &pages).await == Some(leading) {
                        twice.fetch_add(1, Ordering::Relaxed);
                    }
                }
                tokio::time::sleep(wait::LOOK_EVERY).await;
            }
        });
        Ok(Self { looks, doubled, _task: task })
    }

    /// How often was looked, and how often two led.
    pub(super) fn end(self) -> (usize, usize) {
        (self.looks.load(Ordering::Relaxed), self.doubled.load(Ordering::Relaxed))
    }
}

/// Which schedulers lead by their own word, if the lease changed hands neither before nor behind the question.
async fn leading(leases: &Collection<Document>, pages: &[ApiClient]) -> Option<Vec<usize>> {
    let before = Lease::of(leases).await.ok()?;
    let mut leading = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        let text = page.text("/metrics").await.ok()?;
        if series(&text, LEADER).is_some_and(|leads| leads > 0.0) {
            leading.push(index);
        }
    }
    (Lease::of(leases).await.ok()? == before).then_some(leading)
}
