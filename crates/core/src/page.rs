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

/// What the ids in the cursors of a list stand behind that begins with the newest.
const NEWEST: &str = "newest/";

/// In which order a list is: that of ids, which is that in which things were made, or the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The oldest first.
    #[default]
    Asc,
    /// The newest first.
    Desc,
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

    /// The same for a list in this order. A cursor is good for the order alone in which it was handed out: in another it would
    /// lead back to where the list began.
    ///
    /// # Errors
    /// As [`Page::parse`], and when the cursor is one of the other order.
    pub fn parse_in<Id: FromStr>(
        order: Order,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Self, BadPage> {
        match order {
            Order::Asc => Self::parse::<Id>(limit, cursor),
            Order::Desc => {
                let page = Self::parse::<NewestFirst<Id>>(limit, cursor)?;
                Ok(Self { after: page.after.map(|after| after.replacen(NEWEST, "", 1)), ..page })
            }
        }
    }

    /// The same as [`Page::slice`] for a list in this order.
    #[must_use]
    pub fn slice_in<T>(&self, order: Order, items: Vec<T>, id: impl Fn(&T) -> String) -> Slice<T> {
        match order {
            Order::Asc => self.slice(items, id),
            Order::Desc => self.slice(items, |item| format!("{NEWEST}{}", id(item))),
        }
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

/// An id as a cursor of a list has it that begins with the newest.
struct NewestFirst<Id>(std::marker::PhantomData<Id>);

impl<Id: FromStr> FromStr for NewestFirst<Id> {
    type Err = BadPage;

    fn from_str(text: &str) -> Result<Self, BadPage> {
        let id = text.strip_prefix(NEWEST).ok_or(BadPage::Cursor)?;
        id.parse::<Id>().map(|_| Self(std::marker::PhantomData)).map_err(|_| BadPage::Cursor)
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
    fn a_cursor_of_the_other_order_is_refused() {
        let id = "job_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b";
        for (order, other) in [(Order::Asc, Order::Desc), (Order::Desc, Order::Asc)] {
            let first = Page::parse_in::<JobId>(order, Some(1), None).unwrap();
            let cursor = first.slice_in(order, vec![id, id], |id| (*id).to_owned()).next_cursor.unwrap();
            let next = Page::parse_in::<JobId>(order, Some(1), Some(&cursor)).unwrap();
            assert_eq!(next.after.as_deref(), Some(id));
            assert_eq!(Page::parse_in::<JobId>(other, Some(1), Some(&cursor)), Err(BadPage::Cursor));
            assert_eq!(Page::parse_in::<CertificateId>(order, None, Some(&cursor)), Err(BadPage::Cursor));
        }
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
