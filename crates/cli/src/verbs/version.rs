// SPDX-License-Identifier: Apache-2.0
//! `version`.

use cap_runtime::args::{COMMIT, VERSION, long_version};
use serde::Serialize;

use crate::app::App;
use crate::failure::Failure;
use crate::output::Form;

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    commit: Option<&'static str>,
}

pub(super) fn run(app: &mut App) -> Result<(), Failure> {
    match app.output.form {
        Form::Table | Form::Wide => app.output.text(&format!("certautopilot {}\n", long_version())),
        Form::Name => app.output.text(&format!("{VERSION}\n")),
        Form::Json | Form::Yaml => app.output.document(&Version { version: VERSION, commit: COMMIT }),
    }
}
