// SPDX-License-Identifier: Apache-2.0
//! `leader show`.

use clap::Subcommand;

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;

/// What is done with the leader.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Who leads, and until when
    Show,
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    let Verb::Show = verb;
    let cluster = app.client()?.cluster().await?;
    let Some(leader) = cluster.leader else {
        return Err(Failure::new(Exit::NotFound, "there is no leader", "no scheduler was elected yet")
            .hint("start a scheduler, or wait for its first election"));
    };
    app.output.show(&leader, app.clock.now())
}
