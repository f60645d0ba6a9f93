// SPDX-License-Identifier: Apache-2.0
//! The CA that the tests of a process share, and that `cargo xtask test` shares between processes.

use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, anyhow};

use super::pebble::{Coordinates, Pebble};
use crate::process::ProcessId;

/// Holds the [`Coordinates`], as JSON, of the CA that `cargo xtask test` started for all test binaries.
const COORDINATES_VARIABLE: &str = "CAP_TEST_CA";

impl Pebble {
    /// The shared CA; starts one when nobody did. It has one profile, and never refuses a good nonce. Answer
    /// challenges at an address of your own ([`loopback_address`]) and point your names there.
    ///
    /// # Errors
    /// When Pebble cannot be had or does not start.
    pub async fn shared() -> anyhow::Result<Self> {
        if let Ok(text) = std::env::var(COORDINATES_VARIABLE) {
            let at: Coordinates =
                serde_json::from_str(&text).with_context(|| format!("reading {COORDINATES_VARIABLE}"))?;
            return Ok(Self::attach(at));
        }
        tokio::task::spawn_blocking(|| {
            let own = own().as_ref().map_err(|error| anyhow!("{error}"))?;
            Ok(Self::attach(own.at.clone()))
        })
        .await?
    }
}

fn own() -> &'static Result<Pebble, String> {
    static OWN: OnceLock<Result<Pebble, String>> = OnceLock::new();
    OWN.get_or_init(|| {
        // On a runtime of its own: that of the test which comes first ends with that test.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(Pebble::start()).map_err(|error| format!("{error:#}"))
    })
}

/// A loopback address that no other test uses, so that each answers challenges at the CA's one HTTP-01 port.
///
/// # Errors
/// When `/proc` is not there.
pub fn loopback_address() -> anyhow::Result<Ipv4Addr> {
    static COUNTER: AtomicU8 = AtomicU8::new(1);
    let me = ProcessId::current()?;
    let [low, high, ..] = me.pid.to_le_bytes();
    // 127.64.0.0 and up: far from the addresses that people and stacks use.
    let third = COUNTER.fetch_add(1, Ordering::Relaxed);
    Ok(Ipv4Addr::new(127, 64 | (high & 0x3f), low, third.max(1)))
}
