// SPDX-License-Identifier: Apache-2.0
//! `certautopilot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cap_cli::main(std::env::args_os())
}
