// SPDX-License-Identifier: Apache-2.0
//! `cert request`.

use cap_client::wire::{CreateCertificate, DriftTarget, Key};
use cap_core::certificate::{ChallengeType, KeyType};

use crate::app::App;
use crate::failure::Failure;
use crate::{parse, wait};

/// What `cert request` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// DNS names and IP addresses
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// The issuer, by id or name
    #[arg(long)]
    issuer: String,
    /// The algorithm of its key
    #[arg(long, default_value = "ecdsa-p256", value_parser = parse::word::<KeyType>(parse::KEY_TYPES))]
    key_type: KeyType,
    /// Keep its key at renewals; a new one each time when not given
    #[arg(long)]
    reuse_key: bool,
    /// The CA's profile; the CA's default when not given
    #[arg(long)]
    profile: Option<String>,
    /// The chain to take where the CA offers it, by the common name of the issuer of its topmost certificate; the CA's
    /// default when not given
    #[arg(long, value_name = "NAME")]
    preferred_chain: Option<String>,
    /// Do not renew it unasked
    #[arg(long)]
    no_auto_renew: bool,
    /// The host that serves it, a name or an address, where drift scans shall look; its own names when not given
    #[arg(long, value_name = "HOST")]
    drift_host: Option<String>,
    /// The port that drift scans shall look at; the project's when not given
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    drift_port: Option<u16>,
    /// Wait until it is issued
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let target = DriftTarget { host: args.drift_host, port: args.drift_port };
    let body = CreateCertificate {
        names: args.names,
        issuer: args.issuer,
        key: Key { kind: args.key_type, reuse: args.reuse_key },
        challenge: ChallengeType::default(),
        profile: args.profile,
        preferred_chain: args.preferred_chain,
        auto_renew: !args.no_auto_renew,
        drift: (target != DriftTarget::default()).then_some(target),
    };
    let (client, project) = app.client_and_project().await?;
    if app.rehearse("POST", &["projects", &project, "certificates"], Some(&body))? {
        return Ok(());
    }
    let mut certificate = client.create_certificate(&project, &body).await?;
    if args.wait {
        let id = certificate.id;
        app.output.say(&format!("Certificate {id} is requested; waiting until it is issued."))?;
        let look = async || wait::newest::certificate(&client, &project, id).await;
        (certificate, _) = wait::until(app, &format!("certificate {id}"), look, wait::requested).await?;
    }
    app.output.show(&certificate, app.clock.now())
}
