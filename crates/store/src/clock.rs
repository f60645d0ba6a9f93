// SPDX-License-Identifier: Apache-2.0
//! The time that services go by: the database's.
//!
//! Whether an order of the CA is over, and when something is tried again, is written down for peers and read by them. A
//! worker whose host's clock is days ahead would take every order as expired, and one that may have been finalized for
//! one that cannot be: it would be bought twice. An api with such a clock would refuse every token, and one whose clock is behind
//! would let in who may not come in any more.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bson::doc;
use cap_core::clock::{Clock, later};
use jiff::Timestamp;

use crate::document::time;
use crate::error::StoreError;
use crate::{Store, bounded};

/// How often the database is asked. In between the time since boot counts on, which nobody turns.
const LOOK: Duration = Duration::from_secs(30);
/// How long an answer may be on its way to be believed: this process may have stood still since it came.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// The wait after the database did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Civil time by the database's clock, once it said it; by the host's before that.
#[derive(Debug)]
pub struct DatabaseClock {
    host: Arc<dyn Clock>,
    said: RwLock<Option<Said>>,
}

/// What the database's clock said, and the boot time at which that was heard.
#[derive(Debug, Clone, Copy)]
struct Said {
    time: Timestamp,
    heard_at: Duration,
}

impl DatabaseClock {
    /// A clock that was told nothing yet.
    #[must_use]
    pub fn new(host: Arc<dyn Clock>) -> Self {
        Self { host, said: RwLock::default() }
    }

    /// Asks the database once; answers whether it said the time. The answer's way makes the clock late by so much.
    pub async fn look(&self, store: &Store) -> bool {
        let asked_at = self.host.boottime();
        match store.database_time().await {
            Ok(time) => self.hear(time, asked_at),
            Err(error) => {
                tracing::debug!(%error, "the database's time is not known anew");
                false
            }
        }
    }

    /// Follows the database's clock for ever; ends only when dropped.
    pub async fn follow(&self, store: &Store) -> Infallible {
        loop {
            let wait = if self.look(store).await { LOOK } else { AGAIN };
            self.host.sleep(wait).await;
        }
    }

    /// Takes down what was said, unless the answer was so long on its way that it says little; answers whether it did.
    fn hear(&self, time: Timestamp, asked_at: Duration) -> bool {
        let heard_at = self.host.boottime();
        if heard_at.saturating_sub(asked_at) > ON_ITS_WAY {
            return false;
        }
        let said = Said { time, heard_at };
        *self.said.write().unwrap_or_else(PoisonError::into_inner) = Some(said);
        true
    }
}

impl Store {
    /// What the primary's clock says.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn database_time(&self) -> Result<Timestamp, StoreError> {
        const DOING: &str = "ask for the database's time";
        let hello = bounded(DOING, self.database.run_command(doc! { "hello": 1 })).await?;
        let said = hello.get_datetime("localTime");
        said.map(|said| time(*said))
            .map_err(|error| StoreError::Unavailable { doing: DOING, cause: error.to_string() })
    }
}

#[async_trait]
impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let said = *self.said.read().unwrap_or_else(PoisonError::into_inner);
        match said {
            Some(said) => later(said.time, self.host.boottime().saturating_sub(said.heard_at)),
            None => self.host.now(),
        }
    }

    /// The database's clock may be the one that is wrong: what ends an order too soon is whichever is ahead.
    fn surely(&self) -> Timestamp {
        self.now().min(self.host.now())
    }

    fn boottime(&self) -> Duration {
        self.host.boottime()
    }

    async fn sleep(&self, time: Duration) {
        self.host.sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A host whose clocks are turned by hand.
    #[derive(Debug)]
    struct Hands(Mutex<(Timestamp, Duration)>);

    #[async_trait]
    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            self.0.lock().unwrap().0
        }

        fn boottime(&self) -> Duration {
            self.0.lock().unwrap().1
        }

        async fn sleep(&self, _: Duration) {}
    }

    #[test]
    fn a_hosts_clock_that_jumps_changes_nothing_once_the_database_said_its_own() {
        let second = |second: i64| Timestamp::from_second(1_790_000_000 + second).unwrap();
        let host = Arc::new(Hands(Mutex::new((second(5), Duration::from_secs(100)))));
        let clock = DatabaseClock::new(host.clone());
        assert_eq!(clock.now(), second(5), "nobody said anything else yet");
        assert!(clock.hear(second(0), Duration::from_secs(99)));
        assert_eq!(clock.now(), second(0));
        *host.0.lock().unwrap() = (second(172_800), Duration::from_secs(107));
        assert_eq!(clock.now(), second(7));
        *host.0.lock().unwrap() = (second(-172_800), Duration::from_secs(108));
        assert_eq!(clock.now(), second(8));
        assert!(clock.hear(second(9), Duration::from_secs(107)));
        assert_eq!(clock.now(), second(9));
        *host.0.lock().unwrap() = (second(0), Duration::from_secs(200));
        assert!(!clock.hear(second(10), Duration::from_secs(109)), "it is to be asked again soon");
        assert_eq!(clock.now(), second(101), "that was said long ago");
    }

    #[test]
    fn a_time_has_surely_come_when_both_the_host_and_the_database_say_so() {
        let second = |second: i64| Timestamp::from_second(1_790_000_000 + second).unwrap();
        let host = Arc::new(Hands(Mutex::new((second(0), Duration::from_secs(100)))));
        let clock = DatabaseClock::new(host.clone());
        assert_eq!(clock.surely(), second(0), "nobody said anything else yet");
        clock.hear(second(172_800), Duration::from_secs(99));
        assert_eq!((clock.now(), clock.surely()), (second(172_800), second(0)), "the database is ahead");
        *host.0.lock().unwrap() = (second(400_000), Duration::from_secs(100));
        assert_eq!((clock.now(), clock.surely()), (second(172_800), second(172_800)), "the host is ahead");
    }
}
