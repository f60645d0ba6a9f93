// SPDX-License-Identifier: Apache-2.0
//! `cert update`.

use cap_client::wire::{DriftTarget, UpdateCertificate, UpdateKey};
use cap_core::certificate::KeyType;

use super::switch;
use crate::app::App;
use crate::failure::Failure;
use crate::{parse, resolve};

/// What `cert update` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id or one of its names
    certificate: String,
    #[command(flatten)]
    changes: Changes,
}

/// What is changed: one thing at least, and what is not named stays.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Renew it by itself, as `cert resume`
    #[arg(long)]
    auto_renew: bool,
    /// Do not renew it unasked, as `cert pause`
    #[arg(long, conflicts_with = "auto_renew")]
    no_auto_renew: bool,
    /// The algorithm of the keys of its next versions
    #[arg(long, value_parser = parse::word::<KeyType>(parse::KEY_TYPES))]
    key_type: Option<KeyType>,
    /// Keep its key at renewals
    #[arg(long)]
    reuse_key: bool,
    /// Make a new key at each renewal
    #[arg(long, conflicts_with = "reuse_key")]
    no_reuse_key: bool,
    /// The CA's profile
    #[arg(long)]
    profile: Option<String>,
    /// Take the CA's default profile
    #[arg(long, conflicts_with = "profile")]
    clear_profile: bool,
    /// The chain to take where the CA offers it, by the common name of the issuer of its topmost certificate
    #[arg(long, value_name = "NAME")]
    preferred_chain: Option<String>,
    /// Take the CA's default chain
    #[arg(long, conflicts_with = "preferred_chain")]
    clear_preferred_chain: bool,
    /// The host that serves it, a name or an address, where drift scans shall look; its own names where --drift-port is given
    /// alone
    #[arg(long, value_name = "HOST")]
    drift_host: Option<String>,
    /// The port that drift scans shall look at; the project's where --drift-host is given alone
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    drift_port: Option<u16>,
    /// Have drift scans look at its own names and the project's port
    #[arg(long, conflicts_with_all = ["drift_host", "drift_port"])]
    clear_drift: bool,
}

pub(super) async fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let body = args.changes.body();
    let (client, project) = app.client_and_project().await?;
    let id = resolve::certificate(&client, &project, &args.certificate).await?;
    if app.rehearse("PATCH", &["projects", &project, "certificates", &id.to_string()], Some(&body))? {
        return Ok(());
    }
    let changed = client.update_certificate(&project, id, &body).await?;
    app.output.show(&changed, app.clock.now())
}

impl Changes {
    fn body(self) -> UpdateCertificate {
        let key = UpdateKey { kind: self.key_type, reuse: switch(self.reuse_key, self.no_reuse_key) };
        let target = DriftTarget { host: self.drift_host, port: self.drift_port };
        let target = (target != DriftTarget::default()).then_some(target);
        UpdateCertificate {
            auto_renew: switch(self.auto_renew, self.no_auto_renew),
            key: (key != UpdateKey::default()).then_some(key),
            profile: set_or_clear(self.profile, self.clear_profile),
            preferred_chain: set_or_clear(self.preferred_chain, self.clear_preferred_chain),
            drift: set_or_clear(target, self.clear_drift),
        }
    }
}

fn set_or_clear<T>(value: Option<T>, clear: bool) -> Option<Option<T>> {
    if clear { Some(None) } else { value.map(Some) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use crate::args::{Cli, Verb};
    use crate::verbs::cert;

    fn body(flags: &str) -> Value {
        let line = format!("certautopilot cert update a.test {flags}");
        match Cli::try_parse_from(line.split_whitespace()).unwrap().verb {
            Some(Verb::Cert(cert::Verb::Update(args))) => serde_json::to_value(args.changes.body()).unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_is_named_is_changed_or_cleared_and_the_rest_stays() {
        for (flags, expected) in [
            ("--auto-renew", json!({ "auto_renew": true })),
            ("--no-auto-renew", json!({ "auto_renew": false })),
            ("--key-type rsa-2048", json!({ "key": { "type": "rsa-2048" } })),
            ("--reuse-key", json!({ "key": { "reuse": true } })),
            ("--no-reuse-key", json!({ "key": { "reuse": false } })),
            ("--profile short --preferred-chain X1", json!({ "profile": "short", "preferred_chain": "X1" })),
            ("--clear-profile --clear-preferred-chain", json!({ "profile": null, "preferred_chain": null })),
            ("--drift-host a.test", json!({ "drift": { "host": "a.test", "port": null } })),
            ("--drift-port 8443", json!({ "drift": { "host": null, "port": 8443 } })),
            ("--clear-drift", json!({ "drift": null })),
        ] {
            assert_eq!(body(flags), expected, "{flags}");
        }
    }
}
