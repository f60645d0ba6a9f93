// SPDX-License-Identifier: Apache-2.0
//! `cert request|list|get|describe|update|renew|renewal-info|pause|resume|revoke|download|delete`.

mod describe;
mod download;
mod pause;
mod renew;
mod renewal_info;
mod request;
mod revoke;
mod update;

use cap_client::CertificateQuery;
use cap_core::certificate::Status;
use clap::Subcommand;

use crate::app::{App, every};
use crate::failure::Failure;
use crate::output::names;
use crate::{parse, resolve};

/// What is done with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Ask for a certificate
    Request(request::Args),
    /// Every certificate of the project
    List {
        /// Only those in this status
        #[arg(long, value_parser = parse::word::<Status>(parse::STATUSES))]
        status: Option<Status>,
    },
    /// One certificate
    Get {
        /// Its id or one of its names
        certificate: String,
    },
    /// Everything about one certificate, for people
    Describe {
        /// Its id or one of its names
        certificate: String,
    },
    /// Change a certificate's settings, one at least: key, profile and chain are those of orders that begin after it
    #[command(override_usage = "certautopilot cert update [OPTIONS] <CERTIFICATE>")]
    Update(update::Args),
    /// Renew a certificate now
    Renew(renew::Args),
    /// Ask the CA now when it wants a certificate renewed: it is asked by itself every few hours
    ///
    /// As when a CA is known to revoke certificates soon: it says so in its renewal information (ARI, RFC 9773), and what it wants
    /// renewed at once is. For certificates of CAs that offer it, which `cert describe` shows.
    RenewalInfo(renewal_info::Args),
    /// Have a certificate not renewed by itself until it is resumed: what is under way goes on, and it may expire
    ///
    /// As `cert update --no-auto-renew`. A job of it that lives goes on to its end, also one that waits for its next attempt
    /// (`job cancel` ends it), and `cert renew` renews it all the same. Nobody plans another renewal, however near the end is:
    /// notices are made as it runs out, with the reason auto_renew_off, and then it expires. A version that is revoked is not
    /// replaced, unless `cert revoke --replace` says so. It may be paused already.
    Pause {
        /// Its id or one of its names
        certificate: String,
    },
    /// Have a certificate renewed by itself again: within seconds where it is due
    ///
    /// As `cert update --auto-renew`. The scheduler that leads plans its renewal for when it is due, which may be now; one whose
    /// version was revoked is due at once. It need not be paused.
    Resume {
        /// Its id or one of its names
        certificate: String,
    },
    /// Have the CA revoke a version
    Revoke(revoke::Args),
    /// Write a certificate, its chain or its key
    Download(download::Args),
    /// Delete a certificate with its versions and keys
    Delete {
        /// Its id or one of its names
        certificate: String,
    },
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    match verb {
        Verb::Request(args) => request::run(args, app).await,
        Verb::List { status } => {
            let (client, project) = app.client_and_project().await?;
            let page = async |page| client.certificates(&project, &CertificateQuery { page, status }).await;
            let all = every(page).await?;
            app.list(&all)
        }
        Verb::Get { certificate } => {
            let (client, project) = app.client_and_project().await?;
            let id = resolve::certificate(&client, &project, &certificate).await?;
            let found = client.certificate(&project, id).await?;
            app.output.show(&found, app.clock.now())
        }
        Verb::Describe { certificate } => describe::run(&certificate, app).await,
        Verb::Update(args) => update::run(args, app).await,
        Verb::Renew(args) => renew::run(args, app).await,
        Verb::RenewalInfo(args) => renewal_info::run(args, app).await,
        Verb::Pause { certificate } => pause::pause(&certificate, app).await,
        Verb::Resume { certificate } => pause::resume(&certificate, app).await,
        Verb::Revoke(args) => revoke::run(args, app).await,
        Verb::Download(args) => download::run(args, app).await,
        Verb::Delete { certificate } => delete(&certificate, app).await,
    }
}

async fn delete(certificate: &str, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    let id = resolve::certificate(&client, &project, certificate).await?;
    let found = client.certificate(&project, id).await?;
    if app.rehearse::<()>("DELETE", &["projects", &project, "certificates", &id.to_string()], None)? {
        return Ok(());
    }
    let shown = names(&found).join(", ");
    app.confirm(&format!("delete certificate {id} for {shown}, with its versions and keys"))?;
    client.delete_certificate(&project, id).await?;
    app.output.say(&format!("Certificate {id} is deleted."))
}

/// What two flags say that exclude each other; nothing when neither is given.
fn switch(on: bool, off: bool) -> Option<bool> {
    (on || off).then_some(on)
}
