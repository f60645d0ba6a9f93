// SPDX-License-Identifier: Apache-2.0
//! Prints a page of docs/reference/, for `cargo xtask codegen`: `problems`, `audit-events`, `metrics` or
//! `order-states`.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use cap_acme::Acme;
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_core::id::IssuerId;
use cap_core::issuer::IssuerSpec;
use cap_core::order::{CaRequest, CertificateAuthority};
use cap_runtime::Role;
use cap_runtime::clock::SystemClock;
use cap_runtime::entropy::OsEntropy;
use cap_runtime::metrics::{Metrics, Section, reference_markdown};
use prometheus::Registry;

fn main() -> Result<(), Box<dyn Error>> {
    let page = match std::env::args().nth(1).as_deref() {
        Some("problems") => cap_api::reference_markdown(),
        Some("audit-events") => cap_core::audit::reference_markdown(),
        Some("metrics") => metrics()?,
        Some("order-states") => cap_core::order::order_states_markdown(),
        _ => return Err("name a page: problems, audit-events, metrics or order-states".into()),
    };
    Ok(std::io::stdout().write_all(page.as_bytes())?)
}

/// The registries as the services fill them, each with one series of every metric.
fn metrics() -> Result<String, Box<dyn Error>> {
    let every = Metrics::new(Role::Api)?;
    let (api, worker, scheduler) = (Registry::new(), Registry::new(), Registry::new());
    cap_api::Metrics::new(&api)?.show_all();
    cap_worker::Metrics::new(&worker)?;
    meet_a_ca(&worker)?;
    cap_scheduler::Metrics::new(&scheduler, Arc::new(SystemClock))?.show_all();
    let section = |title, registry| Section { title, registry };
    Ok(reference_markdown(&[
        section("Every process", every.registry()),
        section("certautopilot-api", &api),
        section("certautopilot-worker", &worker),
        section("certautopilot-scheduler", &scheduler),
    ]))
}

/// The series of a CA begin when it is first needed. This one cannot be asked anything: the account's key is none.
fn meet_a_ca(registry: &Registry) -> Result<(), Box<dyn Error>> {
    let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(OsEntropy));
    let request = CaRequest {
        issuer: IssuerId::generate(clock.as_ref(), entropy.as_ref()),
        spec: IssuerSpec::new("https://ca.invalid/directory".parse()?, None, Vec::new())?,
        account_key: Arc::new(Vec::new().into()),
        external: None,
    };
    let ca = Acme::new(clock, Duration::from_secs(1), registry)?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match tokio.block_on(ca.register(&request)) {
        Ok(_) => Err("an account was registered without a key".into()),
        Err(_) => Ok(()),
    }
}
