// SPDX-License-Identifier: Apache-2.0
//! `cert renewal-info`.

use cap_client::wire::{Certificate, RenewalInfo};

use crate::app::App;
use crate::failure::Failure;
use crate::output::text::instant_from;
use crate::{resolve, wait};

/// What `cert renewal-info` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id or one of its names
    certificate: String,
    /// Wait until the CA was asked
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    let id = resolve::certificate(&client, &project, &args.certificate).await?;
    let path = ["projects", &project, "certificates", &id.to_string(), "renewal-info"];
    if app.rehearse::<()>("POST", &path, None)? {
        return Ok(());
    }
    let asked = client.ask_renewal_info(&project, id).await?;
    if !args.wait {
        let told = format!(
            "The CA is asked when it wants certificate {id} renewed: within a minute, unless it wants to be left alone."
        );
        app.output.say(&told)?;
        return app.output.show(&asked, app.clock.now());
    }
    app.output
        .say(&format!("The CA is asked when it wants certificate {id} renewed; waiting for its answer."))?;
    let look = async || client.certificate(&project, id).await;
    let judge = |seen: &Certificate, _| wait::looked(seen, &asked);
    let seen = wait::until(app, &format!("the look at {id}"), look, judge).await?;
    let said = match &seen.renewal_info {
        _ if wait::version(&seen) != wait::version(&asked) => "It was renewed meanwhile.".to_owned(),
        Some(info) => said(info, &seen, app),
        None => "Nobody asks about this version any more: it has expired or was revoked.".to_owned(),
    };
    app.output.say(&said)?;
    app.output.show(&seen, app.clock.now())
}

fn said(info: &RenewalInfo, seen: &Certificate, app: &App) -> String {
    let when = |at| instant_from(at, app.now());
    match (&info.problem, &info.window, seen.renew_at) {
        (Some(problem), _, _) => format!("Its answer cannot be used, so nothing changes: {problem}."),
        (None, Some(window), Some(at)) => {
            format!(
                "It suggests {} to {}; the certificate is renewed {}.",
                when(window.start),
                when(window.end),
                when(at)
            )
        }
        (None, Some(window), None) => {
            format!(
                "It suggests {} to {}; the certificate is not renewed by itself.",
                when(window.start),
                when(window.end)
            )
        }
        (None, None, _) => "It suggests nothing.".to_owned(),
    }
}
