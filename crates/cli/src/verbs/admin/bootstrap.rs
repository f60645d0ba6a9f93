// SPDX-License-Identifier: Apache-2.0
//! `admin bootstrap`.

use std::path::{Path, PathBuf};

use cap_boot::Cluster;
use cap_core::audit::Action;
use cap_core::id::TokenId;
use cap_core::page::Page;
use cap_store::{Mutation, StoreError};
use serde::Serialize;

use super::{mint, offline, open};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Form;
use crate::output::text::instant;
use crate::secret_file::{Access, NewFile};

/// What the first token is called.
const NAME: &str = "bootstrap";

#[derive(Debug, Serialize)]
struct Bootstrapped {
    token: TokenId,
    token_file: PathBuf,
    expires_at: jiff::Timestamp,
}

pub(super) async fn run(token_file: &Path, app: &mut App) -> Result<(), Failure> {
    let cluster = open(app).await?;
    if app.global.dry_run {
        // Tokens are revoked and run out, and their records stay.
        let any = cluster.store.tokens(&Page { limit: 1, after: None }).await;
        if !any.map_err(|error| offline::store(&error))?.items.is_empty() {
            return Err(bootstrapped_already());
        }
        return app.output.say("The cluster can be opened; no token was made: this was a dry run.");
    }
    let made = bootstrap(&cluster, token_file, app).await?;
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
    let minted = mint(cluster, NAME, Action::AdminBootstrapped, app).await?;
    let record = minted.record;
    file.fill(&minted.text)?;
    match cluster.store.bootstrap(&record, Mutation { audit: &minted.audit, request: None }).await {
        Ok(()) => file.keep(),
        Err(StoreError::Conflict { .. }) => {
            return Err(bootstrapped_already());
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

fn bootstrapped_already() -> Failure {
    Failure::new(Exit::Conflict, "no token was made", "this cluster was bootstrapped already").hint(
        "use a token that an owner made; if all are lost, `certautopilot admin recover-token` makes one",
    )
}
