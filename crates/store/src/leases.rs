// SPDX-License-Identifier: Apache-2.0
//! Leases: by the database's time, so that no host's clock decides who leads.

mod step_down;

use std::time::Duration;

use bson::{DateTime, Document, doc};
use cap_core::clock::Clock;
use cap_core::lease::{Lease, Term, WRONG_AHEAD};
use jiff::SignedDuration;
use mongodb::options::ReturnDocument;
use serde::Deserialize;

use crate::document::{database_now_plus, millis, read, time};
use crate::error::StoreError;
use crate::stream::Changes;
use crate::{Store, TRY_BOUND, bounded};

/// How long the database keeps the question of a standby that watches the lease. One whose stream hangs hears of it no later
/// than this and the bound of a try; were it longer, it would often not before the lease runs out.
const STANDBY_QUIET: Duration = Duration::from_secs(3);

/// How long the database works at a try for the lease: less than its candidate waits, so that one which hung does not win behind the
/// next one, and take the lease from it.
const LEASE_BOUND: Duration = TRY_BOUND.saturating_sub(Duration::from_secs(1));

/// The schedulers' lease.
pub const SCHEDULER_LEASE: &str = "scheduler";

#[derive(Deserialize)]
struct LeaseDocument {
    holder: String,
    epoch: i64,
    expires_at: DateTime,
    #[serde(default)]
    since: Option<DateTime>,
    /// The epoch whose holder was asked to give the lease up.
    #[serde(default)]
    step_down: Option<i64>,
}

/// Tells when a lease was given up: a holder that steps down wakes the standby.
pub struct LeaseWatch(Changes);

impl Store {
    /// Tries to win the lease `name`. `nonce` belongs to one candidate and one stand-by: a win whose answer was lost is
    /// found by it, at once or at the next try.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        nonce: &str,
        ttl: Duration,
        clock: &dyn Clock,
    ) -> Result<Option<Term>, StoreError> {
        let asked_at = clock.boottime();
        // Created free, so that from then on winning is one conditional update.
        let free = doc! { "_id": name, "holder": "", "epoch": 0_i64, "expires_at": DateTime::from_millis(0), "nonce": "" };
        let leases = self.collection::<Document>("leases");
        let filter =
            doc! { "_id": name, "$or": [{ "$expr": { "$not": [is_running()] } }, { "nonce": nonce }] };
        let change = vec![doc! { "$set": {
            "holder": { "$literal": holder }, "epoch": { "$add": ["$epoch", 1_i64] },
            "expires_at": database_now_plus(ttl), "ttl_ms": millis(ttl), "nonce": nonce, "since": "$$NOW",
        } }];
        let win = leases.find_one_and_update(filter, change).return_document(ReturnDocument::After);
        let win = win.max_time(LEASE_BOUND);
        let won = match bounded("acquire a lease", win).await {
            Ok(Some(document)) => Some(read::<LeaseDocument>("leases", document)?),
            Ok(None) => match self.read_lease(name).await? {
                Some(_) => None,
                None => match bounded("create a lease", leases.insert_one(free)).await {
                    Ok(_) | Err(StoreError::Conflict { .. }) => return Ok(None),
                    Err(error) => return Err(error),
                },
            },
            // If it was won although the answer was lost, the next try finds the nonce and wins it again, from a start
            // that the lease can be trusted from.
            Err(error) => return Err(error),
        };
        Ok(won.map(|lease| lease.term(asked_at, ttl, clock)))
    }

    /// Extends a lease that is held.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when it is not held any more.
    pub async fn extend_lease(
        &self,
        name: &str,
        term: Term,
        ttl: Duration,
        clock: &dyn Clock,
    ) -> Result<Term, StoreError> {
        let asked_at = clock.boottime();
        let filter = doc! { "_id": name, "epoch": term.epoch, "$expr": { "$gt": ["$expires_at", "$$NOW"] } };
        let change = vec![doc! { "$set": { "expires_at": database_now_plus(ttl), "ttl_ms": millis(ttl) } }];
        let leases = self.collection::<Document>("leases");
        let extend = leases.find_one_and_update(filter, change).return_document(ReturnDocument::After);
        let extend = extend.max_time(LEASE_BOUND);
        let extended = bounded("extend a lease", extend).await?.ok_or(StoreError::Fenced)?;
        Ok(read::<LeaseDocument>("leases", extended)?.term(asked_at, ttl, clock))
    }

    /// Gives a lease up at once.
    ///
    /// # Errors
    /// When the database does not answer; then the lease runs out by itself.
    pub async fn release_lease(&self, name: &str, term: Term) -> Result<(), StoreError> {
        self.release(doc! { "_id": name, "epoch": term.epoch }).await
    }

    /// Gives a lease up that a try with this nonce may have won although its answer was lost.
    ///
    /// # Errors
    /// When the database does not answer; then the lease, if it was won, runs out by itself.
    pub async fn release_unheard(&self, name: &str, nonce: &str) -> Result<(), StoreError> {
        self.release(doc! { "_id": name, "nonce": nonce }).await
    }

    async fn release(&self, held: Document) -> Result<(), StoreError> {
        let change = doc! { "$set": { "expires_at": DateTime::from_millis(0) } };
        let leases = self.collection::<Document>("leases");
        bounded("release a lease", leases.update_one(held, change)).await?;
        Ok(())
    }

    /// How long a lease still runs by the database's clock; nothing when it has run out, or nobody ever had it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn lease_left(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        use futures_util::TryStreamExt;
        let left = doc! { "$cond": [is_running(), { "$subtract": ["$expires_at", "$$NOW"] }, null] };
        let stages = vec![doc! { "$match": { "_id": name } }, doc! { "$project": { "left_ms": left } }];
        let found: Option<Document> = bounded("read a lease", async {
            self.collection::<Document>("leases").aggregate(stages).await?.try_next().await
        })
        .await?;
        let left = found.and_then(|lease| lease.get_i64("left_ms").ok());
        Ok(left.and_then(|left| u64::try_from(left).ok()).map(Duration::from_millis))
    }

    /// A lease, and whether it has run out by the database's clock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn lease(&self, name: &str) -> Result<Option<(Lease, bool)>, StoreError> {
        let found = self.leases_where(doc! { "_id": name }).await?;
        Ok(found.into_iter().next().map(|(_, lease, expired)| (lease, expired)))
    }

    /// Every lease by its name, and whether it has run out by the database's clock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn leases(&self) -> Result<Vec<(String, Lease, bool)>, StoreError> {
        self.leases_where(doc! { "_id": { "$in": [crate::schema::LEASE, SCHEDULER_LEASE] } }).await
    }

    async fn leases_where(&self, filter: Document) -> Result<Vec<(String, Lease, bool)>, StoreError> {
        use futures_util::TryStreamExt;
        let stages =
            vec![doc! { "$match": filter }, doc! { "$set": { "expired": { "$not": [is_running()] } } }];
        let found: Vec<Document> = bounded("read a lease", async {
            self.collection::<Document>("leases").aggregate(stages).await?.try_collect().await
        })
        .await?;
        let plain = |document: Document| {
            let name = document.get_str("_id").unwrap_or_default().to_owned();
            let expired = document.get_bool("expired").unwrap_or(true);
            let lease: LeaseDocument = read("leases", document)?;
            Ok((name, lease.plain(), expired))
        };
        found.into_iter().map(plain).collect()
    }

    /// Watches a lease; its holder's heartbeats wake nobody.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn watch_lease(&self, name: &str) -> Result<LeaseWatch, StoreError> {
        let given_up = DateTime::from_millis(0);
        let stages = vec![doc! { "$match": {
            "documentKey._id": name, "updateDescription.updatedFields.expires_at": given_up,
        } }];
        let leases = self.collection::<Document>("leases");
        Changes::open(&leases, stages, STANDBY_QUIET, || Duration::ZERO, "watch a lease")
            .await
            .map(LeaseWatch)
    }

    async fn read_lease(&self, name: &str) -> Result<Option<LeaseDocument>, StoreError> {
        let leases = self.collection::<Document>("leases");
        let found = bounded("read a lease", leases.find_one(doc! { "_id": name })).await?;
        found.map(|document| read("leases", document)).transpose()
    }
}

/// Whether a lease runs by the database's clock. One that ends far later than its holder asked for was stamped by a
/// clock that was wrong; it would keep everybody waiting until that time comes.
fn is_running() -> Document {
    let ahead = doc! { "$subtract": ["$expires_at", "$$NOW"] };
    let length = doc! { "$ifNull": ["$ttl_ms", i64::MAX / i64::from(WRONG_AHEAD)] };
    doc! { "$and": [
        { "$gt": ["$expires_at", "$$NOW"] }, { "$lte": [ahead, { "$multiply": [length, i64::from(WRONG_AHEAD)] }] },
    ] }
}

impl LeaseDocument {
    /// The term that an answer gives which was asked for at `asked_at`. The database stamped the lease a length before
    /// its end, so its clock shows as well.
    fn term(&self, asked_at: Duration, ttl: Duration, clock: &dyn Clock) -> Term {
        let stamped_ms = self.expires_at.timestamp_millis().saturating_sub(millis(ttl));
        let skew = SignedDuration::from_millis(stamped_ms.saturating_sub(clock.now().as_millisecond()));
        Term { asked_to_leave: self.is_asked(), ..Term::new(self.epoch, asked_at, ttl, skew) }
    }

    /// Whether the holder of this very epoch was asked to leave: a request to an earlier one is over.
    fn is_asked(&self) -> bool {
        self.step_down == Some(self.epoch)
    }

    fn plain(self) -> Lease {
        let asked_to_leave = self.is_asked();
        let Self { holder, epoch, expires_at, since, .. } = self;
        Lease { holder, epoch, expires_at: time(expires_at), since: since.map(time), asked_to_leave }
    }
}

impl LeaseWatch {
    /// Waits until the lease is given up.
    ///
    /// # Errors
    /// When the stream broke or hangs; a new one must be opened.
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        self.0.next().await
    }
}
