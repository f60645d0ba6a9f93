// SPDX-License-Identifier: Apache-2.0
//! `project list|get|create`.

use cap_client::wire::CreateProject;
use clap::Subcommand;

use crate::app::{App, every};
use crate::failure::Failure;

/// What is done with projects.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Every project that the token sees
    List,
    /// One project
    Get {
        /// Its id or name
        #[arg(value_name = "PROJECT")]
        name: String,
    },
    /// Make a project
    Create {
        /// Its name: letters a-z, digits and hyphens
        name: String,
    },
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            let client = app.client()?;
            let all = every(async |page| client.projects(&page).await).await?;
            app.list(&all)
        }
        Verb::Get { name } => {
            let found = app.client()?.project(&name).await?;
            app.output.show(&found, app.clock.now())
        }
        Verb::Create { name } => {
            let body = CreateProject { name };
            if app.rehearse("POST", &["projects"], Some(&body))? {
                return Ok(());
            }
            let made = app.client()?.create_project(&body).await?;
            app.output.show(&made, app.clock.now())
        }
    }
}
