// SPDX-License-Identifier: Apache-2.0
//! How long what is over is kept.

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How long what is over is kept, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Finished jobs, from when they are counted.
    pub jobs: Duration,
    /// Attempts at jobs, from their start.
    pub attempts: Duration,
    /// Orders, from their end.
    pub orders: Duration,
    /// Requests that their client may repeat, from when they came.
    pub idempotency: Duration,
    /// Totals of finished jobs, from the end of their hour.
    pub totals: Duration,
    /// Notices about expiry, from when they are resolved.
    pub notices: Duration,
    /// Tokens, from when they ran out.
    pub tokens: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            jobs: DAY * 7,
            attempts: DAY * 30,
            orders: DAY * 30,
            idempotency: HOUR * 24,
            totals: DAY * 400,
            notices: DAY * 400,
            tokens: DAY * 30,
        }
    }
}
