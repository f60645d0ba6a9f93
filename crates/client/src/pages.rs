// SPDX-License-Identifier: Apache-2.0
//! Lists, page by page.

use cap_core::page::Slice;
use serde::Serialize;

use crate::error::ClientError;

/// Items asked for in one page when a whole list is wanted: the most that the API gives.
pub const PAGE_ITEMS: u32 = cap_core::limits::PAGE_ITEMS_MAX;
/// Pages that [`follow`] reads at most: with full pages 100,000 items, more than anybody reads.
pub const PAGES_MAX: u32 = 200;

/// Which page of a list.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PageQuery {
    /// At most so many items; the API's own choice when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// What the page before answered as `next_cursor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A list, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct All<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Whether these are all.
    pub complete: bool,
}

/// Reads pages until the list ends or `pages_max` of them were read.
///
/// # Errors
/// When a page cannot be had, or the API answers the cursor that it was given.
pub async fn follow<T>(
    pages_max: u32,
    mut page: impl AsyncFnMut(PageQuery) -> Result<Slice<T>, ClientError>,
) -> Result<All<T>, ClientError> {
    let mut items = Vec::new();
    let mut cursor = None;
    for _ in 0..pages_max {
        let slice = page(PageQuery { limit: Some(PAGE_ITEMS), cursor: cursor.clone() }).await?;
        items.extend(slice.items);
        match slice.next_cursor {
            None => return Ok(All { items, complete: true }),
            next if next == cursor => {
                return Err(ClientError::Protocol {
                    url: "the API".to_owned(),
                    status: None,
                    cause: "a page of a list names itself as the next one".to_owned(),
                    request_id: None,
                });
            }
            next => cursor = next,
        }
    }
    Ok(All { items, complete: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of_three(query: &PageQuery) -> Slice<u32> {
        let from: u32 = query.cursor.as_deref().map_or(0, |cursor| cursor.parse().unwrap());
        let next_cursor = (from < 6).then(|| (from + 3).to_string());
        Slice { items: (from..from + 3).collect(), next_cursor }
    }

    #[tokio::test]
    async fn every_page_is_read_once_and_in_order() {
        let all = follow(10, async |query| Ok(page_of_three(&query))).await.unwrap();
        assert_eq!(all, All { items: (0..9).collect(), complete: true });
    }

    #[tokio::test]
    async fn a_list_that_is_too_long_is_cut_and_says_so() {
        let all = follow(2, async |query| Ok(page_of_three(&query))).await.unwrap();
        assert_eq!(all, All { items: (0..6).collect(), complete: false });
    }

    #[tokio::test]
    async fn a_list_that_runs_in_a_circle_is_refused() {
        let circle = async |_| Ok(Slice { items: vec![1], next_cursor: Some("x".to_owned()) });
        assert!(matches!(follow(10, circle).await, Err(ClientError::Protocol { .. })));
    }
}
