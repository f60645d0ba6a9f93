// SPDX-License-Identifier: Apache-2.0
//! The TLS backend of tests: aws-lc-rs, installed once for the process.

/// Installs aws-lc-rs as rustls' provider; harmless when done before.
pub fn install() {
    // Err only says that a provider is there already, and the workspace links no other.
    let _already_there = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// How testkit's HTTP clients call themselves: an ACME server refuses a client without a name (RFC 8555, section 6.1).
pub(crate) const USER_AGENT: &str = concat!("certautopilot-testkit/", env!("CARGO_PKG_VERSION"));
