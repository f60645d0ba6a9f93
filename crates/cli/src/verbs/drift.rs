// SPDX-License-Identifier: Apache-2.0
//! `drift scan|list`: whether what certificates' names serve is their current version.

mod scan;

use cap_client::DriftQuery;
use cap_client::wire::Certificate;
use cap_core::drift::{DriftState, Sighting};
use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;

use crate::app::{App, every};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::text::{distance, instant};
use crate::output::{NAME_COLUMNS, Shown, first_name};
use crate::parse;

/// What is done about drift.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Look now at what the names of a certificate serve
    Scan(scan::Args),
    /// Every certificate of the project that was scanned
    List {
        /// Only those in this state
        #[arg(long, value_parser = parse::word::<DriftState>(parse::DRIFT_STATES))]
        state: Option<DriftState>,
        /// End with 3 when a certificate has drifted
        #[arg(long, conflicts_with = "state")]
        check: bool,
    },
}

/// A certificate, as far as its drift is concerned.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Drifting(Certificate);

pub(super) async fn run(verb: Verb, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    match verb {
        Verb::Scan(args) => scan::run(app, &client, &project, args).await,
        Verb::List { state, check } => {
            let page = async |page| {
                let found = client.drift(&project, &DriftQuery { page, state }).await?;
                Ok(found.map(Drifting))
            };
            let all = every(page).await?;
            let has = |state| move |found: &&Drifting| state_of(found) == Some(state);
            let drifted = all.items.iter().filter(has(DriftState::Drifted)).count();
            let listed = app.list(&all);
            if !check || drifted == 0 {
                return listed;
            }
            let why = format!("{drifted} serve another certificate than the current version");
            Err(Failure::new(Exit::CheckFailed, "certificates have drifted", why)
                .hint("have their servers load the current version; `certautopilot cert describe` shows what they serve"))
        }
    }
}

fn state_of(found: &Drifting) -> Option<DriftState> {
    found.0.drift.as_ref()?.state
}

/// What is wrong at a name, or where it is served.
pub(crate) fn seen(sighting: &Sighting, now: Timestamp) -> String {
    let mut text = format!("{}: {}", sighting.name, sighting.state.as_str());
    if let Some(address) = &sighting.address {
        text.push_str(&format!(" at {address}"));
    }
    if let Some(detail) = &sighting.detail {
        text.push_str(&format!(": {detail}"));
    }
    if let (Some(serial), cap_core::drift::SightingState::Drifted) = (&sighting.serial, sighting.state) {
        let ends = sighting.not_after.map(|at| format!(", ends {}", distance(at, now))).unwrap_or_default();
        let issuer = sighting.issuer.as_deref().map(|by| format!(" of {by}")).unwrap_or_default();
        text.push_str(&format!(": serial {serial}{issuer}{ends}"));
    }
    text
}

impl Shown for Drifting {
    const HEAD: &'static [&'static str] = &["NAMES", "DRIFT", "SCANNED", "WHAT", "ID"];

    fn id(&self) -> String {
        self.0.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let dash = || "-".to_owned();
        let state = state_of(self);
        let drift = self.0.drift.as_ref();
        let wrong = drift.into_iter().flat_map(|drift| &drift.names).find(|sighting| {
            state
                .is_some_and(|state| state.as_str() == sighting.state.as_str() && state != DriftState::Served)
        });
        vec![
            first_name(&self.0, usize::MAX),
            state.map_or_else(dash, |state| state.as_str().to_owned()),
            drift.and_then(|drift| drift.scanned_at).map_or_else(dash, instant),
            wrong.map_or_else(dash, |sighting| seen(sighting, now)),
            self.id(),
        ]
    }

    fn narrow_cells(&self, now: Timestamp) -> Vec<String> {
        let mut cells = self.cells(now);
        cells[0] = first_name(&self.0, NAME_COLUMNS);
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::shown_tests::certificate;

    fn drifting(state: &str, name: serde_json::Value) -> Drifting {
        let mut certificate = certificate();
        certificate.drift = serde_json::from_value(serde_json::json!({
            "host": null, "port": null, "state": state, "version": null,
            "scanned_at": "2026-01-31T23:00:00Z", "names": [name],
        }))
        .unwrap();
        Drifting(certificate)
    }

    fn sighting(state: &str) -> serde_json::Value {
        serde_json::json!({
            "name": "www.example.com", "state": state, "address": "192.0.2.7:443", "serial": "0a0b",
            "fingerprint_sha256": "ff", "not_after": "2026-02-02T00:00:00Z", "issuer": "CN=Other", "detail": null,
        })
    }

    #[test]
    fn what_drifted_shows_what_is_served_instead() {
        let now = "2026-02-01T00:00:00Z".parse().unwrap();
        let cells = drifting("drifted", sighting("drifted")).cells(now);
        assert_eq!(cells.len(), Drifting::HEAD.len());
        assert_eq!((cells[1].as_str(), cells[2].as_str()), ("drifted", "2026-01-31T23:00:00Z"));
        let what = "www.example.com: drifted at 192.0.2.7:443: serial 0a0b of CN=Other, ends in 1 d";
        assert_eq!(cells[3], what);
        assert_eq!(drifting("served", sighting("served")).cells(now)[3], "-");
    }
}
