// SPDX-License-Identifier: Apache-2.0
//! What of ours has no index: the database's profiler notes each command of our processes that looked through a whole
//! collection or sorted in memory. What tests ask past the store is none of it.

use std::time::Duration;

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};

/// What our services, and the store in its own tests, call themselves. The command line is left out: a migration looks
/// through what it changes.
const APPLICATIONS: &str = "^(certautopilot-|test$)";
/// What our services call themselves.
const SERVICES: &str = "^certautopilot-";
/// A local server answers within milliseconds; one that is gone is not waited for.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Characters of a command that are shown.
const SHOWN_CHARS: usize = 600;

/// Has the database of this connection string note such commands from now on.
///
/// # Errors
/// When it does not answer.
pub async fn note_scans(uri: &str) -> anyhow::Result<()> {
    let noted = doc! {
        "appName": { "$regex": APPLICATIONS },
        // Whatever goes on in batches was noted at its beginning.
        "op": { "$ne": "getmore" },
        "$or": [{ "planSummary": { "$regex": "COLLSCAN" } }, { "hasSortStage": true }],
    };
    let client = client(uri).await?;
    let database = default_database(&client)?;
    let told = database.run_command(doc! { "profile": 1, "filter": noted }).await;
    client.shutdown().immediate(true).await;
    told.map(drop).map_err(Into::into)
}

/// What was noted in the database of this connection string, a line each.
///
/// # Errors
/// When it does not answer.
pub async fn scans(uri: &str) -> anyhow::Result<Vec<String>> {
    let client = client(uri).await?;
    let found = noted(&default_database(&client)?, APPLICATIONS).await;
    client.shutdown().immediate(true).await;
    found
}

/// Drops the database of this connection string: members with the files of hundreds of databases are slow.
///
/// # Errors
/// When it does not answer.
pub async fn drop_database(uri: &str) -> anyhow::Result<()> {
    let client = client(uri).await?;
    let dropped = default_database(&client)?.drop().await;
    client.shutdown().immediate(true).await;
    Ok(dropped?)
}

/// What our services asked in any database of the set behind this connection string. The store's own tests judge what they ask
/// themselves, since some of them migrate.
///
/// # Errors
/// When it does not answer.
pub async fn scans_anywhere(uri: &str) -> anyhow::Result<Vec<String>> {
    let client = client(uri).await?;
    let mut found = Vec::new();
    for name in client.list_database_names().await? {
        found.extend(noted(&client.database(&name), SERVICES).await?);
    }
    client.shutdown().immediate(true).await;
    Ok(found)
}

async fn client(uri: &str) -> anyhow::Result<Client> {
    let mut options = ClientOptions::parse(uri).await?;
    options.server_selection_timeout = Some(LOOK_LIMIT);
    options.max_pool_size = Some(1);
    Ok(Client::with_options(options)?)
}

fn default_database(client: &Client) -> anyhow::Result<Database> {
    client.default_database().ok_or_else(|| anyhow::anyhow!("the connection string names no database"))
}

async fn noted(database: &Database, applications: &str) -> anyhow::Result<Vec<String>> {
    let profile = database.collection::<Document>("system.profile");
    let theirs = doc! { "appName": { "$regex": applications } };
    let entries: Vec<Document> = profile.find(theirs).await?.try_collect().await?;
    Ok(entries.iter().filter(|entry| !is_expected(entry)).map(line).collect())
}

/// A stream of changes reads the oplog from where it was, and in no collection. What was only asked for by a test that
/// has the profiler note everything is no scan.
fn is_expected(entry: &Document) -> bool {
    let first = entry.get_document("command").ok().and_then(|command| command.get_array("pipeline").ok());
    let first = first.and_then(|stages| stages.first()).and_then(Bson::as_document);
    let is_stream = first.is_some_and(|stage| stage.contains_key("$changeStream"));
    let scanned = entry.get_str("planSummary").is_ok_and(|plan| plan.contains("COLLSCAN"));
    is_stream || !(scanned || entry.get_bool("hasSortStage").unwrap_or(false))
}

fn line(entry: &Document) -> String {
    let word = |key: &str| entry.get_str(key).unwrap_or("?");
    let command = entry.get_document("command").map(ToString::to_string).unwrap_or_default();
    let command: String = command.chars().take(SHOWN_CHARS).collect();
    format!("{} {} by {}: {}: {command}", word("op"), word("ns"), word("appName"), word("planSummary"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_changes_is_no_scan_and_all_else_is() {
        let stream = doc! {
            "planSummary": "COLLSCAN", "command": { "aggregate": "jobs", "pipeline": [{ "$changeStream": {} }] },
        };
        assert!(is_expected(&stream));
        let scan =
            doc! { "planSummary": "COLLSCAN", "command": { "find": "jobs", "filter": { "attempt": 1 } } };
        let sorted =
            doc! { "planSummary": "IXSCAN { p: 1 }", "hasSortStage": true, "command": { "find": "jobs" } };
        assert!(!is_expected(&scan) && !is_expected(&sorted));
        assert!(is_expected(&doc! { "planSummary": "IXSCAN { p: 1 }", "command": { "find": "jobs" } }));
    }
}
