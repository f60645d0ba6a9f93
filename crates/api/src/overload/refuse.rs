// SPDX-License-Identifier: Apache-2.0
//! Refusing: counted by its reason, with the time after which to ask again.

use std::time::Duration;

use cap_core::entropy;

use crate::app::App;
use crate::problem::{ApiError, Kind};

/// Those who are refused in one moment come back spread over this time, and not all at once again.
const SPREAD: Duration = Duration::from_secs(2);

macro_rules! reasons {
    ($($name:ident = $label:literal, $meaning:literal;)*) => {
        /// Why a request was refused, or cut off.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        /// The labels of all of them.
        pub(crate) const REASONS: &[&str] = &[$($label),*];

        impl Reason {
            /// As it is counted.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

reasons! {
    TokenRate = "token_rate", "A token asks too often.";
    AddressRate = "address_rate", "Callers that are not known ask too often from one address.";
    Failures = "failures", "An address showed too many tokens that are none.";
    Share = "share", "A caller has all of its share of the places.";
    Places = "places", "All places are taken.";
    Bodies = "bodies", "Bodies take all of their memory.";
    SlowBody = "slow_body", "A body did not come in time.";
    Lists = "lists", "Too many lists are being read.";
    Answers = "answers", "Answers that nobody takes have all of their memory.";
    Waiting = "waiting", "Too many certificates of a project wait for their first attempt.";
}

impl App {
    /// A refusal, counted. It asks the client to come back after `wait`, and a little more, another time each. While no majority
    /// confirms the primary, that is what the client is told: what piles up then does so because of it.
    pub(crate) fn shed(
        &self,
        reason: Reason,
        kind: &'static Kind,
        detail: impl Into<String>,
        wait: Duration,
    ) -> ApiError {
        if let Err(unavailable) = self.must_be_confirmed() {
            return unavailable;
        }
        self.metrics.shed.with_label_values(&[reason.as_str()]).inc();
        let wait = wait + entropy::between(self.entropy.as_ref(), Duration::ZERO, SPREAD);
        ApiError::new(kind, detail).after(wait)
    }
}
