// SPDX-License-Identifier: Apache-2.0
//! `cert revoke`.

use cap_client::wire::{Certificate, RevokeCertificate};
use cap_client::{Client, ClientError, PageQuery};
use cap_core::certificate::RevocationReason;
use cap_core::id::{CertificateId, VersionId};
use cap_core::job::JobState;

use super::switch;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{parse, resolve, wait};

/// What `cert revoke` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id or one of its names
    certificate: String,
    /// Why, for the CA and for whoever checks the certificate
    #[arg(long, value_parser = parse::word::<RevocationReason>(parse::REVOCATION_REASONS))]
    reason: RevocationReason,
    /// Another version than the current one, by its id
    #[arg(long, value_name = "VERSION")]
    version: Option<VersionId>,
    /// Have it issued anew at once, with a new key, although it is not renewed by itself
    #[arg(long)]
    replace: bool,
    /// Do not have it issued anew, although it is renewed by itself
    #[arg(long, conflicts_with = "replace")]
    no_replace: bool,
    /// Wait until the CA has revoked it
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    let id = resolve::certificate(&client, &project, &args.certificate).await?;
    // The one that is current now, which is named before it is revoked: another may be in use by the time that somebody has said yes.
    let version = match args.version {
        Some(named) => named,
        None => current(&client.certificate(&project, id).await?)?,
    };
    let body = RevokeCertificate {
        reason: args.reason.as_str().to_owned(),
        version: Some(version.to_string()),
        replace: switch(args.replace, args.no_replace),
    };
    let path = ["projects", &project, "certificates", &id.to_string(), "revoke"];
    if app.rehearse("POST", &path, Some(&body))? {
        return Ok(());
    }
    app.confirm(&format!("revoke {version} of certificate {id}, which cannot be taken back"))?;
    let job = client.revoke_certificate(&project, id, &body).await?;
    if !args.wait {
        return app.output.show(&job, app.clock.now());
    }
    app.output.say(&format!("Job {} has certificate {id} revoked; waiting until it is done.", job.id))?;
    let look = async || client.job(&project, job.id).await;
    let what = format!("the revocation of {id}");
    let over = wait::until(app, &what, look, wait::job).await?;
    if over.state == JobState::Cancelled && !is_revoked(&client, &project, id, version).await? {
        let next = format!(
            "look with `certautopilot cert get {id}` whether the CA may have been asked, and ask again"
        );
        return Err(wait::cancelled(&what, job.id, next));
    }
    app.output.say("The CA has revoked it.")?;
    app.output.show(&client.certificate(&project, id).await?, app.clock.now())
}

/// The version that is in use.
fn current(certificate: &Certificate) -> Result<VersionId, Failure> {
    certificate.version.as_ref().map(|version| version.id).ok_or_else(|| {
        Failure::new(
            Exit::Conflict,
            format!("nothing was issued for certificate {} yet", certificate.id),
            "there is nothing to revoke",
        )
        .hint(format!("delete it if it is not wanted: `certautopilot cert delete {}`", certificate.id))
    })
}

/// Whether the CA has revoked that version, which is one of the newest.
async fn is_revoked(
    client: &Client,
    project: &str,
    certificate: CertificateId,
    version: VersionId,
) -> Result<bool, ClientError> {
    let newest = client.versions(project, certificate, &PageQuery::default()).await?.items;
    let asked = newest.iter().find(|found| found.id == version);
    Ok(asked.and_then(|found| found.revocation.as_ref()).is_some_and(|it| it.revoked_at.is_some()))
}
