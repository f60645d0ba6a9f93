// SPDX-License-Identifier: Apache-2.0
//! `top`: the system at a glance, live on a terminal.

mod frame;
mod snapshot;

use std::time::Duration;

use cap_client::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Form;
use crate::terminal::{self, Screen};

use snapshot::Snapshot;

/// The wait between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// What `top` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show it once, on a terminal too
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let client = app.client()?;
    let is_for_people = matches!(app.output.form, Form::Table | Form::Wide);
    if is_for_people && app.output.out_is_terminal && !args.once {
        return live(&client, app).await;
    }
    let snapshot = Snapshot::take(&client, app.global.project.as_deref(), app.now()).await?;
    match app.output.form {
        Form::Json | Form::Yaml => app.output.document(&snapshot),
        Form::Name => {
            let names: String =
                snapshot.cluster.instances.iter().map(|one| format!("{}\n", one.name)).collect();
            app.output.text(&names)
        }
        Form::Table | Form::Wide => {
            let lines = frame::render(&snapshot, app.output.form == Form::Wide);
            app.output.text(&format!("{}\n", lines.join("\n")))
        }
    }
}

/// Draws it again and again, until `q`, or a signal that ends programs.
async fn live(client: &Client, app: &mut App) -> Result<(), Failure> {
    let broken = |error: std::io::Error| Failure::output(&error);
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .map(signal)
        .collect::<Result<Vec<_>, _>>()
        .map_err(broken)?;
    let [interrupt, terminate, hangup] = signals.as_mut_slice() else {
        return Err(Failure::new(Exit::Error, "the program cannot start", "signals cannot be taken"));
    };
    let screen = Screen::open().map_err(broken)?;
    let mut keys = terminal::keys();
    let ended = async {
        let quit = async {
            while let Some(key) = keys.recv().await {
                if matches!(key, b'q' | b'Q') {
                    return;
                }
            }
            // No keys come any more; signals do.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = quit => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    let drawing = async {
        let mut shown = vec!["asking the API ...".to_owned()];
        loop {
            screen.draw(&shown).map_err(broken)?;
            match Snapshot::take(client, app.global.project.as_deref(), app.now()).await {
                Ok(snapshot) => shown = frame::render(&snapshot, app.output.form == Form::Wide),
                // What was seen last stays, under what is wrong now: the next look asks another replica.
                Err(error) if error.is_passing() => frame::mark(&mut shown, error.why()),
                Err(error) => return Err(Failure::from(error)),
            }
            shown.truncate(frame::LINES_MAX);
            screen.draw(&shown).map_err(broken)?;
            app.clock.sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = ended => Ok(()),
        failed = drawing => failed,
    }
}
