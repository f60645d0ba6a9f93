// SPDX-License-Identifier: Apache-2.0
//! Refusing: counted by its reason, with the time after which to ask again.

use std::time::Duration;

use cap_core::entropy;

use crate::app::App;
use crate::problem::{ApiError, Kind, UNAVAILABLE};

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

impl Reason {
    /// Whether it is what a database that does not answer leads to, and not what the client does.
    fn piles_up(self) -> bool {
        match self {
            Self::Share | Self::Places | Self::Bodies | Self::Lists | Self::Answers | Self::Waiting => true,
            Self::TokenRate | Self::AddressRate | Self::Failures | Self::SlowBody => false,
        }
    }
}

impl App {
    /// A refusal, counted. It asks the client to come back after `wait`, and a little more, another time each. What piles up while no
    /// majority confirms the primary does so because of that, which the client is told then.
    pub(crate) fn shed(
        &self,
        reason: Reason,
        kind: &'static Kind,
        detail: impl Into<String>,
        wait: Duration,
    ) -> ApiError {
        self.metrics.shed.with_label_values(&[reason.as_str()]).inc();
        let wait = wait + entropy::between(self.entropy.as_ref(), Duration::ZERO, SPREAD);
        if reason.piles_up() && self.must_be_confirmed().is_err() {
            let detail = "the database cannot be reached now, and what was asked before waits for it; repeat the request";
            return ApiError::new(UNAVAILABLE, detail).after(wait);
        }
        ApiError::new(kind, detail).after(wait)
    }
}
