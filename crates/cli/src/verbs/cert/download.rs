// SPDX-License-Identifier: Apache-2.0
//! `cert download`.

use std::path::PathBuf;

use cap_client::DownloadFormat;
use cap_core::secret::ExposeSecret;
use clap::ValueEnum;

use crate::app::App;
use crate::failure::Failure;
use crate::resolve;
use crate::secret_file::{self, Access};

/// What `cert download` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id or one of its names
    certificate: String,
    /// What is written, as PEM
    #[arg(long, value_enum)]
    format: Format,
    /// Write to this file instead of stdout; a key's file is its owner's alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The certificate and its chain
    Fullchain,
    /// The chain without the certificate
    Chain,
    /// The certificate alone
    Leaf,
    /// The private key
    Key,
}

impl From<Format> for DownloadFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Fullchain => Self::Fullchain,
            Format::Chain => Self::Chain,
            Format::Leaf => Self::Leaf,
            Format::Key => Self::Key,
        }
    }
}

pub(super) async fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let is_key = args.format == Format::Key;
    // Before the key leaves the API, where each time is put on record.
    match &args.out {
        None if is_key && app.output.out_is_terminal && !app.global.yes => {
            return Err(Failure::usage("the private key is not shown", "stdout is a terminal")
                .hint("add --out FILE, or --yes to show it all the same"));
        }
        Some(path) if path.exists() && !app.global.yes => {
            let what = format!("{} is not written", path.display());
            return Err(Failure::usage(what, "there is a file of that name")
                .hint("name another file, or add --yes to replace this one"));
        }
        None | Some(_) => {}
    }
    let (client, project) = app.client_and_project().await?;
    let id = resolve::certificate(&client, &project, &args.certificate).await?;
    if app.global.dry_run {
        let what = DownloadFormat::from(args.format);
        return app
            .output
            .say(&format!("The {what} of certificate {id} was not fetched: this was a dry run."));
    }
    let pem = client.download(&project, id, args.format.into()).await?;
    let Some(path) = args.out else {
        return app.output.text(pem.expose_secret());
    };
    let access = if is_key { Access::Owner } else { Access::Umask };
    secret_file::write(&path, &pem, access, app.global.yes)?;
    app.output.say(&format!("{} is written.", path.display()))
}
