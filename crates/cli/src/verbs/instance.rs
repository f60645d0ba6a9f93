// SPDX-License-Identifier: Apache-2.0
//! `instance list`.

use clap::Subcommand;

use crate::app::App;
use crate::failure::Failure;

/// What is done with instances.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Every process of the cluster: its role, state and version, what it does, when it was last seen
    List,
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    let Verb::List = verb;
    let cluster = app.client()?.cluster().await?;
    for warning in &cluster.warnings {
        app.output.say(&format!("warning: {warning}"))?;
    }
    app.output.list(&cluster.instances, app.clock.now())
}
