// SPDX-License-Identifier: Apache-2.0
//! `admin recover-token`: for when every owner's token is lost or has run out.
//!
//! Whoever has the database and the KEK could forge a token anyway; this way there is an entry in the audit.

use std::path::Path;

use cap_core::audit::Action;
use cap_core::id::TokenId;
use cap_core::page::Page;
use cap_core::secret::ExposeSecret;
use cap_store::{Mutation, StoreError};
use serde::Serialize;

use super::{mint, offline, open};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Form;
use crate::output::text::instant;
use crate::secret_file::{Access, NewFile};

/// What such a token is called.
const NAME: &str = "recovered";

#[derive(Debug, Serialize)]
struct Recovered<'a> {
    token: TokenId,
    token_file: &'a Path,
    expires_at: jiff::Timestamp,
}

pub(super) async fn run(token_file: Option<&Path>, app: &mut App) -> Result<(), Failure> {
    if token_file.is_none() && app.output.out_is_terminal {
        return Err(Failure::usage("the token is not shown", "stdout is a terminal")
            .hint("add --token-file FILE, or pipe stdout to where the token is kept"));
    }
    let cluster = open(app).await?;
    // Tokens are revoked and run out, and their records stay: none at all means that there never was one.
    let any = cluster.store.tokens(&Page { limit: 1, after: None }).await;
    if any.map_err(|error| offline::store(&error))?.items.is_empty() {
        return Err(Failure::new(Exit::Conflict, "no token was made", "this cluster never had one")
            .hint("`certautopilot admin bootstrap` makes the first one"));
    }
    if app.global.dry_run {
        return app.output.say("The cluster can be opened; no token was made: this was a dry run.");
    }
    app.confirm("make a new owner's token")?;
    // The file first: a token that cannot be written down would be made for nothing.
    let mut file = token_file.map(|path| NewFile::create(path, Access::Owner)).transpose()?;
    let minted = mint(&cluster, NAME, Action::AdminTokenRecovered, app).await?;
    if let Some(file) = &mut file {
        file.fill(&minted.text)?;
    }
    let mutation = Mutation { audit: &minted.audit, request: None };
    if let Err(error) = cluster.store.create_token(&minted.record, mutation).await {
        let unknown = matches!(error, StoreError::Unavailable { .. });
        let failure = offline::store(&error);
        return Err(match file {
            // It may be on record all the same.
            Some(file) if unknown => {
                file.keep();
                failure
                    .hint("try the token in the file; if it is refused, remove the file and run this again")
            }
            _ if unknown => failure.hint("run this again: a token that nobody saw runs out within an hour"),
            _ => failure,
        });
    }
    let until = instant(minted.record.expires_at);
    app.output.say(&format!("A new owner's token, {}, is valid until {until}.", minted.record.id))?;
    app.output
        .say("Make a lasting one with it: certautopilot token create NAME --role owner --token-file FILE")?;
    app.output
        .say("The lost ones are still good until they run out: certautopilot token list, token revoke")?;
    let (Some(file), Some(path)) = (file, token_file) else {
        return app.output.text(minted.text.expose_secret());
    };
    file.keep();
    match app.output.form {
        Form::Json | Form::Yaml => {
            let (token, expires_at) = (minted.record.id, minted.record.expires_at);
            app.output.document(&Recovered { token, token_file: path, expires_at })
        }
        Form::Name => app.output.text(&format!("{}\n", minted.record.id)),
        Form::Table | Form::Wide => app.output.say(&format!("It is in {}.", path.display())),
    }
}
