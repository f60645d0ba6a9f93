// SPDX-License-Identifier: Apache-2.0
//! What the database took, in its order, from the primary's oplog: the epochs of what leaders wrote, and the audit rows.
//!
//! A renewal's audit row names the epoch that planned it; the gauge carries it as its fence. What was rolled back is in
//! the oplog of no primary.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Client;
use serde_json::Value;

use super::{Figures, World};

/// Everything that was written since the replica set was made.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The epoch of each write that leaders alone make.
    epochs: Vec<i64>,
    /// How many audit rows there are of each action on each target.
    rows: BTreeMap<(String, String), usize>,
}

impl History {
    /// Reads the whole oplog of the primary.
    pub(super) async fn read(uri: &str) -> anyhow::Result<Self> {
        let client = Client::with_uri_str(uri).await?;
        let database = client.default_database().context("the connection string names a database")?;
        let names = [".audit_outbox", ".gauges"].map(|name| format!("{}{name}", database.name()));
        let oplog = client.database("local").collection::<Document>("oplog.rs");
        let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).await?.context("an empty oplog")?;
        let begins = |entry: &Document| entry.get_document("o")?.get_str("msg").map(str::to_owned);
        let is_whole = begins(&first).is_ok_and(|message| message == "initiating set");
        ensure!(is_whole, "the oplog lost its beginning: give the replica set a larger one");
        let ours = doc! { "$or": [{ "ns": { "$in": &names } }, { "o.applyOps.ns": &names[0] }] };
        let mut entries = oplog.find(ours).sort(doc! { "$natural": 1 }).await?;
        let (mut history, mut gauge) = (Self::default(), None);
        while let Some(entry) = entries.try_next().await? {
            for operation in operations(&entry) {
                history.take(operation, (&names[0], &names[1]), &mut gauge)?;
            }
        }
        Ok(history)
    }

    /// Takes note of one operation. The gauge's epoch is told when it changes only.
    fn take(
        &mut self,
        operation: &Document,
        (outbox, gauges): (&str, &str),
        gauge: &mut Option<i64>,
    ) -> anyhow::Result<()> {
        let (ns, o) = (operation.get_str("ns").unwrap_or_default(), operation.get_document("o")?);
        if ns == gauges {
            let diff = o.get_document("diff").ok();
            let parts = ["u", "i"].iter().filter_map(|part| diff?.get_document(part).ok());
            let told = parts.chain([o]).find_map(|fields| fields.get_i64("fence").ok());
            *gauge = told.or(*gauge);
            self.epochs.extend(*gauge);
        } else if ns == outbox && operation.get_str("op").is_ok_and(|op| op == "i") {
            let leaf: Value = serde_json::from_slice(o.get_binary_generic("leaf")?)?;
            let word = |name: &str| leaf[name].as_str().unwrap_or_default().to_owned();
            let (action, target) = (word("action"), word("target"));
            if action == PLANNED {
                self.epochs.extend(leaf["details"]["epoch"].as_i64());
            }
            *self.rows.entry((action, target)).or_default() += 1;
        }
        Ok(())
    }

    /// Adds whether one leader acted at a time.
    pub(super) fn judge_epochs(&self, figures: &mut Figures) {
        let (mut highest, mut epochs, mut out_of_turn) = (i64::MIN, 0, 0);
        for epoch in &self.epochs {
            out_of_turn += usize::from(*epoch < highest);
            epochs += usize::from(*epoch > highest);
            highest = highest.max(*epoch);
        }
        figures.count("leaders' writes", self.epochs.len());
        figures.count("epochs", epochs);
        figures.none("drills without a leader's write", usize::from(epochs == 0));
        figures.none("leaders' writes behind one of a later epoch", out_of_turn);
    }

    /// Adds whether each project and each certificate that is there was audited once, and each version issued once.
    pub(super) async fn judge_rows(&self, world: &World, figures: &mut Figures) -> anyhow::Result<()> {
        let mut wrong = 0;
        for (collection, action) in MADE {
            let ids: Vec<Bson> = world.collection(collection).distinct("_id", doc! {}).await?;
            let ids: Vec<&str> = ids.iter().filter_map(Bson::as_str).collect();
            wrong += ids.iter().filter(|id| self.count(action, id) != 1).count();
            wrong += self
                .rows
                .keys()
                .filter(|(of, target)| of == action && !ids.contains(&target.as_str()))
                .count();
        }
        figures.none("audit rows missing, doubled, or of what is not there", wrong);
        let issued = self.rows.iter().filter(|((action, _), _)| action == ISSUED).map(|(_, count)| count);
        let versions = world.collection("certificate_versions").count_documents(doc! {}).await?;
        let off = issued.sum::<usize>().abs_diff(usize::try_from(versions)?);
        figures.none("audit rows of issued certificates, off those stored", off);
        Ok(())
    }

    fn count(&self, action: &str, target: &str) -> usize {
        self.rows.get(&(action.to_owned(), target.to_owned())).copied().unwrap_or_default()
    }
}

/// Collections whose documents are made by one audited act each.
const MADE: [(&str, &str); 2] = [("projects", "project.created"), ("certificates", "certificate.requested")];
const PLANNED: &str = "certificate.renewal_planned";
const ISSUED: &str = "certificate.issued";

/// The single operations of an entry: a transaction holds many.
fn operations(entry: &Document) -> Vec<&Document> {
    match entry.get_document("o").and_then(|o| o.get_array("applyOps")) {
        Ok(inner) => inner.iter().filter_map(Bson::as_document).flat_map(operations).collect(),
        Err(_) => vec![entry],
    }
}

#[cfg(test)]
mod tests {
    use bson::Binary;
    use bson::spec::BinarySubtype;

    use super::*;

    const NAMES: (&str, &str) = ("t.audit_outbox", "t.gauges");

    fn leaf(action: &str, epoch: i64) -> Document {
        let text =
            serde_json::json!({ "action": action, "target": "c", "details": { "epoch": epoch } }).to_string();
        let leaf = Binary { subtype: BinarySubtype::Generic, bytes: text.into_bytes() };
        doc! { "op": "i", "ns": NAMES.0, "o": { "_id": "e", "leaf": leaf } }
    }

    #[test]
    fn the_epochs_of_plans_and_of_the_gauge_are_found_in_their_order() {
        let transaction = doc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [
            { "op": "i", "ns": "t.jobs", "o": { "_id": "j" } }, leaf(PLANNED, 4),
        ] } };
        let entries = [
            doc! { "op": "i", "ns": NAMES.1, "o": { "_id": "queue", "fence": 3_i64 } },
            doc! { "op": "u", "ns": NAMES.1, "o": { "$v": 2, "diff": { "u": { "depth": 1_i64 } } } },
            transaction,
            leaf(ISSUED, 1),
            doc! { "op": "u", "ns": NAMES.1, "o": { "$v": 2, "diff": { "u": { "fence": 5_i64 } } } },
        ];
        let (mut history, mut gauge) = (History::default(), None);
        for operation in entries.iter().flat_map(operations) {
            history.take(operation, NAMES, &mut gauge).unwrap();
        }
        assert_eq!(history.epochs, [3, 3, 4, 5]);
        assert_eq!(
            (history.count(PLANNED, "c"), history.count(ISSUED, "c"), history.count(ISSUED, "d")),
            (1, 1, 0)
        );
    }

    #[test]
    fn a_write_behind_a_later_epochs_is_out_of_turn() {
        let out_of_turn = |epochs: &[i64]| {
            let mut figures = Figures::default();
            History { epochs: epochs.to_vec(), ..History::default() }.judge_epochs(&mut figures);
            (figures.get("epochs").unwrap().value, figures.are_met())
        };
        assert_eq!(out_of_turn(&[1, 1, 2, 2, 3]), (3.0, true));
        assert_eq!(out_of_turn(&[1, 2, 1, 2]), (2.0, false));
    }
}
