// SPDX-License-Identifier: Apache-2.0
//! `schema status|migrate`.

use cap_runtime::config::{KekConfig, MongoConfig};
use cap_store::{MigrateError, SchemaStatus};
use clap::Subcommand;
use serde::Serialize;

use super::offline;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Form;

/// What is done with the schema.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Whether the database has this build's schema (exit 3 when not)
    Status,
    /// Bring the database to this build's schema; makes the cluster id and the KEK canary the first time
    Migrate,
}

#[derive(Debug, Serialize)]
struct Schema {
    state: &'static str,
    database: u32,
    build: u32,
}

#[derive(Debug, Serialize)]
struct Migrated {
    applied: Vec<u32>,
}

impl From<SchemaStatus> for Schema {
    fn from(status: SchemaStatus) -> Self {
        match status {
            SchemaStatus::Current(version) => Self { state: "current", database: version, build: version },
            SchemaStatus::Older { database, build } => Self { state: "older", database, build },
            SchemaStatus::Unknown { database, build } => Self { state: "unknown", database, build },
        }
    }
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    match verb {
        Verb::Status => status(app).await,
        Verb::Migrate => migrate(app).await,
    }
}

async fn status(app: &mut App) -> Result<(), Failure> {
    let mongo: MongoConfig = app.config()?;
    let store = cap_boot::store(&mongo, "certautopilot").await?;
    let status = store.schema_status().await.map_err(|error| offline::store(&error))?;
    let schema = Schema::from(status);
    match app.output.form {
        Form::Json | Form::Yaml => app.output.document(&schema)?,
        Form::Name => app.output.text(&format!("{}\n", schema.state))?,
        Form::Table | Form::Wide => {
            let Schema { state, database, build } = &schema;
            app.output.text(&format!("schema {state}: database {database}, build {build}\n"))?;
        }
    }
    current(status)
}

/// Refuses a database that has not this build's schema; so does every verb that needs it.
pub(super) fn current(status: SchemaStatus) -> Result<(), Failure> {
    let (database, build, hint) = match status {
        SchemaStatus::Current(_) => return Ok(()),
        SchemaStatus::Older { database, build } => (database, build, "run `certautopilot schema migrate`"),
        SchemaStatus::Unknown { database, build } => {
            (database, build, "it is newer or was changed by hand: use the build that migrated it")
        }
    };
    let why = format!("the database has {database}, this build has {build}");
    Err(Failure::new(Exit::CheckFailed, "the schema is not this build's", why).hint(hint))
}

async fn migrate(app: &mut App) -> Result<(), Failure> {
    let (mongo, kek): (MongoConfig, KekConfig) = app.config()?;
    let store = cap_boot::store(&mongo, "certautopilot").await?;
    if app.global.dry_run {
        let status = store.schema_status().await.map_err(|error| offline::store(&error))?;
        let Schema { state, database, build } = status.into();
        let text = format!("The schema is {state}: database {database}, build {build}. This was a dry run.");
        return app.output.say(&text);
    }
    let kek = cap_boot::kek(kek, app.entropy.clone())?;
    let applied = store.migrate(kek.as_ref(), app.clock.as_ref(), app.entropy.as_ref()).await;
    let applied = applied.map_err(refused)?;
    match app.output.form {
        Form::Json | Form::Yaml => app.output.document(&Migrated { applied }),
        Form::Table | Form::Wide if applied.is_empty() => app.output.say("The schema was current already."),
        Form::Name => {
            let lines: String = applied.iter().map(|number| format!("{number}\n")).collect();
            app.output.text(&lines)
        }
        Form::Table | Form::Wide => {
            let lines: String =
                applied.iter().map(|number| format!("migration {number} applied\n")).collect();
            app.output.text(&lines)
        }
    }
}

fn refused(error: MigrateError) -> Failure {
    let what = "the schema is not migrated";
    let why = error.to_string();
    match error {
        MigrateError::Store(error) => offline::store(&error),
        MigrateError::Kek(error) => offline::kek(&error),
        MigrateError::Newer { .. } | MigrateError::Changed(_) => {
            Failure::new(Exit::Refused, what, why).hint("use the build that migrated it")
        }
        MigrateError::Busy => {
            Failure::new(Exit::Timeout, what, why).hint("run it again once the other is done")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_core::envelope::KekError;

    #[test]
    fn each_reason_not_to_migrate_has_its_code() {
        for (error, exit) in [
            (MigrateError::Newer { database: 2, build: 1 }, Exit::Refused),
            (MigrateError::Changed(1), Exit::Refused),
            (MigrateError::Busy, Exit::Timeout),
            (MigrateError::Kek(KekError::Wrong(1)), Exit::WrongKek),
        ] {
            assert_eq!(refused(error).exit(), exit);
        }
    }
}
