// SPDX-License-Identifier: Apache-2.0
//! The baseline: raw inserts of one record each that wait for a majority.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cap_testkit::mongo::driver::bson::doc;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::bench::figures::{Times, number};
use crate::bench::ground::World;

/// What the baseline is measured at.
pub(crate) const CONCURRENCIES: [usize; 5] = [1, 8, 32, 64, 128];
/// How long each is measured for.
const SPAN: Duration = Duration::from_secs(3);
/// What a record holds: as much as an audit row.
const PAYLOAD: usize = 400;

/// Inserts at one concurrency.
pub(crate) struct Inserts {
    pub(crate) in_flight: usize,
    pub(crate) rate: f64,
    pub(crate) times: Times,
}

/// Inserts for a while, so many at a time.
pub(crate) async fn at(world: &World, in_flight: usize) -> anyhow::Result<Inserts> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let (records, payload) = (world.collection("raw_inserts"), "x".repeat(PAYLOAD));
    let began = Instant::now();
    let inserters = (0..in_flight).map(|_| async {
        let mut took = Vec::new();
        while began.elapsed() < SPAN {
            let id = number_id(NEXT.fetch_add(1, Ordering::Relaxed));
            let asked = Instant::now();
            records.insert_one(doc! { "_id": id, "payload": &payload }).await?;
            took.push(asked.elapsed());
        }
        anyhow::Ok(took)
    });
    let took: Vec<Vec<Duration>> = stream::iter(inserters).buffer_unordered(in_flight).try_collect().await?;
    let times = Times::new(took.concat());
    Ok(Inserts { in_flight, rate: number(times.len()) / began.elapsed().as_secs_f64(), times })
}

fn number_id(n: usize) -> String {
    format!("insert_{n:032}")
}

/// The better of each concurrency of several measurements, by rate: whoever is compared to it has the harder task.
pub(crate) fn best(measured: Vec<Inserts>) -> Vec<Inserts> {
    let mut best: Vec<Inserts> = Vec::new();
    for one in measured {
        match best.iter_mut().find(|known| known.in_flight == one.in_flight) {
            Some(known) if known.rate < one.rate => *known = one,
            Some(_) => {}
            None => best.push(one),
        }
    }
    best
}
