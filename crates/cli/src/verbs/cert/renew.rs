// SPDX-License-Identifier: Apache-2.0
//! `cert renew`.

use crate::app::App;
use crate::failure::Failure;
use crate::{resolve, wait};

/// What `cert renew` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id or one of its names
    certificate: String,
    /// Wait until the next version is there
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    let id = resolve::certificate(&client, &project, &args.certificate).await?;
    let path = ["projects", &project, "certificates", &id.to_string(), "renew"];
    if app.rehearse::<()>("POST", &path, None)? {
        return Ok(());
    }
    let job = client.renew_certificate(&project, id).await?;
    if !args.wait {
        return app.output.show(&job, app.clock.now());
    }
    app.output.say(&format!("Job {} renews certificate {id}; waiting until it is done.", job.id))?;
    let look = async || client.job(&project, job.id).await;
    wait::until(app, &format!("the renewal of {id}"), look, wait::job).await?;
    let certificate = client.certificate(&project, id).await?;
    if let Some(version) = &certificate.version {
        app.output.say(&format!("Its version is now {}.", version.number))?;
    }
    app.output.show(&certificate, app.clock.now())
}
