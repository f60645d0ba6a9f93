// SPDX-License-Identifier: Apache-2.0
//! `issuer list|get|create|update|roll-key|deactivate|delete`.

use std::path::{Path, PathBuf};

use cap_client::Client;
use cap_client::wire::{CreateIssuer, DeactivateIssuer, Issuer, SecretText, UpdateIssuer};
use cap_core::issuer::IssuerStatus;
use cap_core::limits;
use cap_core::secret::SecretString;
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
    /// Have its account at the CA take another key; it issues all the while
    RollKey {
        /// Its id or name
        issuer: String,
        /// Wait until the CA knows the new key
        #[arg(long)]
        wait: bool,
    },
    /// Have the CA close its account, for ever: it issues no more
    Deactivate {
        /// Its id or name
        issuer: String,
        /// Also where certificates use it, none of which is renewed then
        #[arg(long)]
        even_if_used: bool,
        /// Wait until the CA has closed it
        #[arg(long)]
        wait: bool,
    },
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
    #[command(flatten)]
    external: External,
    /// Wait until its account is registered
    #[arg(long)]
    wait: bool,
}

/// The external account that the CA wants an issuer's account bound to.
#[derive(Debug, Args)]
struct External {
    /// What the CA calls your account with it, where it binds ACME accounts to one (external account binding)
    #[arg(long, value_name = "KID", requires = "eab_hmac_key_file")]
    eab_kid: Option<String>,
    /// The HMAC key that the CA handed out with it, as it handed it out; - reads it from stdin
    #[arg(long, value_name = "FILE", requires = "eab_kid")]
    eab_hmac_key_file: Option<PathBuf>,
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
    #[command(flatten)]
    external: External,
    /// Bind the account to none at the CA
    #[arg(long, conflicts_with = "eab_kid")]
    clear_eab: bool,
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
        Verb::RollKey { issuer, wait } => roll_key(&issuer, wait, app).await,
        Verb::Deactivate { issuer, even_if_used, wait } => {
            deactivate(&issuer, DeactivateIssuer { even_if_used }, wait, app).await
        }
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
        eab_hmac_key: args.external.key()?,
        eab_kid: args.external.eab_kid,
    };
    let (client, project) = app.client_and_project().await?;
    let shown = CreateIssuer { eab_hmac_key: body.eab_hmac_key.as_ref().map(|_| hidden()), ..body.clone() };
    if app.rehearse("POST", &["projects", &project, "issuers"], Some(&shown))? {
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
        eab_hmac_key: if args.clear_eab { Some(None) } else { args.external.key()?.map(Some) },
        eab_kid: if args.clear_eab { Some(None) } else { args.external.eab_kid.map(Some) },
    };
    let (client, project) = app.client_and_project().await?;
    let key = body.eab_hmac_key.as_ref().map(|key| key.as_ref().map(|_| hidden()));
    let shown = UpdateIssuer { eab_hmac_key: key, ..body.clone() };
    if app.rehearse("PATCH", &["projects", &project, "issuers", &args.issuer], Some(&shown))? {
        return Ok(());
    }
    let issuer = client.update_issuer(&project, &args.issuer, &body).await?;
    show(app, (client, project), issuer, "changed", args.wait).await
}

async fn roll_key(issuer: &str, wait: bool, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    if app.rehearse::<()>("POST", &["projects", &project, "issuers", issuer, "roll-key"], None)? {
        return Ok(());
    }
    let mut rolling = client.roll_issuer_key(&project, issuer).await?;
    if wait {
        let (id, what) = (rolling.id.to_string(), format!("the account key of issuer {}", rolling.name));
        let look = async || wait::newest::issuer(&client, &project, &id).await;
        (rolling, _) = wait::until(app, &what, look, wait::rollover).await?;
    }
    app.output.show(&rolling, app.clock.now())
}

async fn deactivate(issuer: &str, body: DeactivateIssuer, wait: bool, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    let found = client.issuer(&project, issuer).await?;
    let id = found.id.to_string();
    if app.rehearse("POST", &["projects", &project, "issuers", &id, "deactivate"], Some(&body))? {
        return Ok(());
    }
    app.confirm(&format!("deactivate the account of issuer {} ({id}) for ever", found.name))?;
    let mut closing = client.deactivate_issuer(&project, &id, &body).await?;
    if wait {
        let what = format!("the account of issuer {}", closing.name);
        let look = async || wait::newest::issuer(&client, &project, &id).await;
        (closing, _) = wait::until(app, &what, look, wait::deactivated).await?;
    }
    app.output.show(&closing, app.clock.now())
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
        let (end, judge): (_, fn(&_, _) -> _) = match issuer.status {
            IssuerStatus::Deactivating => ("deactivated", wait::deactivated),
            _ => ("registered", wait::issuer),
        };
        app.output.say(&format!("{what} is {done} as {id}; waiting until its account is {end}."))?;
        let look = async || wait::newest::issuer(&client, &project, &id).await;
        (issuer, _) = wait::until(app, &what, look, judge).await?;
    }
    app.output.show(&issuer, app.clock.now())
}

impl External {
    /// The HMAC key, out of its file or stdin: in a flag everybody on the host could read it.
    fn key(&self) -> Result<Option<SecretText>, Failure> {
        let Some(path) = &self.eab_hmac_key_file else { return Ok(None) };
        let octets = u64::try_from(limits::EAB_KEY_OCTETS * 2).unwrap_or(u64::MAX);
        let path = if path.as_os_str() == "-" { Path::new("/dev/stdin") } else { path };
        let text = String::from_utf8(read_file(path, octets, "--eab-hmac-key-file")?).map_err(|_| {
            let what = format!("--eab-hmac-key-file: {} cannot be used", path.display());
            Failure::usage(what, "it is not text").hint("give the key as the CA handed it out, base64url")
        })?;
        Ok(Some(SecretString::from(text).into()))
    }
}

/// What a rehearsal shows in the place of a secret.
fn hidden() -> SecretText {
    SecretString::from("[REDACTED]").into()
}

fn trust_roots(path: &std::path::Path) -> Result<String, Failure> {
    let octets = u64::try_from(limits::TRUST_ROOTS_OCTETS).unwrap_or(u64::MAX);
    String::from_utf8(read_file(path, octets, "--trust-roots")?).map_err(|_| {
        Failure::usage(format!("--trust-roots: {} cannot be used", path.display()), "it is not PEM")
            .hint("give a PEM file with -----BEGIN CERTIFICATE----- blocks")
    })
}
