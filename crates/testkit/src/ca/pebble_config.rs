// SPDX-License-Identifier: Apache-2.0
//! How Pebble is set up.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use super::pki::Identity;

/// 90 days.
const DEFAULT_VALIDITY_SECONDS: u64 = 90 * 24 * 3_600;
/// 160 hours, as Let's Encrypt's `shortlived`.
const SHORTLIVED_VALIDITY_SECONDS: u64 = 160 * 3_600;
/// Short enough to watch a renewal.
const SECONDS_VALIDITY_SECONDS: u64 = 60;

/// A certificate profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What an order calls it.
    pub name: String,
    /// How long its certificates live.
    pub validity_seconds: u64,
}

impl Profile {
    /// `default`, 90 days.
    #[must_use]
    pub fn default_90d() -> Self {
        Self { name: "default".into(), validity_seconds: DEFAULT_VALIDITY_SECONDS }
    }

    /// `shortlived`, 160 hours.
    #[must_use]
    pub fn shortlived() -> Self {
        Self { name: "shortlived".into(), validity_seconds: SHORTLIVED_VALIDITY_SECONDS }
    }

    /// `seconds`, 60 seconds: a renewal that can be watched.
    #[must_use]
    pub fn seconds() -> Self {
        Self { name: "seconds".into(), validity_seconds: SECONDS_VALIDITY_SECONDS }
    }
}

/// How Pebble behaves.
#[derive(Clone, Debug)]
pub struct PebbleOptions {
    /// The addresses at which HTTP-01 will be answered: its port is chosen free on each of them.
    pub challenge_addresses: Vec<Ipv4Addr>,
    /// How many good nonces of a hundred are refused.
    pub bad_nonce_percent: u8,
    /// How often, of a hundred, a valid authorization is used again (0 still reuses one of a hundred).
    pub authz_reuse_percent: u8,
    /// What an order may ask for. **An order that asks for none gets any of them, by lot**: Pebble wants clients to
    /// be ready for that. Where a test counts certificates or looks at their life, keep one profile, or ask for one.
    pub profiles: Vec<Profile>,
    /// The external accounts that registrations must be bound to, by what they are called: the key of each, base64url. With
    /// none, no binding is asked for.
    pub external_accounts: BTreeMap<String, String>,
    /// More of Pebble's environment, such as `PEBBLE_ALTERNATE_ROOTS`.
    pub env: BTreeMap<String, String>,
}

impl Default for PebbleOptions {
    fn default() -> Self {
        Self {
            challenge_addresses: vec![
                Ipv4Addr::new(127, 0, 0, 1),
                Ipv4Addr::new(127, 0, 0, 2),
                Ipv4Addr::new(127, 0, 0, 3),
            ],
            bad_nonce_percent: 0,
            authz_reuse_percent: 0,
            profiles: vec![Profile::default_90d()],
            external_accounts: BTreeMap::new(),
            env: BTreeMap::new(),
        }
    }
}

impl PebbleOptions {
    /// With all three profiles: for people, who say which they want.
    #[must_use]
    pub fn with_every_profile() -> Self {
        let profiles = vec![Profile::default_90d(), Profile::shortlived(), Profile::seconds()];
        Self { profiles, ..Self::default() }
    }

    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.insert("PEBBLE_VA_NOSLEEP".into(), "1".into());
        env.insert("PEBBLE_WFE_NONCEREJECT".into(), self.bad_nonce_percent.to_string());
        env.insert("PEBBLE_AUTHZREUSE".into(), self.authz_reuse_percent.to_string());
        env
    }

    /// Pebble's configuration file.
    pub(super) fn configuration(&self, ports: &Ports, identity: &Identity) -> Value {
        let profiles: BTreeMap<&str, Value> = self
            .profiles
            .iter()
            .map(|profile| {
                let description = format!("{} s", profile.validity_seconds);
                (
                    profile.name.as_str(),
                    json!({ "description": description, "validityPeriod": profile.validity_seconds }),
                )
            })
            .collect();
        let path = |path: &Path| path.display().to_string();
        json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.acme),
            "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": path(&identity.certificate),
            "privateKey": path(&identity.key),
            "httpPort": ports.http,
            "tlsPort": ports.tls,
            "externalAccountBindingRequired": !self.external_accounts.is_empty(),
            "externalAccountMACKeys": self.external_accounts,
            "keyAlgorithm": "ecdsa",
            // Zero sends no Retry-After at all.
            "retryAfter": { "authz": 0, "order": 0 },
            "profiles": profiles,
            // For Pebble 2.4, which knows no profiles and would issue for five years; not looked at where there are some.
            "certificateValidityPeriod": self.profiles.first().map(|profile| profile.validity_seconds),
        }})
    }
}

/// Where Pebble listens, and where it looks for challenges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) acme: u16,
    pub(super) management: u16,
    pub(super) http: u16,
    pub(super) tls: u16,
}
