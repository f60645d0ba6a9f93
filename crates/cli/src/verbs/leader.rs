// SPDX-License-Identifier: Apache-2.0
//! `leader show|step-down`.

use cap_client::wire::{Cluster, Leader, StepDown};
use clap::Subcommand;

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::wait::{self, Verdict};

/// What is done with the leader.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Who leads, since when, until when, and how many stand by
    Show,
    /// Ask the leader to leave the lead to another
    StepDown {
        /// Ask the leader of this epoch alone, not one that came later
        #[arg(long, value_name = "EPOCH")]
        epoch: Option<i64>,
        /// Ask although no other scheduler stands by
        #[arg(long)]
        force: bool,
        /// Wait until another leads
        #[arg(long)]
        wait: bool,
    },
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    match verb {
        Verb::Show => {
            let leader = app.client()?.cluster().await?.leader.ok_or_else(nobody)?;
            app.output.show(&leader, app.clock.now())
        }
        Verb::StepDown { epoch, force, wait } => step_down(app, StepDown { epoch, force }, wait).await,
    }
}

fn nobody() -> Failure {
    Failure::new(Exit::NotFound, "there is no leader", "no scheduler was elected yet")
        .hint("start a scheduler, or wait for its first election")
}

async fn step_down(app: &mut App, asked: StepDown, wait: bool) -> Result<(), Failure> {
    let client = app.client()?;
    if app.rehearse("POST", &["cluster", "step-down"], Some(&asked))? {
        return Ok(());
    }
    let asked = client.step_down(&asked).await?;
    app.output.say(&format!("{} was asked to leave the lead of epoch {}.", asked.holder, asked.epoch))?;
    if !wait {
        return app.output.show(&asked, app.clock.now());
    }
    let look = async || client.cluster().await;
    let cluster = wait::until(app, "the hand-over", look, |seen, _| judge(seen, asked.epoch)).await?;
    let leader = cluster.leader.ok_or_else(nobody)?;
    app.output.show(&leader, app.clock.now())
}

/// Whether another term has begun than that of `epoch`.
fn judge(seen: &Cluster, epoch: i64) -> Verdict {
    let state = match &seen.leader {
        Some(leader) if leader.epoch > epoch && !leader.expired => return Verdict::Done,
        Some(Leader { expired: false, holder, .. }) => format!("{holder} leads"),
        Some(_) | None => "nobody leads".to_owned(),
    };
    Verdict::Pending { state, why: None }
}
