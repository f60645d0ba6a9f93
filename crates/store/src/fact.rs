// SPDX-License-Identifier: Apache-2.0
//! Facts: writes that happen together or not at all. Several facts can share a transaction.

mod statements;

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use cap_core::fault::{self, Mutant};

use crate::Store;
use crate::error::{Failure, StoreError};
use crate::transaction::{Transaction, transact};
pub(crate) use statements::NOT_SO;
use statements::{Change, Demand, Update, statements};

/// Changes of single records and new records that belong together.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    /// What an error says was attempted.
    pub(crate) doing: &'static str,
    updates: Vec<Update>,
    inserts: Vec<(&'static str, Document)>,
    /// The failpoint between its updates and its inserts.
    within: Option<&'static str>,
}

impl Fact {
    pub(crate) fn new(doing: &'static str) -> Self {
        Self { doing, updates: Vec::new(), inserts: Vec::new(), within: None }
    }

    /// Changes the one record that `filter` names; the fact is refused with [`StoreError::Fenced`] when it is not so.
    pub(crate) fn must(self, collection: &'static str, filter: Document, change: impl Into<Bson>) -> Self {
        self.fenced(collection, filter, Change::Plain(change.into()))
    }

    /// Gives the one record that `filter` names the values of `set`, word for word, and has it changed by the stages from there; the
    /// fact is refused with [`StoreError::Fenced`] when the record is not so. What many facts give to their records is one
    /// statement where their stages are the same. So no stage has a time or an id in it, names in `set` have no dots, and the filter asks for
    /// null, texts, booleans and integers, or for an integer that is no more than another (`$lte`).
    pub(crate) fn give(
        self,
        collection: &'static str,
        filter: Document,
        set: Document,
        then: Vec<Document>,
    ) -> Self {
        let fact = self.fenced(collection, filter, Change::Given { set, then });
        debug_assert!(
            fact.updates.last().is_some_and(Update::is_plain),
            "{:?} cannot be shared",
            fact.updates
        );
        fact
    }

    /// Changes the one record that `filter` names, if there is one.
    pub(crate) fn may(self, collection: &'static str, filter: Document, change: impl Into<Bson>) -> Self {
        self.update(collection, Demand::May, filter, Change::Plain(change.into()))
    }

    /// Changes the record that `filter` names by its id, or makes it.
    pub(crate) fn upsert(self, collection: &'static str, filter: Document, change: impl Into<Bson>) -> Self {
        self.update(collection, Demand::Upsert, filter, Change::Plain(change.into()))
    }

    fn fenced(self, collection: &'static str, filter: Document, change: Change) -> Self {
        if fault::is(Mutant::NoFence) {
            let id = filter.get("_id").cloned().unwrap_or_default();
            return self.update(collection, Demand::May, doc! { "_id": id }, change);
        }
        self.update(collection, Demand::Must, filter, change)
    }

    fn update(mut self, collection: &'static str, demand: Demand, filter: Document, change: Change) -> Self {
        self.updates.push(Update { collection, demand, filter, change });
        self
    }

    /// Adds a record; the fact is refused with [`StoreError::Conflict`] when a unique index stands against it.
    pub(crate) fn insert(mut self, collection: &'static str, record: Document) -> Self {
        self.inserts.push((collection, record));
        self
    }

    /// Passes the failpoint `point` between the updates and the inserts.
    pub(crate) fn within(mut self, point: &'static str) -> Self {
        self.within = Some(point);
        self
    }

    /// The update, when it is all there is: it needs no transaction.
    fn single(&self) -> Option<&Update> {
        match self.updates.as_slice() {
            [update] if self.inserts.is_empty() => Some(update),
            _ => None,
        }
    }
}

impl Store {
    /// Writes one fact, together with what other tasks of this process write in the same moment where the store
    /// works in groups.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a record was not as the fact demands, [`StoreError::Conflict`] when a unique index
    /// stood against it: nothing of it is written then. [`StoreError::Unavailable`]: it may have been.
    pub(crate) async fn write(&self, fact: Fact) -> Result<(), StoreError> {
        match &self.recorder {
            Some(recorder) => recorder.write(fact).await,
            None => self.write_alone(&fact).await,
        }
    }

    /// Writes one fact by itself.
    pub(crate) async fn write_alone(&self, fact: &Fact) -> Result<(), StoreError> {
        let facts = std::slice::from_ref(fact);
        transact!(fact.doing, { self.try_write(fact.doing, facts).await })
    }

    /// The same in a transaction, however little it is: what has to wait for another transaction is refused by the database and
    /// tried again, where a write without one would stand in its queue.
    pub(crate) async fn write_in_turn(&self, fact: &Fact) -> Result<(), StoreError> {
        let facts = std::slice::from_ref(fact);
        transact!(fact.doing, { self.try_write_within(fact.doing, facts).await })
    }

    /// Writes facts in one transaction: all of them or none.
    pub(crate) async fn try_write(&self, doing: &'static str, facts: &[Fact]) -> Result<(), Failure> {
        if let [fact] = facts
            && let Some(update) = fact.single()
        {
            return self.write_single(doing, update).await;
        }
        self.try_write_within(doing, facts).await
    }

    async fn try_write_within(&self, doing: &'static str, facts: &[Fact]) -> Result<(), Failure> {
        let mut transaction = self.begin(doing).await?;
        match self.write_within(&mut transaction, facts).await {
            Ok(()) => transaction.commit().await,
            // What the database itself has ended needs no abort; a condition that did not hold may.
            Err(Failure { error: error @ StoreError::Fenced, .. }) => transaction.abort(error).await,
            Err(failure) => Err(failure),
        }
    }

    /// Writes facts inside `transaction`: one command for each collection, however many they are.
    pub(crate) async fn write_within(
        &self,
        transaction: &mut Transaction,
        facts: &[Fact],
    ) -> Result<(), Failure> {
        let mut updates: BTreeMap<(Demand, &'static str), Vec<&Update>> = BTreeMap::new();
        for update in facts.iter().flat_map(|fact| &fact.updates) {
            updates.entry((update.demand, update.collection)).or_default().push(update);
        }
        for ((demand, collection), updates) in updates {
            self.apply_updates(transaction, collection, demand, &updates).await?;
        }
        for point in facts.iter().filter_map(|fact| fact.within) {
            fault::point(point);
        }
        let mut inserts: BTreeMap<&'static str, Vec<&Document>> = BTreeMap::new();
        for (collection, record) in facts.iter().flat_map(|fact| &fact.inserts) {
            inserts.entry(collection).or_default().push(record);
        }
        for (collection, records) in inserts {
            let failed = transaction.failed();
            let collection = self.collection::<Document>(collection);
            collection.insert_many(records).session(&mut transaction.session).await.map_err(failed)?;
        }
        Ok(())
    }

    /// One `update` command with many statements (the driver's own bulk write needs a newer server).
    async fn apply_updates(
        &self,
        transaction: &mut Transaction,
        collection: &'static str,
        demand: Demand,
        updates: &[&Update],
    ) -> Result<(), Failure> {
        let failed = transaction.failed();
        let wanted = updates.len();
        let command = doc! { "update": collection, "updates": statements(updates) };
        let run = self.database.run_command(command).session(&mut transaction.session);
        let answer = run.await.map_err(failed)?;
        if let Some(Bson::Document(error)) =
            answer.get_array("writeErrors").ok().and_then(|errors| errors.first())
        {
            return Err(crate::error::write_refused(transaction.doing, error).into());
        }
        let matched = answer.get_i32("n").ok().and_then(|n| usize::try_from(n).ok());
        if demand == Demand::Must && matched != Some(wanted) {
            return Err(StoreError::Fenced.into());
        }
        Ok(())
    }

    async fn write_single(&self, doing: &'static str, update: &Update) -> Result<(), Failure> {
        let change = match update.change.of_one() {
            Bson::Array(stages) => {
                stages.iter().filter_map(|stage| stage.as_document().cloned()).collect::<Vec<_>>().into()
            }
            Bson::Document(change) => mongodb::options::UpdateModifications::Document(change),
            _ => {
                return Err(StoreError::Refused { doing, cause: "an update is not a document".into() }.into());
            }
        };
        let records = self.collection::<Document>(update.collection);
        let run = records.update_one(update.filter.clone(), change).upsert(update.demand == Demand::Upsert);
        let done = run.await.map_err(|error| crate::error::classify(doing, &error))?;
        match (update.demand, done.matched_count) {
            (Demand::Must, 0) => Err(StoreError::Fenced.into()),
            _ => Ok(()),
        }
    }
}
