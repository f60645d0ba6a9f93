// SPDX-License-Identifier: Apache-2.0
//! `admin bootstrap`.

use std::path::{Path, PathBuf};

use cap_boot::Cluster;
use cap_core::actor::{Actor, Role};
use cap_core::audit::{Action, Draft, Origin};
use cap_core::envelope::{KeyId, KeyringError};
use cap_core::id::TokenId;
use cap_core::limits::TOKEN_LIFE_BOOTSTRAP;
use cap_core::name::Label;
use cap_core::secret::{ExposeSecret, SecretString};
use cap_core::token::Token;
use cap_runtime::config::{KekConfig, MongoConfig};
use cap_store::{Mutation, StoreError, TokenRecord};
use clap::Subcommand;
use serde::Serialize;

use super::offline;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Form;
use crate::output::text::instant;
use crate::secret_file::{Access, NewFile};

/// What the first token is called.
const NAME: &str = "bootstrap";

/// What is done about the first administrator.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the first owner's token, valid for an hour; once in the life of a cluster
    Bootstrap {
        /// Write the token to this new file, its owner's alone
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
}

#[derive(Debug, Serialize)]
struct Bootstrapped {
    token: TokenId,
    token_file: PathBuf,
    expires_at: jiff::Timestamp,
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    let Verb::Bootstrap { token_file } = verb;
    let (mongo, kek): (MongoConfig, KekConfig) = app.config()?;
    let cluster = cap_boot::open_now(&mongo, kek, app.clock.clone(), app.entropy.clone()).await?;
    if app.global.dry_run {
        return app.output.say("The cluster can be opened; no token was made: this was a dry run.");
    }
    let made = bootstrap(&cluster, &token_file, app).await?;
    match app.output.form {
        Form::Json | Form::Yaml => app.output.document(&made),
        Form::Name => app.output.text(&format!("{}\n", made.token)),
        Form::Table | Form::Wide => {
            let (path, until) = (token_file.display(), instant(made.expires_at));
            app.output.say(&format!("The first owner's token is in {path}; it is valid until {until}."))?;
            app.output.say(
                "Make a lasting one with it: certautopilot token create NAME --role owner --token-file FILE",
            )
        }
    }
}

async fn bootstrap(cluster: &Cluster, path: &Path, app: &App) -> Result<Bootstrapped, Failure> {
    // Written down before it is on record: a token on record that nobody has could not be made again.
    let mut file = NewFile::create(path, Access::Owner)?;
    let (clock, entropy) = (app.clock.as_ref(), app.entropy.as_ref());
    let token = Token::generate(TokenId::generate(clock, entropy), entropy);
    let (pepper_version, pepper) = cluster.keyring.current(KeyId::TOKEN_PEPPER).await.map_err(sealing)?;
    let created_at = app.now();
    let record = TokenRecord {
        id: token.id(),
        name: NAME.parse::<Label>().map_err(|error| Failure::new(Exit::Error, "a bug", error.to_string()))?,
        role: Role::Owner,
        project: None,
        digest: token.digest(&pepper).to_vec(),
        pepper_version,
        created_at,
        expires_at: cap_core::clock::later(created_at, TOKEN_LIFE_BOOTSTRAP),
        revoked_at: None,
    };
    let text = token.into_text();
    file.fill(&SecretString::from(format!("{}\n", text.expose_secret())))?;
    let origin = Origin { actor: Actor::Console, source: None, request: None };
    let draft = Draft::new(Action::AdminBootstrapped, None, record.id)
        .detail("role", "owner")
        .detail("expires_at", record.expires_at.to_string());
    let audit = cluster.auditor.row(&origin, &draft).await;
    let audit = audit.map_err(|error| Failure::new(Exit::Error, "no token was made", error.to_string()))?;
    match cluster.store.bootstrap(&record, Mutation { audit: &audit, request: None }).await {
        Ok(()) => file.keep(),
        Err(StoreError::Conflict { .. }) => {
            return Err(Failure::new(
                Exit::Conflict,
                "no token was made",
                "this cluster was bootstrapped already",
            )
            .hint("use a token that an owner made; there is no second first one"));
        }
        Err(error @ StoreError::Unavailable { .. }) => {
            // It may be on record all the same, and then this file is all there is of it.
            file.keep();
            let hint = format!(
                "try the token in {}; if it is refused, remove the file and run this again",
                path.display()
            );
            return Err(offline::store(&error).hint(hint));
        }
        Err(error) => return Err(offline::store(&error)),
    }
    Ok(Bootstrapped { token: record.id, token_file: path.to_owned(), expires_at: record.expires_at })
}

fn sealing(error: KeyringError) -> Failure {
    match error {
        KeyringError::Kek(error) => offline::kek(&error),
        KeyringError::Store(_) | KeyringError::Missing { .. } | KeyringError::CannotOpen(_) => {
            Failure::new(Exit::Error, "no token was made", error.to_string())
        }
    }
}
