// SPDX-License-Identifier: Apache-2.0
//! `issuer list|get|create|update|delete`.

use std::path::PathBuf;

use cap_client::Client;
use cap_client::wire::{CreateIssuer, Issuer, UpdateIssuer};
use cap_core::limits;
use clap::{Args, Subcommand};

use crate::app::{App, every, read_file};
use crate::failure::Failure;
use crate::wait;

/// What is done with issuers.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Every issuer of the project
    List,
    /// One issuer
    Get {
        /// Its id or name
        issuer: String,
    },
    /// Make an issuer: an account at a CA
    Create(Create),
    /// Change an issuer's settings; one that is failing is tried again at once
    Update(Update),
    /// Delete an issuer that no certificate uses
    Delete {
        /// Its id or name
        issuer: String,
    },
}

/// What `issuer create` takes.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: letters a-z, digits and hyphens
    name: String,
    /// Where the CA's ACME directory is, https://
    #[arg(long, value_name = "URL")]
    directory_url: String,
    /// What the CA's HTTPS server is trusted by, PEM; the public roots when not given
    #[arg(long, value_name = "FILE")]
    trust_roots: Option<PathBuf>,
    /// Whom the CA may write to, as mailto:ops@example.com; may be repeated
    #[arg(long, value_name = "URL")]
    contact: Vec<String>,
    /// Wait until its account is registered
    #[arg(long)]
    wait: bool,
}

/// What `issuer update` takes.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Its id or name
    issuer: String,
    /// What the CA's HTTPS server is trusted by, PEM
    #[arg(long, value_name = "FILE")]
    trust_roots: Option<PathBuf>,
    /// Trust the CA's HTTPS server by the public roots
    #[arg(long, conflicts_with = "trust_roots")]
    clear_trust_roots: bool,
    /// Whom the CA may write to instead, as mailto:ops@example.com; may be repeated
    #[arg(long, value_name = "URL")]
    contact: Vec<String>,
    /// Let the CA write to nobody
    #[arg(long, conflicts_with = "contact")]
    clear_contact: bool,
    /// Wait until its account is registered
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            let (client, project) = app.client_and_project().await?;
            let all = every(async |page| client.issuers(&project, &page).await).await?;
            app.list(&all)
        }
        Verb::Get { issuer } => {
            let (client, project) = app.client_and_project().await?;
            let found = client.issuer(&project, &issuer).await?;
            app.output.show(&found, app.clock.now())
        }
        Verb::Create(args) => create(args, app).await,
        Verb::Update(args) => update(args, app).await,
        Verb::Delete { issuer } => {
            let (client, project) = app.client_and_project().await?;
            let found = client.issuer(&project, &issuer).await?;
            let id = found.id.to_string();
            if app.rehearse::<()>("DELETE", &["projects", &project, "issuers", &id], None)? {
                return Ok(());
            }
            app.confirm(&format!("delete issuer {} ({id})", found.name))?;
            client.delete_issuer(&project, &id).await?;
            app.output.say(&format!("Issuer {} ({id}) is deleted.", found.name))
        }
    }
}

async fn create(args: Create, app: &mut App) -> Result<(), Failure> {
    let body = CreateIssuer {
        name: args.name,
        directory_url: args.directory_url,
        trust_roots_pem: args.trust_roots.map(|path| trust_roots(&path)).transpose()?,
        contact: args.contact,
    };
    let (client, project) = app.client_and_project().await?;
    if app.rehearse("POST", &["projects", &project, "issuers"], Some(&body))? {
        return Ok(());
    }
    let issuer = client.create_issuer(&project, &body).await?;
    show(app, (client, project), issuer, "made", args.wait).await
}

async fn update(args: Update, app: &mut App) -> Result<(), Failure> {
    let roots = args.trust_roots.map(|path| trust_roots(&path)).transpose()?;
    let body = UpdateIssuer {
        trust_roots_pem: if args.clear_trust_roots { Some(None) } else { roots.map(Some) },
        contact: if args.clear_contact {
            Some(None)
        } else {
            (!args.contact.is_empty()).then_some(Some(args.contact))
        },
    };
    let (client, project) = app.client_and_project().await?;
    if app.rehearse("PATCH", &["projects", &project, "issuers", &args.issuer], Some(&body))? {
        return Ok(());
    }
    let issuer = client.update_issuer(&project, &args.issuer, &body).await?;
    show(app, (client, project), issuer, "changed", args.wait).await
}

/// Shows an issuer after something was `done` to it, when its account is registered if that is waited for.
async fn show(
    app: &mut App,
    (client, project): (Client, String),
    mut issuer: Issuer,
    done: &str,
    wait: bool,
) -> Result<(), Failure> {
    if wait {
        let (id, what) = (issuer.id.to_string(), format!("issuer {}", issuer.name));
        app.output.say(&format!("{what} is {done} as {id}; waiting until its account is registered."))?;
        let look = async || client.issuer(&project, &id).await;
        issuer = wait::until(app, &what, look, wait::issuer).await?;
    }
    app.output.show(&issuer, app.clock.now())
}

fn trust_roots(path: &std::path::Path) -> Result<String, Failure> {
    let octets = u64::try_from(limits::TRUST_ROOTS_OCTETS).unwrap_or(u64::MAX);
    String::from_utf8(read_file(path, octets, "--trust-roots")?).map_err(|_| {
        Failure::usage(format!("--trust-roots: {} cannot be used", path.display()), "it is not PEM")
            .hint("give a PEM file with -----BEGIN CERTIFICATE----- blocks")
    })
}
