// SPDX-License-Identifier: Apache-2.0
//! Real schedulers for the benches.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use cap_testkit::process::{Binaries, Launch, Service, reserve_one, series};

use super::ground::{Ground, World};
use crate::workspace;

/// From start to ready.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(60);
/// Renewals that a scheduler queued.
const PLANNED: &str = "certautopilot_renewals_planned_total";

/// Starts a scheduler on this database, and waits until it is ready.
pub(crate) async fn start(
    ground: &Ground,
    world: &World,
    name: &str,
    lease: Option<Duration>,
) -> anyhow::Result<Service> {
    let port = reserve_one()?;
    let address = format!("127.0.0.1:{}", port.port());
    let mut env = BTreeMap::from([
        ("CAP_MONGO_URI".to_owned(), world.uri.clone()),
        ("CAP_KEK_DIR".to_owned(), world.kek_dir.display().to_string()),
        ("CAP_ADMIN_LISTEN".to_owned(), address.clone()),
        ("CAP_INSTANCE_NAME".to_owned(), name.to_owned()),
        ("CAP_LOG_FORMAT".to_owned(), "json".to_owned()),
        ("CAP_SHUTDOWN_DELAY".to_owned(), "0s".to_owned()),
    ]);
    if let Some(lease) = lease {
        env.insert("CAP_SCHEDULER_LEASE".to_owned(), format!("{}s", lease.as_secs()));
    }
    let program = Binaries::in_folder(&workspace::bin_dir(true)?).path("certautopilot-scheduler")?;
    let ready = format!("http://{address}/readyz");
    let launch = Launch { name: name.to_owned(), program, args: Vec::new(), env, address };
    let service = Service::start(ground.launcher.clone(), launch, ready)?;
    service.wait_ready(READY_LIMIT).await?;
    Ok(service)
}

/// How many renewals a scheduler queued so far.
pub(crate) async fn planned(service: &Service) -> anyhow::Result<f64> {
    series(&service.metrics().await?, PLANNED).with_context(|| format!("no series {PLANNED}"))
}
