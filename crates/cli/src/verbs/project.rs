// SPDX-License-Identifier: Apache-2.0
//! `project list|get|create|update`.

use cap_client::wire::{CreateProject, UpdateProject, UpdateProjectDrift};
use clap::{Args, Subcommand, ValueEnum};

use crate::app::{App, every};
use crate::failure::Failure;
use crate::parse;

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
    /// Change how a project's certificates are scanned for drift, and what it weighs where workers' places are short
    Update(Update),
}

/// What `project update` takes.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Its id or name
    #[arg(value_name = "PROJECT")]
    name: String,
    /// Whether what its certificates' names serve is looked at
    #[arg(long, value_enum, required_unless_present_any = ["drift_port", "drift_interval", "weight"])]
    drift: Option<Switch>,
    /// The port that is looked at, unless a certificate has another one
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    drift_port: Option<u16>,
    /// How often, as in 6h: 5 minutes to 30 days
    #[arg(long, value_name = "DURATION", value_parser = parse::duration_text)]
    drift_interval: Option<String>,
    /// How many places it gets to one of a project of weight 1: 1 to 100, for an owner to say
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u32).range(1..=100))]
    weight: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// Yes
    On,
    /// No
    Off,
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
        Verb::Update(args) => {
            let drift = UpdateProjectDrift {
                enabled: args.drift.map(|switch| switch == Switch::On),
                port: args.drift_port,
                interval: args.drift_interval,
            };
            let drift = (drift != UpdateProjectDrift::default()).then_some(drift);
            let body = UpdateProject { weight: args.weight, drift };
            if app.rehearse("PATCH", &["projects", &args.name], Some(&body))? {
                return Ok(());
            }
            let changed = app.client()?.update_project(&args.name, &body).await?;
            app.output.show(&changed, app.clock.now())
        }
    }
}
