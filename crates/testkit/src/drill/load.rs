// SPDX-License-Identifier: Apache-2.0
//! The load: clients that write through the API and read back what they wrote, without pause, whatever happens to the
//! system meanwhile. Everything that was acknowledged is remembered, and when.
//!
//! A write that is not acknowledged is sent again under the same Idempotency-Key until it is: its outcome is unknown,
//! and two certificates for it would be found at the CA.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::World;
use crate::stack::{ApiClient, Demo};
use crate::wait::{self, Pending};

/// Certificates of one writer that are not issued yet. With so many, it makes projects instead: the writes must go on
/// at a pace that the CA does not set.
const UNISSUED_MAX: usize = 3;
/// How long a write is sent again and again before the system counts as lost.
const GIVE_UP: Duration = Duration::from_secs(180);
const NOT_FOUND: u16 = 404;
const CREATED: u16 = 201;

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    writers: JoinSet<anyhow::Result<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    acknowledged: Vec<String>,
    /// When each of those was.
    at: Vec<Instant>,
    /// By the writer.
    writes: BTreeMap<String, Vec<Write>>,
    missing: Vec<String>,
}

/// When a write was sent first, and acknowledged, if it was yet.
#[derive(Clone, Copy, Debug)]
struct Write {
    sent: Instant,
    acknowledged: Option<Instant>,
}

/// What the writers saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The path of each thing whose making was acknowledged.
    pub acknowledged: Vec<String>,
    /// Those that were not there when they were read at once.
    pub missing: Vec<String>,
}

impl Load {
    /// Starts so many writers, spread over the APIs.
    ///
    /// # Errors
    /// When there is no API.
    pub fn start(world: &World, writers: usize) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let names = |index| format!("load-{index}");
        shared.book().writes.extend((0..writers).map(|index| (names(index), Vec::new())));
        let mut tasks = JoinSet::new();
        for index in 0..writers {
            let writer = Writer {
                api: world.stack.client(index % world.stack.apis.len().max(1))?,
                demo: world.demo.clone(),
                name: names(index),
                made: 0,
                unissued: VecDeque::new(),
                shared: shared.clone(),
            };
            tasks.spawn(writer.run());
        }
        Ok(Self { shared, writers: tasks })
    }

    /// How many writes were acknowledged so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.book().acknowledged.len()
    }

    /// Waits until so many more writes are acknowledged than now.
    ///
    /// # Errors
    /// When they are not within `limit`, or a writer was answered what it must never be.
    pub async fn wait_more(&mut self, more: usize, limit: Duration) -> anyhow::Result<()> {
        let wanted = self.count() + more;
        while let Some(ended) = self.writers.try_join_next() {
            ended.context("a writer of the load")??;
        }
        wait::until(&format!("{more} more writes to be acknowledged"), limit, || async {
            let count = self.count();
            if count >= wanted { Ok(()) } else { Err(Pending::not_yet(format_args!("{count} of {wanted}"))) }
        })
        .await
    }

    /// Waits until each of the writers has one more write acknowledged than now.
    ///
    /// # Errors
    /// When one has not within `limit`, or was answered what it must never be.
    pub async fn wait_each(&mut self, limit: Duration) -> anyhow::Result<()> {
        while let Some(ended) = self.writers.try_join_next() {
            ended.context("a writer of the load")??;
        }
        let counts = || -> BTreeMap<String, usize> {
            let done = |writes: &[Write]| writes.iter().filter(|write| write.acknowledged.is_some()).count();
            self.shared.book().writes.iter().map(|(writer, writes)| (writer.clone(), done(writes))).collect()
        };
        let before = counts();
        wait::until("each writer to go on", limit, || async {
            let waits = counts().into_iter().find(|(writer, count)| before.get(writer) == Some(count));
            waits.map_or(Ok(()), |(writer, _)| Err(Pending::not_yet(writer)))
        })
        .await
    }

    /// The longest that a write waited to be acknowledged, of those that were not yet when it `began`, or that none at all was. What
    /// lasts still counts.
    #[must_use]
    pub fn longest_wait(&self, began: Instant) -> Duration {
        let (book, now) = (self.shared.book(), Instant::now());
        longest_wait(book.writes.values().flatten(), began, now).max(longest_gap(&book.at, began, now))
    }

    /// Lets each writer end the write that it is at, and answers what they saw.
    ///
    /// # Errors
    /// When a writer was answered what it must never be, or was not answered for minutes.
    pub async fn stop(mut self) -> anyhow::Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.context("a writer of the load")??;
        }
        let book = self.shared.book();
        Ok(Report { acknowledged: book.acknowledged.clone(), missing: book.missing.clone() })
    }
}

fn longest_wait<'a>(writes: impl Iterator<Item = &'a Write>, began: Instant, now: Instant) -> Duration {
    let ends = writes.map(|write| (write.sent, write.acknowledged.unwrap_or(now)));
    let waits = ends.filter(|(_, end)| *end > began).map(|(sent, end)| end - sent);
    waits.max().unwrap_or_default()
}

fn longest_gap(at: &[Instant], began: Instant, now: Instant) -> Duration {
    let first_after = at.partition_point(|at| *at <= began);
    let from = at[..first_after].last().copied().unwrap_or(began);
    let ends = at[first_after..].iter().copied().chain([now]);
    let starts = [from].into_iter().chain(at[first_after..].iter().copied());
    starts.zip(ends).map(|(start, end)| end - start).max().unwrap_or_default()
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, writer: &str) {
        let write = Write { sent: Instant::now(), acknowledged: None };
        self.book().writes.entry(writer.to_owned()).or_default().push(write);
    }

    fn acknowledge(&self, writer: &str, path: &str) {
        let mut book = self.book();
        book.at.push(Instant::now());
        if let Some(write) = book.writes.get_mut(writer).and_then(|writes| writes.last_mut()) {
            write.acknowledged = Some(Instant::now());
        }
        book.acknowledged.push(path.to_owned());
    }
}

struct Writer {
    api: ApiClient,
    demo: Demo,
    name: String,
    made: u64,
    unissued: VecDeque<String>,
    shared: Arc<Shared>,
}

impl Writer {
    async fn run(mut self) -> anyhow::Result<()> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let name = format!("{}-{}", self.name, self.made);
            self.made += 1;
            let written = if self.unissued.len() < UNISSUED_MAX {
                let body = self.demo.request_body(&[&format!("{name}.example.test")]);
                let path = self.make(&self.demo.certificates(), &body, &name).await?;
                self.unissued.push_back(path.clone());
                path
            } else {
                self.make("/api/v1/projects", &json!({ "name": name }), &name).await?
            };
            self.read_back(&written).await;
            self.look_at_oldest().await;
        }
        Ok(())
    }

    /// Sends a write until it is acknowledged; answers the path of what was made.
    async fn make(&self, collection: &str, body: &Value, key: &str) -> anyhow::Result<String> {
        self.shared.send(&self.name);
        wait::until(&format!("POST {collection} to be acknowledged"), GIVE_UP, || async {
            let answer = self.api.call("POST", collection, Some(body), Some(key)).await;
            let answer = answer.map_err(Pending::not_yet)?;
            let Some(id) =
                answer.json()["id"].as_str().filter(|_| answer.status == CREATED).map(str::to_owned)
            else {
                let seen = anyhow!("POST {collection} for {key}: {}: {}", answer.status, answer.text);
                return Err(if answer.may_pass() { Pending::not_yet(seen) } else { Pending::Never(seen) });
            };
            let path = format!("{collection}/{id}");
            self.shared.acknowledge(&self.name, &path);
            Ok(path)
        })
        .await
    }

    /// What was acknowledged is there at once. An API that cannot answer now says nothing about it.
    async fn read_back(&self, path: &str) {
        if let Ok(answer) = self.api.call("GET", path, None, None).await
            && answer.status == NOT_FOUND
        {
            self.shared.book().missing.push(path.to_owned());
        }
    }

    async fn look_at_oldest(&mut self) {
        if let Some(oldest) = self.unissued.front()
            && let Ok(record) = self.api.get(oldest).await
            && record["status"] == "valid"
        {
            self.unissued.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_the_one_around_the_fault() {
        let start = Instant::now();
        let at = |ms: &[u64]| ms.iter().map(|ms| start + Duration::from_millis(*ms)).collect::<Vec<_>>();
        let gap = |times: &[u64], began: u64, now: u64| {
            let points = at(&[began, now]);
            longest_gap(&at(times), points[0], points[1]).as_millis()
        };
        // One that ended before the fault does not count; the one that the fault fell into counts whole.
        assert_eq!(gap(&[0, 5_000, 5_010, 7_000, 7_020], 5_020, 7_030), 1_990);
        // Nobody wrote any more: it lasts until now.
        assert_eq!(gap(&[0, 10], 20, 3_010), 3_000);
        assert_eq!(gap(&[], 1_000, 1_500), 500);
        // The last one lasts too, however short.
        assert_eq!(gap(&[0, 10, 20], 5, 50), 30);
    }

    #[test]
    fn the_longest_wait_is_of_what_was_not_acknowledged_at_the_fault() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let wait = |writes: &[(u64, Option<u64>)], began: u64, now: u64| {
            let write = |(sent, acknowledged): &(u64, Option<u64>)| Write {
                sent: at(*sent),
                acknowledged: acknowledged.map(at),
            };
            let writes: Vec<Write> = writes.iter().map(write).collect();
            longest_wait(writes.iter(), at(began), at(now)).as_millis()
        };
        // One that ended before the fault does not count; the one that the fault fell into counts whole.
        assert_eq!(
            wait(&[(0, Some(5_000)), (5_010, Some(7_000)), (7_010, Some(7_020))], 5_020, 7_030),
            1_990
        );
        // It lasts until now.
        assert_eq!(wait(&[(0, Some(10)), (15, None)], 20, 3_015), 3_000);
        assert_eq!(wait(&[], 1_000, 1_500), 0);
    }
}
