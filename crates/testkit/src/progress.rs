// SPDX-License-Identifier: Apache-2.0
//! Progress for people: one line on stderr for each download, build and start.

use std::fmt::Display;

/// Prints one line of progress on stderr.
#[expect(
    clippy::print_stderr,
    reason = "a download that takes a minute must say so, also under a test runner"
)]
pub fn say(line: impl Display) {
    eprintln!("testkit: {line}");
}

/// Says that a test is skipped, and why. Only for what a lesser server lacks, never for a failure.
pub fn skip(test: &str, reason: impl Display) {
    say(format_args!("SKIPPED {test}: {reason}"));
}
