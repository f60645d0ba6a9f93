// SPDX-License-Identifier: Apache-2.0
//! Facts: writes that happen together or not at all. Several facts can share a transaction.

use std::collections::{BTreeMap, HashSet};

use bson::{Bson, Document, doc};
use cap_core::fault::{self, Mutant};

use crate::Store;
use crate::error::{Failure, StoreError};
use crate::transaction::{Transaction, transact};

/// What an update demands of the record that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Demand {
    /// It is there as the filter wants it, or the whole fact is refused.
    Must,
    /// It is changed if it is there as the filter wants it.
    May,
    /// It is changed, or made.
    Upsert,
}

#[derive(Debug, Clone)]
struct Update {
    collection: &'static str,
    demand: Demand,
    filter: Document,
    change: Bson,
}

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
        if fault::is(Mutant::NoFence) {
            let id = filter.get("_id").cloned().unwrap_or_default();
            return self.update(collection, Demand::May, doc! { "_id": id }, change.into());
        }
        self.update(collection, Demand::Must, filter, change.into())
    }

    /// Changes the one record that `filter` names, if there is one.
    pub(crate) fn may(self, collection: &'static str, filter: Document, change: impl Into<Bson>) -> Self {
        self.update(collection, Demand::May, filter, change.into())
    }

    /// Changes the record that `filter` names by its id, or makes it.
    pub(crate) fn upsert(self, collection: &'static str, filter: Document, change: impl Into<Bson>) -> Self {
        self.update(collection, Demand::Upsert, filter, change.into())
    }

    fn update(mut self, collection: &'static str, demand: Demand, filter: Document, change: Bson) -> Self {
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

impl Update {
    /// What the filter asks of the record, but for its id.
    fn but_id(&self) -> impl Iterator<Item = (&String, &Bson)> {
        self.filter.iter().filter(|(name, _)| *name != "_id")
    }
}

/// The statements that make these changes, which are of one kind of demand. What changes several records alike is one
/// statement, which the database plans once. A record's later changes are made after its earlier ones.
fn statements(updates: &[&Update]) -> Vec<Document> {
    let mut statements: Vec<Statement<'_>> = Vec::new();
    let mut seen = HashSet::new();
    for update in updates {
        let id = update.filter.get_str("_id").ok();
        let is_first = id.is_some_and(|id| seen.insert(id));
        let alike = statements.iter_mut().find(|statement| is_first && statement.is_like(update));
        match (id, alike) {
            (Some(id), Some(alike)) => alike.ids.push(id),
            _ => statements.push(Statement { update, ids: id.into_iter().collect() }),
        }
    }
    statements.iter().map(Statement::command).collect()
}

/// One change of one record, or of several.
struct Statement<'a> {
    update: &'a Update,
    ids: Vec<&'a str>,
}

impl Statement<'_> {
    fn is_like(&self, other: &Update) -> bool {
        let may_be_many = other.demand != Demand::Upsert && !self.ids.is_empty();
        may_be_many && self.update.change == other.change && self.update.but_id().eq(other.but_id())
    }

    fn command(&self) -> Document {
        let Update { demand, filter, change, .. } = self.update;
        let mut filter = filter.clone();
        if self.ids.len() > 1 {
            filter.insert("_id", doc! { "$in": &self.ids });
        }
        doc! { "q": filter, "u": change, "upsert": *demand == Demand::Upsert, "multi": self.ids.len() > 1 }
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
            // What the database itself has ended needs no abort; a condition that did not hold does.
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
        let change = match &update.change {
            Bson::Array(stages) => {
                stages.iter().filter_map(|stage| stage.as_document().cloned()).collect::<Vec<_>>().into()
            }
            Bson::Document(change) => mongodb::options::UpdateModifications::Document(change.clone()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn made(fact: &Fact) -> Vec<(Bson, Bson, bool)> {
        let updates: Vec<&Update> = fact.updates.iter().collect();
        let part = |statement: &Document, name: &str| statement.get(name).unwrap().clone();
        let made = statements(&updates);
        made.iter().map(|made| (part(made, "q"), part(made, "u"), made.get_bool("multi").unwrap())).collect()
    }

    fn own(id: &str, token: &str) -> Document {
        doc! { "_id": id, "token": token }
    }

    fn many(ids: &[&str], token: &str) -> Bson {
        doc! { "_id": { "$in": ids }, "token": token }.into()
    }

    #[test]
    fn what_changes_several_records_alike_is_one_statement() {
        let over = || doc! { "$set": { "state": "succeeded" } };
        let other = || doc! { "$set": { "state": "dead" } };
        let fact = Fact::new("settle jobs")
            .may("jobs", own("a", "one"), over())
            .may("jobs", own("b", "one"), over())
            .may("jobs", own("c", "two"), over())
            .may("jobs", own("d", "one"), other())
            .may("jobs", own("e", "one"), over());
        let expected = [
            (many(&["a", "b", "e"], "one"), over().into(), true),
            (own("c", "two").into(), over().into(), false),
            (own("d", "one").into(), other().into(), false),
        ];
        assert_eq!(made(&fact), expected);
    }

    #[test]
    fn a_record_that_is_changed_twice_is_changed_in_turn() {
        let set = |n: i32| doc! { "$set": { "n": n } };
        let fact = Fact::new("count")
            .may("jobs", own("a", "one"), set(1))
            .may("jobs", own("a", "one"), set(2))
            .may("jobs", own("b", "one"), set(2))
            .may("jobs", own("a", "one"), set(1))
            .may("jobs", own("b", "one"), set(1));
        let expected = [
            (own("a", "one").into(), set(1).into(), false),
            (many(&["a", "b"], "one"), set(2).into(), true),
            (own("a", "one").into(), set(1).into(), false),
            (own("b", "one").into(), set(1).into(), false),
        ];
        assert_eq!(made(&fact), expected);
    }

    #[test]
    fn what_is_made_where_it_is_absent_or_has_no_id_is_a_statement_of_its_own() {
        let set = || doc! { "$set": { "n": 1 } };
        let made_of = |fact: Fact| made(&fact).len();
        let absent =
            Fact::new("make").upsert("fuses", own("a", ""), set()).upsert("fuses", own("b", ""), set());
        assert_eq!(made_of(absent), 2);
        let unnamed = doc! { "token": "" };
        let unnamed = Fact::new("change").may("jobs", unnamed, set()).may("jobs", own("a", ""), set());
        assert_eq!(made_of(unnamed), 2);
    }
}
