// SPDX-License-Identifier: Apache-2.0
//! `token create|list|revoke`.

use std::path::PathBuf;

use cap_client::wire::{CreateToken, CreatedToken};
use cap_core::actor::Role;
use cap_core::id::TokenId;
use cap_core::secret::{ExposeSecret, SecretString};
use clap::{Args, Subcommand};

use crate::app::{App, every};
use crate::failure::Failure;
use crate::parse;
use crate::secret_file::{Access, NewFile};

/// What is done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a token; --project confines it
    Create(Create),
    /// The records of every token
    List,
    /// Revoke a token, at once and for good
    Revoke {
        /// Its id
        token: TokenId,
    },
}

/// What `token create` takes.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What to call it: letters a-z, digits and hyphens
    name: String,
    /// What its bearer may do
    #[arg(long, value_parser = parse::word::<Role>(parse::ROLES))]
    role: Role,
    /// How long it is valid, as in 30d; 90d when not given, 365d at most
    #[arg(long, value_parser = parse::duration_text, value_name = "DURATION")]
    expires_in: Option<String>,
    /// Write the token to this new file, its owner's alone; else it goes to stdout, unless that is a terminal
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => create(args, app).await,
        Verb::List => {
            let client = app.client()?;
            let all = every(async |page| client.tokens(&page).await).await?;
            app.list(&all)
        }
        Verb::Revoke { token } => {
            if app.rehearse::<()>("DELETE", &["tokens", &token.to_string()], None)? {
                return Ok(());
            }
            app.confirm(&format!("revoke token {token}"))?;
            app.client()?.revoke_token(token).await?;
            app.output.say(&format!("Token {token} is revoked."))
        }
    }
}

async fn create(args: Create, app: &mut App) -> Result<(), Failure> {
    let body = CreateToken {
        name: args.name,
        role: args.role,
        project: app.global.project.clone(),
        expires_in: args.expires_in,
    };
    if app.rehearse("POST", &["tokens"], Some(&body))? {
        return Ok(());
    }
    if args.token_file.is_none() && app.output.out_is_terminal {
        return Err(Failure::usage("the token is not shown", "stdout is a terminal")
            .hint("add --token-file FILE, or pipe stdout to where the token is kept"));
    }
    let client = app.client()?;
    // The file first: a token that cannot be written down would be made for nothing.
    let file = args.token_file.as_deref().map(|path| NewFile::create(path, Access::Owner)).transpose()?;
    let CreatedToken { record, token } = client.create_token(&body).await?;
    let token = SecretString::from(format!("{token}\n"));
    let Some(mut file) = file else {
        app.output.say(&format!("Token {} ({}) is made.", record.name, record.id))?;
        return app.output.text(token.expose_secret());
    };
    file.fill(&token)?;
    file.keep();
    app.output.show(&record, app.clock.now())
}
