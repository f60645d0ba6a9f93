// SPDX-License-Identifier: Apache-2.0
//! Whether a private key is in clear in what the drill left behind: the database's files, its journals and the oplog among
//! them, and every log. Our processes leave no cores.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use bson::doc;
use mongodb::options::{Acknowledgment, WriteConcern};

use super::world::PATIENCE;
use super::{Figures, World};
use crate::needles::Needles;
use crate::progress::say;

/// Written in clear where keys would be: a search that does not find it proves nothing.
const CANARY: &str = "canary-of-the-drill-7d0c55e1";
/// Where it is written; nothing of ours looks there.
const CANARIES: &str = "drill_canaries";
/// The folder of a member's journal, in that of its data.
const JOURNAL: &str = "journal";

/// Looks for these keys, and for whatever looks like one.
///
/// # Errors
/// When the canary cannot be written, or a file cannot be read.
pub(super) async fn look(world: &World, keys: Vec<String>, figures: &mut Figures) -> anyhow::Result<()> {
    let mut members = Vec::new();
    // A set that tests share has the files of hundreds of databases.
    if let Some(set) = &world.stack.infrastructure.replica_set {
        let canaries = world.collection(CANARIES);
        // On every member, not only on a majority: one that was cut off may still lag.
        let everywhere = Acknowledgment::Nodes(u32::try_from(set.len())?);
        let everywhere = WriteConcern::builder().w(everywhere).journal(true).w_timeout(PATIENCE).build();
        let canary = canaries.insert_one(doc! { "word": CANARY }).write_concern(everywhere);
        canary.await.context("writing the canary")?;
        set.checkpoint().await?;
        for member in 0..set.len() {
            members.push(set.data_dir(member)?.to_owned());
        }
    }
    let logs = world.stack.launcher().home().join("logs");
    let found = tokio::task::spawn_blocking(move || search(&keys, &members, logs)).await??;
    for secret in &found.secrets {
        say(format_args!("a private key in clear: {secret}"));
    }
    figures.none("private keys in files and logs", found.secrets.len());
    figures.none("files without the canary", found.bare);
    let dumping = world.services().map(|service| leaves_cores(service.pid()));
    let dumping: Vec<bool> = dumping.collect::<anyhow::Result<_>>()?;
    figures.none("processes that leave cores", dumping.into_iter().filter(|leaves| *leaves).count());
    Ok(())
}

struct Found {
    secrets: BTreeSet<String>,
    /// Data and journals in which the canary is not.
    bare: usize,
}

fn search(keys: &[String], members: &[PathBuf], logs: PathBuf) -> anyhow::Result<Found> {
    let (mut secrets, mut canary) = (Needles::private_keys()?, Needles::default());
    for (number, key) in keys.iter().enumerate() {
        secrets.add_key(&format!("key {number}"), key)?;
    }
    canary.add("the canary", CANARY)?;
    let mut found = Found { secrets: secrets.under(&logs)?, bare: 0 };
    for data in members {
        found.secrets.extend(secrets.under(data)?);
        let hits = canary.under(data)?;
        let journal = data.join(JOURNAL).display().to_string();
        let (journaled, stored): (Vec<_>, Vec<_>) = hits.iter().partition(|hit| hit.contains(&journal));
        found.bare += usize::from(journaled.is_empty()) + usize::from(stored.is_empty());
    }
    Ok(found)
}

/// Whether the kernel would write this process's memory to a file.
fn leaves_cores(pid: i32) -> anyhow::Result<bool> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let mut limits = line.context("no limit of core files")?.split_whitespace();
    Ok(limits.next() != Some("0") || limits.next() != Some("0"))
}
