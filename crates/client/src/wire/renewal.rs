// SPDX-License-Identifier: Apache-2.0
//! When a certificate's CA wants it renewed (RFC 9773).

use cap_core::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a certificate's CA says of when to renew it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalInfo {
    /// The window that it named last; nothing before the first look at the current version.
    pub window: Option<RenewalWindow>,
    /// A page of the CA's that tells why.
    pub explanation_url: Option<String>,
    /// When it was looked at last.
    pub looked_at: Option<Timestamp>,
    /// When it is looked at next.
    pub next_look_at: Timestamp,
    /// Why the last answer could not be used: renewal stays as planned.
    pub problem: Option<Problem>,
}

/// A window that a CA suggests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalWindow {
    /// Where it begins.
    pub start: Timestamp,
    /// Where it ends.
    pub end: Timestamp,
    /// The time that was drawn in it: the certificate is renewed then.
    pub renew_at: Timestamp,
}
