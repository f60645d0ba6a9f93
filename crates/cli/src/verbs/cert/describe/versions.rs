// SPDX-License-Identifier: Apache-2.0
//! The versions before the current one: their ids, ends and revocations.

use cap_client::wire::{Revocation, Version};
use jiff::Timestamp;
use serde::Serialize;

use super::Lines;
use crate::output::text::{distance, instant_from};

/// Earlier versions that are shown: the newest. Of those before them as many at most whose revocation is not done.
const SHOWN: usize = 10;

/// The versions before the current one, the newest first.
#[derive(Debug, Default, Serialize)]
pub(super) struct Earlier {
    earlier_versions: Vec<Version>,
    /// How many there are that are not shown.
    more_earlier_versions: usize,
    /// Whether the API did not tell them.
    #[serde(skip)]
    is_unread: bool,
}

impl Earlier {
    /// Those of `versions`, the newest first, that are from before the current one. The API gives no more than a page of them,
    /// so how many there are is told from the current one's number.
    pub(super) fn than(current: Option<&Version>, versions: Option<Vec<Version>>) -> Self {
        let (is_unread, versions) = (versions.is_none(), versions.unwrap_or_default());
        let number = current.map_or(0, |current| current.number);
        let mut shown: Vec<Version> =
            versions.into_iter().filter(|version| version.number < number).collect();
        let older = shown.split_off(shown.len().min(SHOWN));
        shown.extend(older.into_iter().filter(is_being_revoked).take(SHOWN));
        let all = usize::try_from(number.saturating_sub(1)).unwrap_or_default();
        Self { more_earlier_versions: all.saturating_sub(shown.len()), earlier_versions: shown, is_unread }
    }

    pub(super) fn add(&self, lines: &mut Lines, now: Timestamp) {
        let told = self.earlier_versions.iter().flat_map(|version| tell(version, now));
        let more = match (self.more_earlier_versions, self.is_unread) {
            (0, _) => None,
            (more, true) => Some(format!("{more}, which the API did not tell; ask again")),
            (more, false) => Some(format!("and {more} more")),
        };
        lines.all("Earlier", told.chain(more));
    }
}

/// Whether somebody waits for its revocation.
fn is_being_revoked(version: &Version) -> bool {
    version.revocation.as_ref().is_some_and(|revocation| revocation.revoked_at.is_none())
}

/// A version in a line, and in others its revocation and what is in the way of that.
fn tell(version: &Version, now: Timestamp) -> Vec<String> {
    let is_over = version.not_after <= now;
    let (ends, at) = (if is_over { "ended" } else { "ends" }, instant_from(version.not_after, now));
    let mut told =
        vec![format!("{} ({}), {ends} {at}, serial {}", version.number, version.id, version.serial)];
    if let Some(revocation) = &version.revocation {
        told.push(format!("  revoked: {}", revoked(revocation, now)));
        told.extend(in_the_way(revocation, now).map(|problem| format!("  in the way: {problem}")));
    }
    told
}

/// When it was revoked, and why.
pub(super) fn revoked(revocation: &Revocation, now: Timestamp) -> String {
    let when = match revocation.revoked_at {
        Some(at) => instant_from(at, now),
        None => format!("asked for {}, not done yet", distance(revocation.asked_at, now)),
    };
    format!("{when}: {}", revocation.reason)
}

/// What is in the way of a revocation, and when the CA is asked again.
pub(super) fn in_the_way(revocation: &Revocation, now: Timestamp) -> Option<String> {
    let next = revocation.next_attempt_at.map_or_else(
        || "; it is not asked again by itself".to_owned(),
        |at| format!("; the CA is asked again {}", instant_from(at, now)),
    );
    revocation.problem.as_ref().map(|problem| format!("{problem}{next}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn version(number: i64, revocation: serde_json::Value) -> Version {
        let from = "2026-01-01T00:00:00Z";
        let to = if number == 1 { "2026-01-31T00:00:00Z" } else { "2026-02-03T00:00:00Z" };
        serde_json::from_value(json!({
            "id": format!("ver_{number:032x}"), "number": number, "serial": format!("0a{number}"),
            "fingerprint_sha256": "ff", "not_before": from, "not_after": to, "issued_at": from, "revocation": revocation,
        }))
        .unwrap()
    }

    fn refused() -> serde_json::Value {
        let problem = json!({ "class": "configuration", "type": "unauthorized", "detail": "not yours" });
        json!({ "reason": "keyCompromise", "asked_at": "2026-01-31T00:00:00Z", "revoked_at": null, "problem": problem })
    }

    /// What is told of versions from `current` down to 1.
    fn told(current: i64, revocation: impl Fn(i64) -> serde_json::Value) -> String {
        let versions: Vec<_> =
            (1..=current).rev().map(|number| version(number, revocation(number))).collect();
        let mut lines = Lines::default();
        let now = "2026-02-01T00:00:00Z".parse().unwrap();
        Earlier::than(versions.first(), Some(versions.clone())).add(&mut lines, now);
        lines.0
    }

    #[test]
    fn an_earlier_version_is_told_with_its_id_its_end_and_its_revocation() {
        let done = json!({
            "reason": "superseded", "asked_at": "2026-01-30T00:00:00Z", "revoked_at": "2026-01-31T00:00:00Z",
        });
        let text = told(3, |number| match number {
            1 => done.clone(),
            2 => refused(),
            _ => serde_json::Value::Null,
        });
        let expected = "\
Earlier       2 (ver_00000000000000000000000000000002), ends 2026-02-03T00:00:00Z (in 2 d), serial 0a2
                revoked: asked for 1 d ago, not done yet: keyCompromise
                in the way: not yours (unauthorized); it is not asked again by itself
              1 (ver_00000000000000000000000000000001), ended 2026-01-31T00:00:00Z (1 d ago), serial 0a1
                revoked: 2026-01-31T00:00:00Z (1 d ago): superseded
";
        assert_eq!(text, expected);
        assert_eq!(told(1, |_| serde_json::Value::Null), "", "one version has none before it");
    }

    #[test]
    fn the_newest_are_shown_and_how_many_more_there_are() {
        let text = told(12, |_| serde_json::Value::Null);
        assert!(
            text.starts_with("Earlier       11 (ver_") && text.ends_with("\n              and 1 more\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), SHOWN + 1, "{text}");
        assert_eq!(told(11, |_| serde_json::Value::Null).lines().count(), SHOWN);
        // What somebody waits for is not lost among them, and is bounded as well.
        let text = told(30, |number| if number == 3 { refused() } else { serde_json::Value::Null });
        assert!(text.contains("\n              3 (ver_") && text.contains("not yours"), "{text}");
        assert!(text.ends_with("and 18 more\n"), "{text}");
        let every = told(40, |_| refused());
        assert_eq!(every.matches("(ver_").count(), 2 * SHOWN, "{every}");
    }

    #[test]
    fn the_current_version_and_one_that_came_meanwhile_are_not_earlier() {
        let none = || serde_json::Value::Null;
        let [one, two, three] = [1, 2, 3].map(|number| version(number, none()));
        let earlier = Earlier::than(Some(&two), Some(vec![three.clone(), two.clone(), one]));
        assert_eq!(earlier.earlier_versions.iter().map(|one| one.number).collect::<Vec<_>>(), [1]);
        assert_eq!(Earlier::than(None, Some(vec![three])).earlier_versions.len(), 0);
        let mut lines = Lines::default();
        Earlier::than(Some(&two), None).add(&mut lines, Timestamp::UNIX_EPOCH);
        assert_eq!(lines.0, "Earlier       1, which the API did not tell; ask again\n");
    }
}
