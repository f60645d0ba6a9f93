// SPDX-License-Identifier: Apache-2.0
//! Waiting for a condition, with a deadline. Nothing in testkit waits for a time to pass.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::anyhow;

/// How often a condition is looked at. Short, because each look is cheap and a test waits for it.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a look found nothing.
#[derive(Debug)]
pub enum Pending {
    /// Look again; the text says what was seen, for the time-out's message.
    NotYet(String),
    /// It can never come true: stop waiting now.
    Never(anyhow::Error),
}

impl Pending {
    /// Look again, because of this.
    pub fn not_yet(seen: impl Display) -> Self {
        Self::NotYet(format!("{seen:#}"))
    }
}

/// Looks until `look` answers, for at most `limit`. `what` completes the sentence "gave up waiting for ...".
///
/// # Errors
/// When the deadline passes (with what was seen last), or when `look` says [`Pending::Never`].
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Pending>>,
{
    let deadline = Instant::now() + limit;
    let mut seen = String::from("nothing yet");
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(Pending::Never(error))) => return Err(error.context(format!("waiting for {what}"))),
            Ok(Err(Pending::NotYet(text))) => seen = text,
            Err(_elapsed) => {}
        }
        if Instant::now() >= deadline {
            return Err(anyhow!("gave up waiting for {what} after {limit:?}; seen last: {seen}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let got = until("the third look", Duration::from_secs(5), || {
            looks += 1;
            let seen = looks;
            async move { if seen < 3 { Err(Pending::not_yet(seen)) } else { Ok(seen) } }
        })
        .await;
        assert_eq!(got.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_wait_that_times_out_says_what_it_saw() {
        let got: anyhow::Result<()> =
            until("never", Duration::from_millis(50), || async { Err(Pending::not_yet("a closed door")) })
                .await;
        let text = got.unwrap_err().to_string();
        assert!(text.contains("never") && text.contains("a closed door"), "{text}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_bounded_too() {
        let got: anyhow::Result<()> =
            until("a hung look", Duration::from_millis(50), std::future::pending).await;
        assert!(got.is_err());
    }
}
