// SPDX-License-Identifier: Apache-2.0
//! `health`.

use cap_client::{Client, ClientError};
use serde::Serialize;

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Form, text};

/// What `health` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask for every check: database, KEK, schema
    #[arg(long)]
    deep: bool,
}

#[derive(Debug, Serialize)]
struct Health {
    healthy: bool,
    checks: Vec<String>,
}

pub(super) async fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let client = app.client()?;
    let asked = if args.deep { client.readiness().await } else { client.health().await };
    let readiness = asked.map_err(not_well)?;
    match app.output.form {
        Form::Json | Form::Yaml => {
            let checks = readiness.report.lines().map(str::to_owned).collect();
            app.output.document(&Health { healthy: readiness.ready, checks })?;
        }
        Form::Table | Form::Wide | Form::Name => {
            app.output.text(&format!("{}\n", text::clean(readiness.report.trim_end())))?;
        }
    }
    if args.deep && readiness.ready {
        warn(&client, app).await?;
    }
    if readiness.ready {
        return Ok(());
    }
    let failure = |why, hint| Err(Failure::new(Exit::CheckFailed, "the API is not ready", why).hint(hint));
    if args.deep {
        let hint = "mend what the failed checks name; reasons are shown to a token that is good";
        return failure("a check failed", hint);
    }
    failure("it says that it is not", "`certautopilot health --deep` says what is wrong")
}

/// What is wrong beyond the process that answered, as far as the token may see it.
async fn warn(client: &Client, app: &mut App) -> Result<(), Failure> {
    // Readiness is what was asked for: an answer that is refused or does not come changes nothing about it.
    let Ok(cluster) = client.cluster().await else { return Ok(()) };
    for warning in &cluster.warnings {
        app.output.say(&format!("warning: {warning}"))?;
    }
    Ok(())
}

/// An API that cannot be reached, or whose answer is no answer to the question, is not well either. That it does not let us
/// ask says nothing about it.
fn not_well(error: ClientError) -> Failure {
    let is_about_us = match &error {
        ClientError::Settings { .. } | ClientError::NoName { .. } => true,
        ClientError::Api(problem) => matches!(problem.status, 401 | 403 | 429),
        ClientError::Unreachable { .. } | ClientError::Protocol { .. } => false,
    };
    let failure = Failure::from(error);
    if is_about_us { failure } else { failure.with_exit(Exit::CheckFailed) }
}

#[cfg(test)]
mod tests {
    use cap_client::wire::ProblemDetails;

    use super::*;

    #[test]
    fn what_the_api_refuses_us_is_no_word_of_its_health() {
        let refused = |status| {
            let (kind, title, detail) = ("about:blank".into(), "No".into(), "because".into());
            ClientError::Api(Box::new(ProblemDetails { kind, title, status, detail, request_id: None }))
        };
        for (status, exit) in [(401, Exit::NotAllowed), (403, Exit::NotAllowed), (429, Exit::Error)] {
            assert_eq!(not_well(refused(status)).exit(), exit, "{status}");
        }
        for status in [500, 503] {
            assert_eq!(not_well(refused(status)).exit(), Exit::CheckFailed, "{status}");
        }
    }

    #[test]
    fn whatever_the_api_is_short_of_ready_fails_the_check_and_a_wrong_setting_does_not() {
        let (url, cause) = (|| "https://a.test".to_owned(), || "refused".to_owned());
        let broken = |status| ClientError::Protocol { url: url(), status, cause: cause(), request_id: None };
        for error in
            [ClientError::Unreachable { url: url(), cause: cause() }, broken(Some(500)), broken(Some(502))]
        {
            let failure = not_well(error);
            assert_eq!(failure.exit(), Exit::CheckFailed);
            assert!(failure.to_string().contains("https://a.test") && failure.to_string().contains("hint: "));
        }
        let wrong =
            ClientError::Settings { what: "the URL".into(), why: "is none".into(), remedy: "mend it" };
        assert_eq!(not_well(wrong).exit(), Exit::Config);
    }
}
