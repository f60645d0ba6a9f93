// SPDX-License-Identifier: Apache-2.0
//! `admin bootstrap|recover-token`: owners' tokens made by who has the database and the KEK.

mod bootstrap;
mod recover_token;

use std::path::PathBuf;

use cap_boot::Cluster;
use cap_core::actor::{Actor, Role};
use cap_core::audit::{Action, Draft, Origin, Row};
use cap_core::envelope::{KeyId, KeyringError};
use cap_core::id::TokenId;
use cap_core::limits::TOKEN_LIFE_BOOTSTRAP;
use cap_core::name::Label;
use cap_core::secret::{ExposeSecret, SecretString};
use cap_core::token::Token;
use cap_runtime::config::{KekConfig, MongoConfig};
use cap_store::TokenRecord;
use clap::Subcommand;

use super::{offline, schema};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;

/// What is done about administrators.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the first owner's token, valid for an hour; once in the life of a cluster
    Bootstrap {
        /// Write the token to this new file, its owner's alone
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
    /// Make another owner's token, valid for an hour, when every other one is lost
    RecoverToken {
        /// Write the token to this new file, its owner's alone; else it goes to stdout, unless that is a terminal
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    match verb {
        Verb::Bootstrap { token_file } => bootstrap::run(&token_file, app).await,
        Verb::RecoverToken { token_file } => recover_token::run(token_file.as_deref(), app).await,
    }
}

/// The cluster, opened with this host's configuration.
async fn open(app: &mut App) -> Result<Cluster, Failure> {
    let (mongo, kek): (MongoConfig, KekConfig) = app.config()?;
    // As `schema status` says it, before anything else is wrong for want of a schema.
    let store = cap_boot::store(&mongo, "certautopilot").await?;
    schema::current(store.schema_status().await.map_err(|error| offline::store(&error))?)?;
    Ok(cap_boot::open_now(&mongo, kek, app.clock.clone(), app.entropy.clone()).await?)
}

/// An owner's token that is not on record yet.
struct Minted {
    record: TokenRecord,
    /// The token and a line's end.
    text: SecretString,
    audit: Row,
}

/// Makes an owner's token of an hour, and the audit row that says so.
async fn mint(cluster: &Cluster, name: &str, action: Action, app: &App) -> Result<Minted, Failure> {
    let (clock, entropy) = (app.clock.as_ref(), app.entropy.as_ref());
    let token = Token::generate(TokenId::generate(clock, entropy), entropy);
    let (pepper_version, pepper) = cluster.keyring.current(KeyId::TOKEN_PEPPER).await.map_err(sealing)?;
    let created_at = app.now();
    let record = TokenRecord {
        id: token.id(),
        name: name.parse::<Label>().map_err(|error| Failure::new(Exit::Error, "a bug", error.to_string()))?,
        role: Role::Owner,
        project: None,
        digest: token.digest(&pepper).to_vec(),
        pepper_version,
        created_at,
        expires_at: cap_core::clock::later(created_at, TOKEN_LIFE_BOOTSTRAP),
        revoked_at: None,
    };
    let origin = Origin { actor: Actor::Console, source: None, request: None };
    let draft = Draft::new(action, None, record.id)
        .detail("role", "owner")
        .detail("expires_at", record.expires_at.to_string());
    let audit = cluster.auditor.row(&origin, &draft).await;
    let audit = audit.map_err(|error| Failure::new(Exit::Error, "no token was made", error.to_string()))?;
    let text = SecretString::from(format!("{}\n", token.into_text().expose_secret()));
    Ok(Minted { record, text, audit })
}

fn sealing(error: KeyringError) -> Failure {
    match error {
        KeyringError::Kek(error) => offline::kek(&error),
        KeyringError::Store(_) | KeyringError::Missing { .. } | KeyringError::CannotOpen(_) => {
            Failure::new(Exit::Error, "no token was made", error.to_string())
        }
    }
}
