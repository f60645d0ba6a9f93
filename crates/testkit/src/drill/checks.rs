// SPDX-License-Identifier: Apache-2.0
//! What must hold after every drill, whatever its fault was.
//!
//! Duplicates are counted at the CA proxy, by name set, and not in our database.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bson::{Document, doc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::load::Report;
use super::{Figures, World, pem, secrets, usage};
use crate::stack::{Answer, ApiClient};
use crate::wait::{self, Pending};

/// How long work may take that a fault interrupted, once the fault is over.
const UNFINISHED_MAX: Duration = Duration::from_secs(300);
const OK: u16 = 200;
/// The API's largest page.
const PAGE: u32 = 500;
/// Reads that are under way at once.
const READERS: usize = 8;
/// One read: the system is well again.
const READ_MAX: Duration = Duration::from_secs(60);
/// The most memory that one process may ever hold: several times of what it needs under the load.
const MEMORY_MAX_MIB: f64 = 128.0;
/// The most descriptors that one process may hold: a full pool to each of three members, and its listeners' clients.
const DESCRIPTORS_MAX: usize = 256;

/// Adds what must hold after every drill. Ends only when no job is unfinished, or after five minutes.
///
/// # Errors
/// When a question cannot be answered.
pub async fn aftermath(world: &World, load: &Report, figures: &mut Figures) -> anyhow::Result<()> {
    aftermath_within(UNFINISHED_MAX, world, load, figures).await
}

/// [`aftermath`] with another patience for jobs that are unfinished.
///
/// # Errors
/// As [`aftermath`].
pub async fn aftermath_within(
    unfinished_max: Duration,
    world: &World,
    load: &Report,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    figures.count("writes acknowledged", load.acknowledged.len());
    figures.none("unfinished jobs", unfinished(world, unfinished_max).await?);
    let keys = certificates(world, figures).await?;
    let lost = lost(&world.api()?, &load.acknowledged).await?;
    figures.none("acknowledged writes lost", lost.len());
    figures.none("acknowledged writes not read back", load.missing.len());
    let (mut memory, mut descriptors) = (0.0_f64, 0);
    for service in world.services() {
        let used = usage::of(service)?;
        (memory, descriptors) = (memory.max(used.peak_mib), descriptors.max(used.descriptors));
    }
    figures.add("peak memory of a process", memory.round(), "MiB", Some(MEMORY_MAX_MIB));
    figures.count_at_most("descriptors of a process", descriptors, DESCRIPTORS_MAX);
    secrets::look(world, keys, figures).await
}

/// Waits until every job is over; answers how many are not.
async fn unfinished(world: &World, limit: Duration) -> anyhow::Result<usize> {
    let jobs = world.collection("jobs");
    let count = || async { jobs.count_documents(doc! { "state": { "$in": ["queued", "running"] } }).await };
    let waited = wait::until("every job to be over", limit, || async {
        match count().await.map_err(Pending::not_yet)? {
            0 => Ok(()),
            left => Err(Pending::not_yet(left)),
        }
    });
    if waited.await.is_ok() { Ok(0) } else { Ok(usize::try_from(count().await?)?) }
}

/// As many certificates as were asked for: at the CA, in the database, and as jobs; none with another's key. Answers their
/// keys in PEM.
async fn certificates(world: &World, figures: &mut Figures) -> anyhow::Result<Vec<String>> {
    let at_ca = world.stack.ca().counts().await?;
    let versions = stored_versions(world).await?;
    let done = doc! { "work.kind": "issue", "state": "succeeded" };
    let done = usize::try_from(world.collection("jobs").count_documents(done).await?)?;
    let stored: usize = versions.values().map(|of| of.numbers.len()).sum();
    let finalized = usize::try_from(at_ca.totals.finalized)?;
    figures.count("certificates", stored);
    figures.none("certificates at the CA, off those stored", finalized.abs_diff(stored));
    figures.none("jobs that succeeded, off certificates stored", done.abs_diff(stored));
    let (mut doubled, mut misnumbered) = (0, 0);
    for of in versions.values() {
        let names: Vec<&str> = of.names.iter().map(String::as_str).collect();
        let bought = usize::try_from(at_ca.of(&names).finalized)?;
        doubled += bought.saturating_sub(of.numbers.len());
        // From 1, without a hole: each renewal led to one version.
        misnumbered += usize::from(!(1..).zip(&of.numbers).all(|(want, number)| want == *number));
    }
    figures.none("certificates bought twice", doubled);
    figures.none("certificates with a missing or doubled version", misnumbered);
    let api = world.api()?;
    let pairs = stream::iter(versions.keys().map(|certificate| {
        let path = world.path(&format!("certificates/{certificate}/download?format="));
        key_of(&api, path)
    }));
    let pairs: Vec<(String, bool)> = pairs.buffer_unordered(READERS).try_collect().await?;
    let foreign = pairs.iter().filter(|(_, is_its_own)| !is_its_own).count();
    figures.none("certificates with another's key", foreign);
    Ok(pairs.into_iter().map(|(key, _)| key).collect())
}

/// What is stored of one certificate.
struct Versions {
    names: Vec<String>,
    numbers: Vec<i64>,
}

async fn stored_versions(world: &World) -> anyhow::Result<BTreeMap<String, Versions>> {
    let versions = world.collection("certificate_versions");
    let sorted = versions.find(doc! {}).sort(doc! { "certificate": 1, "number": 1 });
    let sorted = sorted.projection(doc! { "certificate": 1, "number": 1 }).await?;
    let documents: Vec<Document> = sorted.try_collect().await?;
    let mut numbers: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for version in &documents {
        let certificate = version.get_str("certificate")?.to_owned();
        numbers.entry(certificate).or_default().push(version.get_i64("number")?);
    }
    let mut found = BTreeMap::new();
    for (id, names) in listed(world).await? {
        if let Some(numbers) = numbers.remove(&id) {
            found.insert(id, Versions { names, numbers });
        }
    }
    ensure!(numbers.is_empty(), "there are versions of no certificate that is listed: {numbers:?}");
    Ok(found)
}

/// Id and names of each certificate, as the API lists them.
async fn listed(world: &World) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let (api, mut found, mut cursor) = (world.api()?, Vec::new(), String::new());
    loop {
        let page = read(&api, &world.path(&format!("certificates?limit={PAGE}{cursor}"))).await?.json();
        let items = page["items"].as_array().context("a list has `items`")?;
        for item in items {
            let names = item["names"].as_array().context("a certificate has `names`")?;
            let names = names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
            found.push((item["id"].as_str().context("a certificate has an `id`")?.to_owned(), names));
        }
        // Ends: a page that is followed by another is not empty.
        match page["next_cursor"].as_str() {
            Some(next) if !items.is_empty() => cursor = format!("&cursor={next}"),
            _ => return Ok(found),
        }
    }
}

/// The key that is stored with a certificate, and whether it is the certificate's.
async fn key_of(api: &ApiClient, path: String) -> anyhow::Result<(String, bool)> {
    let (leaf, key) = (read(api, &format!("{path}leaf")).await?, read(api, &format!("{path}key")).await?);
    ensure!(leaf.status == OK && key.status == OK, "{path}: {} and {}", leaf.text, key.status);
    let is_its_own = pem::belong_together(&leaf.text, &key.text).with_context(|| path)?;
    Ok((key.text, is_its_own))
}

/// Those of what was acknowledged that are not there any more.
async fn lost(api: &ApiClient, acknowledged: &[String]) -> anyhow::Result<Vec<String>> {
    let looks = acknowledged.iter().map(|path| async move {
        let is_lost = read(api, path).await?.status != OK;
        anyhow::Ok(is_lost.then(|| path.clone()))
    });
    let found: Vec<Option<String>> = stream::iter(looks).buffer_unordered(READERS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// What the API says about this, once it says anything: a refusal that passes is no answer.
async fn read(api: &ApiClient, path: &str) -> anyhow::Result<Answer> {
    wait::until(&format!("GET {path} to be answered"), READ_MAX, || async {
        let answer = api.call("GET", path, None, None).await.map_err(Pending::not_yet)?;
        if answer.may_pass() { Err(Pending::not_yet(answer.text)) } else { Ok(answer) }
    })
    .await
}
