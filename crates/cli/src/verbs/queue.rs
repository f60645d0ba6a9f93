// SPDX-License-Identifier: Apache-2.0
//! `queue stats`.

use clap::Subcommand;

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;

/// What is done with the queue.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// How many jobs are due or running, and how old the oldest is
    Stats,
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    let Verb::Stats = verb;
    let cluster = app.client()?.cluster().await?;
    let Some(queue) = cluster.queue else {
        let why = cluster.queue_unavailable.unwrap_or_else(|| "the API does not say why".to_owned());
        return Err(Failure::new(Exit::Error, "how deep the queue is cannot be told", why)
            .hint("`certautopilot leader show` says who should measure it"));
    };
    app.output.show(&queue, app.clock.now())
}
