// SPDX-License-Identifier: Apache-2.0
//! Paging by cursor: each page starts behind the last item seen, so nothing is skipped or doubled under change.

use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a page was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPage {
    /// The limit is zero or too large.
    #[error("limit is {0}; it must be from 1 to {max}", max = limits::PAGE_ITEMS_MAX)]
    Limit(u32),
    /// The cursor is not one that we handed out.
    #[error("the cursor is not one that this list handed out; start again without it")]
    Cursor,
}

/// Which items are wanted: so many behind the one named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most so many items.
    pub limit: u32,
    /// The id of the last item seen.
    pub after: Option<String>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// What to ask for next; nothing when this page is the last.
    pub next_cursor: Option<String>,
}

impl Page {
    /// Reads the two query parameters of every list. A cursor names an item of the list by its id, so it must be one
    /// of that kind: what another list handed out would silently skip items here.
    ///
    /// # Errors
    /// When the limit is out of bounds or the cursor is none of ours.
    pub fn parse<Id: FromStr>(limit: Option<u32>, cursor: Option<&str>) -> Result<Self, BadPage> {
        let limit = limit.unwrap_or(limits::PAGE_ITEMS_DEFAULT);
        if limit == 0 || limit > limits::PAGE_ITEMS_MAX {
            return Err(BadPage::Limit(limit));
        }
        Ok(Self { limit, after: cursor.map(decode::<Id>).transpose()? })
    }

    /// Cuts `items`, of which the caller fetched one more than the limit, to a page.
    #[must_use]
    pub fn slice<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> String) -> Slice<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = if more { items.last().map(|last| encode(&id(last))) } else { None };
        Slice { items, next_cursor }
    }
}

impl<T> Slice<T> {
    /// The same page of something else.
    #[must_use]
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Slice<U> {
        Slice { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}

fn encode(id: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(id)
}

fn decode<Id: FromStr>(cursor: &str) -> Result<String, BadPage> {
    if cursor.len() > limits::CURSOR_OCTETS {
        return Err(BadPage::Cursor);
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| BadPage::Cursor)?;
    let id = String::from_utf8(bytes).map_err(|_| BadPage::Cursor)?;
    id.parse::<Id>().map_err(|_| BadPage::Cursor)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CertificateId, JobId};
    use proptest::prelude::*;

    #[test]
    fn pages_join_to_the_whole_list() {
        let all: Vec<u32> = (0..7).collect();
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = Page::parse::<u32>(Some(3), cursor.as_deref()).unwrap();
            let start = page.after.as_ref().map_or(0, |id| id.parse::<usize>().unwrap() + 1);
            let fetched = all[start..].iter().copied().take(4).collect();
            let slice = page.slice(fetched, ToString::to_string);
            seen.extend(slice.items);
            cursor = slice.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn another_lists_cursor_is_refused() {
        let id = "job_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b";
        let page = Page::parse::<JobId>(None, Some(&encode(id))).unwrap();
        assert_eq!(page.after.as_deref(), Some(id));
        assert_eq!(Page::parse::<CertificateId>(None, Some(&encode(id))), Err(BadPage::Cursor));
        for wrong in ["", "AAAA", &encode(""), &encode("job_")] {
            assert_eq!(Page::parse::<JobId>(None, Some(wrong)), Err(BadPage::Cursor), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_but_an_id_is_a_cursor(text in "\\PC{0,600}") {
            prop_assert_eq!(Page::parse::<JobId>(None, Some(&text)), Err(BadPage::Cursor));
            let wrapped = encode(&text);
            prop_assert!(Page::parse::<JobId>(None, Some(&wrapped)).is_err());
        }
    }
}
