// SPDX-License-Identifier: Apache-2.0
//! Something that there is so much of, and of which no caller has more than its share: places, or octets of memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Who;

/// What there is, and who holds it now: whoever holds nothing is not remembered.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    all: usize,
    /// A caller's share.
    pub(super) each: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    each: HashMap<Who, usize>,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Shares,
    who: Who,
    amount: usize,
}

/// Why there is no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Everything is held.
    All,
    /// The caller holds all of its share.
    Own,
}

impl Shares {
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { all, each, held: Arc::default() }
    }

    /// This much for `who`, at once or not at all.
    pub(super) fn take(&self, who: Who, amount: usize) -> Result<Share, Full> {
        let mut held = self.held();
        let own = held.each.get(&who).copied().unwrap_or(0);
        if own + amount > self.each {
            return Err(Full::Own);
        }
        if held.all + amount > self.all {
            return Err(Full::All);
        }
        if amount > 0 {
            held.all += amount;
            held.each.insert(who, own + amount);
        }
        drop(held);
        Ok(Share { of: self.clone(), who, amount })
    }

    /// This much for `who`, however much is held.
    pub(super) fn take_always(&self, who: Who, amount: usize) -> Share {
        let mut held = self.held();
        held.all += amount;
        *held.each.entry(who).or_default() += amount;
        drop(held);
        Share { of: self.clone(), who, amount }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut held = self.of.held();
        held.all -= self.amount;
        if let Some(own) = held.each.get_mut(&self.who) {
            *own -= self.amount;
            if *own == 0 {
                held.each.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_a_share_and_all_together_no_more_than_there_is() {
        let shares = Shares::new(5, 2);
        let take = |who, amount| shares.take(Who::Token(who), amount);
        let mut held = vec![take(1, 2).unwrap(), take(2, 1).unwrap(), take(3, 2).unwrap()];
        assert_eq!(take(1, 1).unwrap_err(), Full::Own);
        assert_eq!(take(2, 2).unwrap_err(), Full::Own);
        assert_eq!(take(4, 1).unwrap_err(), Full::All);
        assert!(take(4, 0).is_ok(), "nothing is always there");
        held.remove(0);
        held.push(take(4, 2).unwrap());
        drop(held);
        let left = shares.held();
        assert_eq!((left.all, left.each.len()), (0, 0), "who holds nothing is forgotten");
    }
}
