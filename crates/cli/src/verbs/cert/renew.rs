// SPDX-License-Identifier: Apache-2.0
//! `cert renew`.

use cap_client::wire::Certificate;
use cap_core::job::JobState;

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
    let number = |certificate: &Certificate| certificate.version.as_ref().map(|version| version.number);
    let before = if args.wait { number(&client.certificate(&project, id).await?) } else { None };
    let job = client.renew_certificate(&project, id).await?;
    if !args.wait {
        return app.output.show(&job, app.clock.now());
    }
    app.output.say(&format!("Job {} renews certificate {id}; waiting until it is done.", job.id))?;
    let look = async || client.job(&project, job.id).await;
    let what = format!("the renewal of {id}");
    let over = wait::until(app, &what, look, wait::job).await?;
    let certificate = client.certificate(&project, id).await?;
    if over.state == JobState::Cancelled && number(&certificate) <= before {
        return Err(wait::cancelled(
            &what,
            job.id,
            format!("`certautopilot cert renew {id}` queues another job"),
        ));
    }
    if let Some(version) = &certificate.version {
        app.output.say(&format!("Its version is now {}.", version.number))?;
    }
    app.output.show(&certificate, app.clock.now())
}
