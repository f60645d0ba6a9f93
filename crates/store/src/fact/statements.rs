// SPDX-License-Identifier: Apache-2.0
//! The statements of an `update` command. What changes many records alike, or gives each its own, is one statement, which the
//! database plans once.

use std::collections::HashSet;

use bson::{Bson, Document, doc};

/// What an update demands of the record that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Demand {
    /// It is there as the filter wants it, or the whole fact is refused.
    Must,
    /// It is changed if it is there as the filter wants it.
    May,
    /// It is changed, or made.
    Upsert,
}

/// How a record is changed.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// As operators or stages say.
    Plain(Bson),
    /// It is given these values, word for word, and changed by the stages from there.
    Given { set: Document, then: Vec<Document> },
}

#[derive(Debug, Clone)]
pub(super) struct Update {
    pub(super) collection: &'static str,
    pub(super) demand: Demand,
    pub(super) filter: Document,
    pub(super) change: Change,
}

impl Change {
    /// The change of a statement that is for one record.
    pub(super) fn of_one(&self) -> Bson {
        match self {
            Self::Plain(change) => change.clone(),
            Self::Given { set, then } if then.is_empty() => doc! { "$set": set }.into(),
            Self::Given { set, then } if set.is_empty() => then.clone().into(),
            Self::Given { set, then } => {
                let literal = |value: &Bson| Bson::from(doc! { "$literal": value });
                let set: Document = set.iter().map(|(name, value)| (name.clone(), literal(value))).collect();
                let mut stages = vec![doc! { "$set": set }];
                stages.extend_from_slice(then);
                stages.into()
            }
        }
    }

    /// What the record is given.
    fn set(&self) -> Option<&Document> {
        match self {
            Self::Plain(_) => None,
            Self::Given { set, .. } => Some(set),
        }
    }
}

/// What a filter asks of one field that is no list, where a pipeline can ask it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// That it has this value.
    Value,
    /// That it is a number, and no more than this one.
    AtMost,
}

/// What is asked, and how.
fn asked(value: &Bson) -> Option<(Asked, &Bson)> {
    match value {
        Bson::Document(operator) if operator.len() == 1 => match operator.get("$lte")? {
            number @ (Bson::Int32(_) | Bson::Int64(_)) => Some((Asked::AtMost, number)),
            _ => None,
        },
        Bson::Null | Bson::String(_) | Bson::Boolean(_) | Bson::Int32(_) | Bson::Int64(_) => {
            Some((Asked::Value, value))
        }
        _ => None,
    }
}

impl Update {
    /// What the filter asks of the record, but for its id.
    fn but_id(&self) -> impl Iterator<Item = (&String, &Bson)> {
        self.filter.iter().filter(|(name, _)| *name != "_id")
    }

    /// The names of what it asks, what of them, and the values.
    fn asks(&self) -> impl Iterator<Item = (&String, Option<(Asked, &Bson)>)> {
        self.but_id().map(|(name, value)| (name, asked(value)))
    }

    /// The names of what it asks, and what of them.
    fn shape(&self) -> impl Iterator<Item = (&String, Option<Asked>)> {
        self.asks().map(|(name, asked)| (name, asked.map(|(what, _)| what)))
    }

    /// Whether a pipeline can ask the same, and give the same: a path is no name there.
    pub(super) fn is_plain(&self) -> bool {
        self.asks().all(|(_, asked)| asked.is_some())
            && self
                .change
                .set()
                .is_some_and(|set| set.keys().all(|name| name != "_id" && !name.contains('.')))
    }

    fn is_like(&self, other: &Self) -> bool {
        match (&self.change, &other.change) {
            (Change::Plain(one), Change::Plain(another)) => {
                one == another && self.but_id().eq(other.but_id())
            }
            (Change::Given { then: one, .. }, Change::Given { then: another, .. }) => {
                one == another && self.is_plain() && other.is_plain() && self.shape().eq(other.shape())
            }
            _ => false,
        }
    }
}

/// The statements that make these changes, which are of one kind of demand. A record's later changes are made after its
/// earlier ones.
pub(super) fn statements(updates: &[&Update]) -> Vec<Document> {
    let mut statements: Vec<Statement<'_>> = Vec::new();
    let mut seen = HashSet::new();
    for update in updates {
        let id = update.filter.get_str("_id").ok();
        let is_first = id.is_some_and(|id| seen.insert(id));
        let alike = statements.iter_mut().find(|statement| is_first && statement.may_take(update));
        match (id, alike) {
            (Some(id), Some(alike)) => {
                alike.ids.push(id);
                alike.others.push(update);
            }
            _ => statements.push(Statement { update, others: vec![], ids: id.into_iter().collect() }),
        }
    }
    statements.iter().map(Statement::command).collect()
}

/// One change of one record, or of several.
struct Statement<'a> {
    update: &'a Update,
    others: Vec<&'a Update>,
    ids: Vec<&'a str>,
}

impl Statement<'_> {
    fn may_take(&self, other: &Update) -> bool {
        other.demand != Demand::Upsert && !self.ids.is_empty() && self.update.is_like(other)
    }

    fn command(&self) -> Document {
        let Update { demand, filter, change, .. } = self.update;
        if self.others.is_empty() {
            return doc! {
                "q": filter, "u": change.of_one(), "upsert": *demand == Demand::Upsert, "multi": false,
            };
        }
        if let Change::Given { then, .. } = change {
            return self.given(then);
        }
        let mut filter = filter.clone();
        filter.insert("_id", doc! { "$in": &self.ids });
        doc! { "q": filter, "u": change.of_one(), "upsert": false, "multi": true }
    }

    /// Gives each record its own, from constants. The filter is the ids alone, and the pipeline asks the rest and fails where a record is
    /// not so: a filter that asks it of each record would be planned for as long as it is.
    fn given(&self, then: &[Document]) -> Document {
        let updates = std::iter::once(&self.update).chain(&self.others);
        let own = updates.map(|update| {
            let asked = update.asks().enumerate();
            let asked = asked.filter_map(|(n, (_, asked))| Some((slot(n), asked?.1.clone())));
            doc! { "set": update.change.set(), "asked": asked.collect::<Document>() }
        });
        let own: Vec<Document> = own.collect();
        let holds = self.update.asks().enumerate().filter_map(|(n, (name, asked))| {
            let (is, value) = (format!("${name}"), format!("$$own.asked.{}", slot(n)));
            // What is not there is less than any number, and the same as nothing.
            Some(match asked?.0 {
                Asked::AtMost => doc! { "$and": [{ "$gt": [&is, null] }, { "$lte": [is, value] }] },
                Asked::Value => doc! { "$eq": [{ "$ifNull": [is, null] }, value] },
            })
        });
        let given = doc! { "$cond": [
            { "$and": holds.collect::<Vec<_>>() },
            { "$mergeObjects": ["$$ROOT", "$$own.set"] },
            { "$toInt": { "$concat": [NOT_SO, "$_id"] } },
        ] };
        let own_of_it = doc! { "$arrayElemAt": ["$$own", { "$indexOfArray": ["$$ids", "$_id"] }] };
        let mut stages =
            vec![doc! { "$replaceWith": { "$let": { "vars": { "own": own_of_it }, "in": given } } }];
        stages.extend_from_slice(then);
        doc! {
            "q": { "_id": { "$in": &self.ids } }, "u": stages, "c": { "ids": &self.ids, "own": own },
            "upsert": false, "multi": true, "hint": { "_id": 1 },
        }
    }
}

/// What the database quotes where a record is not as it must be: no number, so its conversion fails.
pub(crate) const NOT_SO: &str = "not as it must be: ";

/// The name of what is asked `n`th: a path is no name.
fn slot(n: usize) -> String {
    format!("a{n}")
}

#[cfg(test)]
mod tests {
    use super::super::Fact;
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
    fn what_gives_each_record_its_own_is_one_statement() {
        let asks = |id: &str, fence: i64| doc! { "_id": id, "version.id": null, "fence": { "$lte": fence } };
        let (given, above) =
            (|n: i32| doc! { "n": n }, |id: &str| doc! { "_id": id, "fence": { "$gt": 6_i64 } });
        let then = || vec![doc! { "$unset": ["problem"] }];
        let fact = Fact::new("give")
            .give("certificates", asks("a", 1), given(1), then())
            .give("certificates", asks("b", 2), given(2), then())
            .give("certificates", asks("c", 3), given(3), vec![])
            .give("certificates", doc! { "_id": "d", "fence": 4_i64 }, given(4), vec![])
            .fenced(
                "certificates",
                asks("e", 5),
                Change::Given { set: doc! { "version.n": 5 }, then: then() },
            )
            .fenced("certificates", above("f"), Change::Given { set: given(6), then: vec![] })
            .fenced("certificates", above("g"), Change::Given { set: given(7), then: vec![] });
        let updates: Vec<&Update> = fact.updates.iter().collect();
        let made = statements(&updates);
        assert_eq!(made.len(), 6, "{made:?}");
        let many = &made[0];
        assert_eq!(many.get("q"), Some(&doc! { "_id": { "$in": ["a", "b"] } }.into()));
        let own = |n: i32| doc! { "set": { "n": n }, "asked": { "a0": null, "a1": i64::from(n) } };
        assert_eq!(many.get("c"), Some(&doc! { "ids": ["a", "b"], "own": [own(1), own(2)] }.into()));
        assert_eq!(many.get_array("u").unwrap().get(1), Some(&then().remove(0).into()));
        // One alone is as plain as it can be.
        assert_eq!(made[1].get("q"), Some(&asks("c", 3).into()));
        assert_eq!(made[1].get("u"), Some(&doc! { "$set": { "n": 3 } }.into()));
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
