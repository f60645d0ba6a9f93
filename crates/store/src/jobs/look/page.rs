// SPDX-License-Identifier: Apache-2.0
//! What a look asks for at once. Jobs that cannot be read keep nobody else waiting, up to [`ASKED_MAX`] of them: a newer build that was
//! taken back may have queued work of a kind that this one does not know.

use std::sync::atomic::{AtomicI64, Ordering};

use bson::RawDocumentBuf;
use jiff::Timestamp;

use crate::Store;
use crate::document::read_raw;
use crate::error::StoreError;
use crate::jobs::JobDocument;

/// Unreadable jobs at the head of the queue that cost no second request.
const UNREADABLE: usize = 20;
/// So many times as many jobs are asked for where there were more of them.
const WIDER: usize = 4;
/// Jobs that one request asks for at most, however many cannot be read.
const ASKED_MAX: usize = 20_000;
/// How long after a line about unreadable jobs the log gets no other: looks are many.
const SILENT_MS: i64 = 60_000;

/// How many jobs are asked for, so that there are some that can be read.
#[derive(Debug)]
pub(super) struct Page {
    wanted: usize,
    limit: usize,
    most: usize,
}

/// Jobs that a look could not read.
#[derive(Debug, Default)]
pub(super) struct Unread {
    count: usize,
    first: Option<StoreError>,
}

/// When unreadable jobs were told about last, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Told(AtomicI64);

impl Page {
    /// For `wanted` jobs of each of `parts`, which are asked for in one request.
    pub(super) fn of(wanted: usize, parts: usize) -> Self {
        Self { wanted, limit: wanted + UNREADABLE, most: ASKED_MAX / parts.max(1) }
    }

    /// How many jobs of each part to ask for.
    pub(super) fn limit(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX)
    }

    /// The jobs of one part; nothing where it is to be asked for again, wider.
    pub(super) fn read(&self, found: &[RawDocumentBuf], unread: &mut Unread) -> Option<Vec<JobDocument>> {
        let (mut jobs, mut failed) = (Vec::with_capacity(found.len()), Unread::default());
        for job in found {
            match read_raw("jobs", job) {
                Ok(job) => jobs.push(job),
                Err(error) => failed.add(error),
            }
        }
        let is_all = found.len() < self.limit || self.limit >= self.most;
        if !is_all && jobs.len() < self.wanted {
            return None;
        }
        unread.count += failed.count;
        unread.first = unread.first.take().or(failed.first);
        Some(jobs)
    }

    /// Asks for more of each of the `parts` that are left.
    pub(super) fn widen(&mut self, parts: usize) {
        self.most = ASKED_MAX / parts.max(1);
        self.limit = self.limit.saturating_mul(WIDER).min(self.most);
    }
}

impl Unread {
    fn add(&mut self, error: StoreError) {
        self.count += 1;
        self.first.get_or_insert(error);
    }
}

impl Told {
    /// Whether to tell at `now`, which is the time of the last line then.
    fn is_due(&self, now: Timestamp) -> bool {
        let now_ms = now.as_millisecond();
        let is_due = now_ms.saturating_sub(self.0.load(Ordering::Relaxed)).saturating_abs() >= SILENT_MS;
        if is_due {
            self.0.store(now_ms, Ordering::Relaxed);
        }
        is_due
    }
}

impl Store {
    /// Names the first of the jobs that a look could not read in the log, and counts them, once a while.
    pub(super) fn tell(&self, unread: &Unread, now: Timestamp) {
        let Some(error) = unread.first.as_ref().filter(|_| self.unread_jobs.is_due(now)) else { return };
        let count = unread.count;
        tracing::error!(count, %error, "jobs that are due cannot be read, so they are not run");
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use cap_core::clock::{earlier, later};

    use super::*;

    #[test]
    fn a_page_grows_until_there_is_something_to_read_or_it_is_as_wide_as_may_be() {
        let (mut page, mut unread, mut asked) = (Page::of(5, 1), Unread::default(), Vec::new());
        let broken = |count: i64| vec![rawdoc! { "_id": "broken" }; usize::try_from(count).unwrap()];
        while page.read(&broken(page.limit()), &mut unread).is_none() {
            asked.push(page.limit());
            page.widen(1);
        }
        assert_eq!((asked, page.limit()), (vec![25, 100, 400, 1_600, 6_400], 20_000));
        assert_eq!(unread.count, 20_000, "only what the last page had");
        assert!(unread.first.unwrap().to_string().contains("broken"));
        assert!(Page::of(5, 1).read(&broken(24), &mut Unread::default()).is_some(), "there are no more");
        let mut many = Page::of(100, 16);
        (0..9).for_each(|_| many.widen(16));
        assert_eq!(many.limit(), 1_250, "all parts together ask for no more");
    }

    #[test]
    fn unreadable_jobs_are_told_about_once_a_minute() {
        let (told, now) = (Told::default(), Timestamp::from_second(1_790_000_000).unwrap());
        let minute = std::time::Duration::from_secs(60);
        assert!(told.is_due(now) && !told.is_due(now) && !told.is_due(later(now, minute / 2)));
        assert!(told.is_due(later(now, minute)));
        assert!(told.is_due(earlier(now, minute)), "the clock was put back");
    }
}
