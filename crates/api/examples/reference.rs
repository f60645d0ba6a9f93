// SPDX-License-Identifier: Apache-2.0
//! Prints docs/reference/problems.md, for `cargo xtask codegen`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(cap_api::reference_markdown().as_bytes())
}
