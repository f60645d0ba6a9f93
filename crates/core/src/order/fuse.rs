// SPDX-License-Identifier: Apache-2.0
//! The fuse: how many orders for one set of names are begun, whatever asks for them. A loop that deletes certificates
//! and makes them again, or renews them without end, must not use up what the CA allows everybody else.

use std::time::Duration;

/// The longest span over which orders are counted: CAs count them by the week.
const WINDOW_MAX: Duration = Duration::from_secs(7 * 86_400);

/// What blows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fuse {
    /// Orders that may be begun within the window; those that failed are not counted.
    pub orders: u32,
    /// The window.
    pub window: Duration,
}

impl Fuse {
    /// The fuse for names whose current version lives for `life`: what lives for an hour is renewed within the hour, and
    /// what lives for months is hardly renewed twice a week.
    #[must_use]
    pub fn new(orders: u32, life: Option<Duration>) -> Self {
        Self { orders, window: life.map_or(WINDOW_MAX, |life| life.min(WINDOW_MAX)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_shorter_may_be_ordered_more_often() {
        let window = |life| Fuse::new(10, life).window;
        assert_eq!(window(Some(Duration::from_secs(3_600))), Duration::from_secs(3_600));
        assert_eq!(window(Some(WINDOW_MAX * 12)), WINDOW_MAX);
        assert_eq!(window(None), WINDOW_MAX);
    }
}
