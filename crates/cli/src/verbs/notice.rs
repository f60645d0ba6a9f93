// SPDX-License-Identifier: Apache-2.0
//! `notice list`.

use cap_client::NoticeQuery;
use clap::Subcommand;

use crate::app::{App, every};
use crate::failure::Failure;

/// What is done with notices.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Certificates that were not renewed in time: the open notices
    List {
        /// Those that are resolved as well
        #[arg(long)]
        all: bool,
    },
}

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    let Verb::List { all } = verb;
    let (client, project) = app.client_and_project().await?;
    let open = (!all).then_some(true);
    let page = async |page| client.notices(&project, &NoticeQuery { page, open }).await;
    let all = every(page).await?;
    app.list(&all)
}
