// SPDX-License-Identifier: Apache-2.0
//! `kek generate|status`.

use std::path::PathBuf;

use cap_core::id::ClusterId;
use cap_runtime::config::{Config, Group, KekConfig, MongoConfig};
use clap::Subcommand;
use serde::Serialize;

use super::offline;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Form;

/// What is done with key encryption keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a new random key as the next version
    Generate {
        /// The folder of v<N>.key files, made when it is not there; else CAP_KEK_DIR
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Whether this host's KEK is the cluster's (exit 78 when not)
    Status,
}

#[derive(Debug, Serialize)]
struct Generated {
    version: u32,
    path: PathBuf,
}

#[derive(Debug, Serialize)]
struct Status {
    provider: &'static str,
    versions: Vec<u32>,
    cluster: Option<ClusterId>,
    active_version: Option<u32>,
    opens: bool,
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    match verb {
        Verb::Generate { dir } => generate(dir, app),
        Verb::Status => status(app).await,
    }
}

/// The folder that this host's keys are in, where it is told one.
struct KekDir(Option<PathBuf>);

impl Group for KekDir {
    fn read(config: &mut Config) -> Option<Self> {
        Some(Self(config.path("CAP_KEK_DIR")))
    }
}

fn generate(dir: Option<PathBuf>, app: &mut App) -> Result<(), Failure> {
    let dir = match dir {
        Some(dir) => dir,
        None => app.config::<KekDir>()?.0.ok_or_else(|| {
            Failure::usage("no key was made", "neither --dir nor CAP_KEK_DIR is given")
                .hint("name the folder of v<N>.key files")
        })?,
    };
    if app.global.dry_run {
        return app.output.say(&format!("No key was written to {}: this was a dry run.", dir.display()));
    }
    let (version, path) = cap_connectors::kek::generate(&dir, app.entropy.as_ref()).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::new(Exit::Error, "no key was made", format!("{error}{cause}"))
            .hint("name a folder of v<N>.key files that you may write to")
    })?;
    match app.output.form {
        Form::Json | Form::Yaml => app.output.document(&Generated { version, path })?,
        Form::Table | Form::Wide => app.output.text(&format!("version {version}: {}\n", path.display()))?,
        Form::Name => app.output.text(&format!("{}\n", path.display()))?,
    }
    app.output.say(
        "Keep a copy apart from every backup of the database: without the key nothing in it can be read.",
    )
}

async fn status(app: &mut App) -> Result<(), Failure> {
    let (mongo, kek): (MongoConfig, KekConfig) = app.config()?;
    let store = cap_boot::store(&mongo, "certautopilot").await?;
    let kek = cap_boot::kek(kek, app.entropy.clone())?;
    let versions = kek.versions().await.map_err(|error| offline::kek(&error))?;
    let canary = store.canary().await.map_err(|error| offline::store(&error))?;
    let checked = match &canary {
        Some(canary) => canary.check(kek.as_ref()).await.map_err(|error| offline::kek(&error)),
        None => {
            Err(Failure::new(Exit::CheckFailed, "the cluster has no KEK yet", "the database is not migrated")
                .hint("run `certautopilot schema migrate`"))
        }
    };
    let status = Status {
        provider: kek.provider(),
        versions,
        cluster: canary.as_ref().map(|canary| canary.cluster),
        active_version: canary.as_ref().map(|canary| canary.kek_version),
        opens: checked.is_ok(),
    };
    match app.output.form {
        Form::Json | Form::Yaml => app.output.document(&status)?,
        Form::Table | Form::Wide => app.output.text(&render(&status))?,
        Form::Name => {
            let lines: String = status.versions.iter().map(|version| format!("v{version}\n")).collect();
            app.output.text(&lines)?;
        }
    }
    checked
}

fn render(status: &Status) -> String {
    let versions: Vec<String> = status.versions.iter().map(ToString::to_string).collect();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none yet".to_owned());
    format!(
        "Provider        {}\nVersions here   {}\nCluster         {}\nActive version  {}\nOpens           {}\n",
        status.provider,
        versions.join(", "),
        or_none(status.cluster.map(|cluster| cluster.to_string())),
        or_none(status.active_version.map(|version| version.to_string())),
        if status.opens { "yes" } else { "no" },
    )
}
