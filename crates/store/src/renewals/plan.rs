// SPDX-License-Identifier: Apache-2.0
//! When a certificate is to be planned: `plan_at` is `renew_at` where the leader has a job to queue by then, and is not there
//! where one was queued for the current version already, or nothing is renewed by itself. So the index of it has nothing but
//! what is still to be done.
//!
//! It is derived from the record alone, so whoever changes what it is derived from makes it anew in the same update, and making
//! it once more is harmless. An earlier build's processes do not, for as long as they run beside this one: the leader goes
//! through all certificates, a page at a time, and makes it where it is missing.

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;

use super::FIRST;
use crate::duties::led;
use crate::error::StoreError;
use crate::{Store, bounded};

/// An expression: when the certificate is to be planned; missing where it is not.
fn derived() -> Bson {
    let is_planned = doc! { "$eq": ["$planned_for", { "$ifNull": ["$version.id", FIRST] }] };
    let is_wanted = doc! { "$and": [{ "$eq": ["$auto_renew", true] }, { "$not": [is_planned] }] };
    doc! { "$cond": [is_wanted, { "$ifNull": ["$renew_at", "$$REMOVE"] }, "$$REMOVE"] }.into()
}

/// A stage that makes it anew: the last of every update that changes `renew_at`, `planned_for`, `auto_renew` or the version.
pub(crate) fn stage() -> Document {
    doc! { "$set": { "plan_at": derived() } }
}

/// A plain change, of `$set` and `$unset`, as what is set, and the stages behind that, which end with [`stage`].
pub(crate) fn given(change: Document) -> (Document, Vec<Document>) {
    let mut then = Vec::new();
    let (mut set, mut unset) = (Document::new(), Vec::new());
    for (operator, fields) in change {
        match (operator.as_str(), fields) {
            ("$set", Bson::Document(fields)) => set = fields,
            ("$unset", Bson::Document(fields)) => unset.extend(fields.into_iter().map(|(name, _)| name)),
            (other, _) => debug_assert!(false, "a plain change has no {other}"),
        }
    }
    if !unset.is_empty() {
        then.push(doc! { "$unset": unset });
    }
    then.push(stage());
    (set, then)
}

/// The same as stages.
pub(crate) fn stages(change: Document) -> Vec<Document> {
    let (set, then) = given(change);
    let set = set.into_iter().map(|(name, value)| (name, doc! { "$literal": value }.into()));
    std::iter::once(doc! { "$set": set.collect::<Document>() }).chain(then).collect()
}

impl Store {
    /// Makes it anew for these certificates, unless a later leader than that of `epoch` planned them.
    pub(super) async fn replan(&self, ids: &[String], epoch: i64) -> Result<(), StoreError> {
        let certificates = self.collection::<Document>("certificates");
        let (wrong, mend) = led("plan_epoch", epoch, doc! { "_id": { "$in": ids } }, vec![stage()]);
        let update = certificates.update_many(wrong, mend);
        bounded("mend what is to be planned", update).await.map(drop)
    }

    /// Makes it anew for up to `limit` certificates behind `after`, by their ids, unless a later leader than that of `epoch`
    /// planned them. Answers the last of them, if there may be more behind it, and for how many it was wrong.
    ///
    /// # Errors
    /// When the database does not answer; doing it again is safe.
    pub async fn mend_plans(
        &self,
        after: Option<&str>,
        limit: u32,
        epoch: i64,
    ) -> Result<(Option<String>, u64), StoreError> {
        const DOING: &str = "look for what is not to be planned yet";
        let certificates = self.collection::<Document>("certificates");
        let behind = doc! { "_id": { "$gt": after.unwrap_or_default() } };
        let page: Vec<Document> = bounded(DOING, async {
            let page = certificates.find(behind).sort(doc! { "_id": 1 }).limit(i64::from(limit));
            page.projection(doc! { "_id": 1 }).await?.try_collect().await
        })
        .await?;
        let Some(last) = page.last().and_then(|last| last.get_str("_id").ok()) else { return Ok((None, 0)) };
        let missing = |field: Bson| doc! { "$ifNull": [field, null] };
        let wrong = doc! {
            "_id": { "$gt": after.unwrap_or_default(), "$lte": last },
            "$expr": { "$ne": [missing("$plan_at".into()), missing(derived())] },
        };
        let (wrong, mend) = led("plan_epoch", epoch, wrong, vec![stage()]);
        let mended = bounded(DOING, certificates.update_many(wrong, mend)).await?.modified_count;
        let is_full = u32::try_from(page.len()).is_ok_and(|found| found >= limit);
        Ok((is_full.then(|| last.to_owned()), mended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_change_is_taken_word_for_word_and_ends_with_the_plan() {
        let change = doc! { "$set": { "problem": "$odd", "status": Bson::Null }, "$unset": { "ari": "" } };
        let expected = vec![
            doc! { "$set": { "problem": { "$literal": "$odd" }, "status": { "$literal": Bson::Null } } },
            doc! { "$unset": ["ari"] },
            stage(),
        ];
        assert_eq!(stages(change), expected);
    }
}
