// SPDX-License-Identifier: Apache-2.0
//! What each verb does, a noun a file.

pub(crate) mod admin;
pub(crate) mod cert;
pub(crate) mod completion;
pub(crate) mod drift;
pub(crate) mod generate;
pub(crate) mod health;
pub(crate) mod instance;
pub(crate) mod issuer;
pub(crate) mod job;
pub(crate) mod kek;
pub(crate) mod leader;
pub(crate) mod notice;
mod offline;
pub(crate) mod project;
pub(crate) mod queue;
pub(crate) mod schema;
pub(crate) mod token;
pub(crate) mod top;
mod version;

use cap_runtime::config::{ClientConfig, KekConfig, MongoConfig};
use clap::CommandFactory;

use crate::app::App;
use crate::args::{Cli, Verb};
use crate::failure::Failure;

/// Does what was asked for.
pub(crate) async fn run(verb: Option<Verb>, app: &mut App) -> Result<(), Failure> {
    if app.global.check_config {
        return check_config(app);
    }
    match verb {
        Some(Verb::Health(args)) => health::run(args, app).await,
        Some(Verb::Admin(verb)) => admin::run(verb, app).await,
        Some(Verb::Project(verb)) => project::run(verb, app).await,
        Some(Verb::Issuer(verb)) => issuer::run(verb, app).await,
        Some(Verb::Cert(verb)) => cert::run(verb, app).await,
        Some(Verb::Drift(verb)) => drift::run(verb, app).await,
        Some(Verb::Job(verb)) => job::run(verb, app).await,
        Some(Verb::Notice(verb)) => notice::run(verb, app).await,
        Some(Verb::Queue(verb)) => queue::run(verb, app).await,
        Some(Verb::Leader(verb)) => leader::run(verb, app).await,
        Some(Verb::Instance(verb)) => instance::run(verb, app).await,
        Some(Verb::Top(args)) => top::run(args, app).await,
        Some(Verb::Token(verb)) => token::run(verb, app).await,
        Some(Verb::Schema(verb)) => schema::run(verb, app).await,
        Some(Verb::Kek(verb)) => kek::run(verb, app).await,
        Some(Verb::Version) => version::run(app),
        Some(Verb::Completion(args)) => completion::run(args, app),
        Some(Verb::Generate(verb)) => generate::run(verb, app),
        None => {
            let help = Cli::command().render_help();
            app.output.say(&help.to_string())?;
            Err(Failure::usage("there is nothing to do", "no command is given")
                .hint("name one of the commands"))
        }
    }
}

/// Parses everything that is given. The database and the KEK are needed by offline verbs only, so they may be absent.
fn check_config(app: &mut App) -> Result<(), Failure> {
    let given = |name: &str| {
        std::env::vars_os().any(|(variable, value)| {
            !value.is_empty() && variable.to_str().is_some_and(|variable| variable.starts_with(name))
        })
    };
    // A file may hold anything, so it is checked for all of it.
    let all = app.global.config.is_some();
    match (all || given("CAP_MONGO_"), all || given("CAP_KEK_")) {
        (false, false) => app.config::<ClientConfig>().map(drop)?,
        (true, false) => app.config::<(ClientConfig, MongoConfig)>().map(drop)?,
        (false, true) => app.config::<(ClientConfig, KekConfig)>().map(drop)?,
        (true, true) => app.config::<(ClientConfig, MongoConfig, KekConfig)>().map(drop)?,
    }
    app.output.say("The configuration is good.")
}
