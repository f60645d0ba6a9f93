// SPDX-License-Identifier: Apache-2.0
//! Transactions: snapshot reads, majority commit, each try bounded, conflicts tried again.

use std::time::Duration;

use cap_core::fault::{self, Mutant};
use mongodb::ClientSession;
use mongodb::options::{ReadConcern, WriteConcern};

use crate::error::{Failure, StoreError, classify, timed_out};
use crate::{Store, TRY_BOUND};

/// Tries of one transaction that meets others; each waits a little longer than the one before.
const TRIES: u32 = 8;
/// The wait before the second try; it grows by as much with each further one.
const TRY_WAIT: Duration = Duration::from_millis(4);

/// An open transaction. Dropped without a commit, it is aborted.
pub(crate) struct Transaction {
    pub(crate) session: ClientSession,
    pub(crate) doing: &'static str,
}

impl Store {
    /// Begins a transaction that is to do what `doing` says.
    pub(crate) async fn begin(&self, doing: &'static str) -> Result<Transaction, Failure> {
        let mut session = self.client.start_session().await.map_err(|error| classify(doing, &error))?;
        session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(acknowledged())
            .await
            .map_err(|error| classify(doing, &error))?;
        Ok(Transaction { session, doing })
    }
}

/// Who must have a write before it counts as done: a majority, which no rollback takes it from.
pub(crate) fn acknowledged() -> WriteConcern {
    if fault::is(Mutant::OneAck) { WriteConcern::nodes(1) } else { WriteConcern::majority() }
}

/// Counts the tries of one transaction.
pub(crate) struct Tries {
    doing: &'static str,
    made: u32,
}

impl Tries {
    pub(crate) fn new(doing: &'static str) -> Self {
        Self { doing, made: 0 }
    }

    /// Makes one bounded try; nothing when the transaction met another and is to be tried again.
    pub(crate) async fn make<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Option<Result<T, StoreError>> {
        self.made += 1;
        match tokio::time::timeout(TRY_BOUND, work).await {
            Ok(Ok(value)) => Some(Ok(value)),
            Ok(Err(failure)) if failure.again && self.made < TRIES => {
                tokio::time::sleep(TRY_WAIT * self.made).await;
                None
            }
            Ok(Err(failure)) => Some(Err(failure.error)),
            Err(_) => Some(Err(timed_out(self.doing, TRY_BOUND))),
        }
    }
}

/// Runs a body that begins and commits one transaction, again while it meets other transactions. (A macro, since a
/// closure that borrows and returns a future cannot be shown to be `Send` yet: rust-lang/rust issue 110338.)
macro_rules! transact {
    ($doing:expr, $body:block) => {{
        let mut tries = $crate::transaction::Tries::new($doing);
        loop {
            if let Some(result) = tries.make(async $body).await {
                break result;
            }
        }
    }};
}

pub(crate) use transact;

impl Transaction {
    /// Sorts a driver's error that happened inside.
    pub(crate) fn failed(&self) -> impl Fn(mongodb::error::Error) -> Failure + use<> {
        let doing = self.doing;
        move |error| classify(doing, &error)
    }

    /// Commits. The driver repeats a commit whose outcome is unknown once; after that the caller must read back.
    pub(crate) async fn commit(mut self) -> Result<(), Failure> {
        self.session.commit_transaction().await.map_err(|error| {
            let mut failure = classify(self.doing, &error);
            // A commit that may have happened must not be followed by the same transaction again unseen.
            failure.again &= !error.contains_label(mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT);
            failure
        })
    }

    /// Gives up what was written so far.
    pub(crate) async fn abort<T>(mut self, error: StoreError) -> Result<T, Failure> {
        // Whether or not the abort arrives, the database forgets the transaction by itself.
        let _ = self.session.abort_transaction().await;
        Err(error.into())
    }
}
