// SPDX-License-Identifier: Apache-2.0
//! `cert pause` and `cert resume`.

use cap_client::Client;
use cap_client::wire::Certificate;
use cap_core::id::CertificateId;

use crate::app::App;
use crate::failure::Failure;
use crate::output::text::{distance, instant_from};
use crate::resolve;

pub(super) async fn pause(certificate: &str, app: &mut App) -> Result<(), Failure> {
    let Some((client, project, id)) = find(certificate, "pause", app).await? else { return Ok(()) };
    let paused = client.pause_certificate(&project, id).await?;
    let end = match &paused.version {
        Some(version) => format!("its version ends {}", instant_from(version.not_after, app.now())),
        None => "it has no version yet".to_owned(),
    };
    let told = format!(
        "Certificate {id} is not renewed by itself until it is resumed; what is under way goes on, and {end}."
    );
    app.output.say(&told)?;
    app.output.show(&paused, app.clock.now())
}

pub(super) async fn resume(certificate: &str, app: &mut App) -> Result<(), Failure> {
    let Some((client, project, id)) = find(certificate, "resume", app).await? else { return Ok(()) };
    let resumed = client.resume_certificate(&project, id).await?;
    app.output.say(&format!("Certificate {id} is renewed by itself again: {}.", when(&resumed, app)))?;
    app.output.show(&resumed, app.clock.now())
}

/// What is meant, unless this is a dry run.
async fn find(
    certificate: &str,
    verb: &str,
    app: &mut App,
) -> Result<Option<(Client, String, CertificateId)>, Failure> {
    let (client, project) = app.client_and_project().await?;
    let id = resolve::certificate(&client, &project, certificate).await?;
    let path = ["projects", &project, "certificates", &id.to_string(), verb];
    Ok((!app.rehearse::<()>("POST", &path, None)?).then_some((client, project, id)))
}

fn when(resumed: &Certificate, app: &App) -> String {
    match resumed.renew_at {
        Some(at) if at <= app.now() => "it is due now".to_owned(),
        Some(at) => format!("it is due {}", distance(at, app.now())),
        None => "when is said once it is issued".to_owned(),
    }
}
