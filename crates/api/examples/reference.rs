// SPDX-License-Identifier: Apache-2.0
//! Prints a page of docs/reference/, for `cargo xtask codegen`: `problems` or `audit-events`.

use std::io::{Error, Write};

fn main() -> Result<(), Error> {
    let page = match std::env::args().nth(1).as_deref() {
        Some("problems") => cap_api::reference_markdown(),
        Some("audit-events") => cap_core::audit::reference_markdown(),
        _ => return Err(Error::other("name a page: problems or audit-events")),
    };
    std::io::stdout().write_all(page.as_bytes())
}
