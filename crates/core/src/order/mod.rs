// SPDX-License-Identifier: Apache-2.0
//! Orders: how one certificate is bought, once, whatever breaks in between.
//!
//! [`state`] says what is known of an order and is written down; [`step`] decides what to do next from what is written
//! and what the CA said; [`engine`] does one thing at a time and writes down one fact after each; [`retry`] says what
//! becomes of failures. The CA and the ledger are ports.

mod abandon;
mod aside;
mod ca;
mod engine;
mod fuse;
mod ledger;
mod park;
mod picture;
mod replaces;
mod retry;
mod standing;
mod state;
mod step;

pub use abandon::is_abandoned;
pub use aside::{overdue_at, unheard_at, watched_until};
pub use ca::{
    Authorization, CaAccount, CaError, CaRequest, CertificateAuthority, Chain, Found, RemoteOrder, Reply,
    Seen,
};
pub use engine::{Engine, Outcome};
pub use fuse::Fuse;
pub use ledger::{FailedAttempt, IssuedVersion, Ledger, LedgerError};
pub use park::{Bucket, Park, buckets, goes_past};
pub use picture::{moves, order_states_markdown};
pub use replaces::{is_doubted, predecessor};
pub use retry::{
    asked_wait_max, attempt_delay, deferred, limit_wait_max, poll_delay, postponed, transient_delay,
};
pub use standing::{Standing, Steady};
pub use state::{Duty, Order, OrderKey, OrderState, Placed};
pub use step::{Knowledge, Step, may_issue, next_step};
