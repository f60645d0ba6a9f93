// SPDX-License-Identifier: Apache-2.0
//! What every process does before it holds a secret: no core dumps, no tracer, one TLS backend.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns core dumps off and closes the process to tracers of the same user. Returns what the kernel refused, as
/// sentences for the log: a sandbox may forbid the calls, and the process is then no worse than without them.
#[must_use]
pub fn memory() -> Vec<String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let calls = [
        ("core dumps stay on", setrlimit(Resource::Core, none)),
        ("the process stays traceable", set_dumpable_behavior(DumpableBehavior::NotDumpable)),
    ];
    let refused = calls.into_iter().filter_map(|(what, done)| Some((what, done.err()?)));
    refused.map(|(what, error)| format!("{what}: the kernel refused to turn that off: {error}")).collect()
}

/// Makes aws-lc-rs the TLS backend of the process. Further calls change nothing.
pub fn tls() {
    // The error only says that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
