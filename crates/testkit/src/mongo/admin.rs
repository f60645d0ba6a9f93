// SPDX-License-Identifier: Apache-2.0
//! Commands to one member, whatever its state, over a connection of their own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::{ClientOptions, ServerAddress};

use super::access::MongoUser;

/// A local server answers within milliseconds or is not well; a paused one never does.
const COMMAND_LIMIT_MS: u64 = 5_000;
const CONNECT_LIMIT_MS: u64 = 1_000;

/// Whom a command goes to, and as whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct To<'a> {
    pub(super) at: SocketAddr,
    pub(super) database: &'a str,
    pub(super) user: Option<&'a MongoUser>,
}

impl To<'_> {
    /// The `admin` database of the member at this address, as nobody.
    pub(super) fn member(at: SocketAddr) -> Self {
        Self { at, database: "admin", user: None }
    }
}

/// Runs a command.
pub(super) async fn run(to: To<'_>, command: Document) -> anyhow::Result<Document> {
    let at = to.at;
    let what = command.keys().next().cloned().unwrap_or_default();
    let address = ServerAddress::Tcp { host: at.ip().to_string(), port: Some(at.port()) };
    let options = ClientOptions::builder()
        .hosts(vec![address])
        .direct_connection(true)
        .connect_timeout(Duration::from_millis(CONNECT_LIMIT_MS))
        .server_selection_timeout(Duration::from_millis(CONNECT_LIMIT_MS))
        .max_pool_size(1)
        .credential(to.user.map(MongoUser::credential))
        .build();
    let client = Client::with_options(options)?;
    let answer = async { client.database(to.database).run_command(command).await };
    let answer = tokio::time::timeout(Duration::from_millis(COMMAND_LIMIT_MS), answer).await;
    client.shutdown().immediate(true).await;
    answer
        .with_context(|| format!("{what} took longer than {COMMAND_LIMIT_MS} ms at {at}"))?
        .with_context(|| format!("{what} at {at}"))
}

/// Writes to the primary of the set and waits until a majority has it: the set is whole enough to work.
pub(super) async fn write_with_majority(uri: &str, limit: Duration) -> anyhow::Result<()> {
    let mut options = ClientOptions::parse(uri).await?;
    options.server_selection_timeout = Some(limit);
    options.connect_timeout = Some(Duration::from_millis(CONNECT_LIMIT_MS));
    options.max_pool_size = Some(1);
    let client = Client::with_options(options)?;
    let limit_ms = i64::try_from(limit.as_millis())?;
    let write = doc! {
        "update": "readiness",
        "updates": [{ "q": { "_id": 1 }, "u": { "$inc": { "n": 1_i64 } }, "upsert": true }],
        "writeConcern": { "w": "majority", "wtimeout": limit_ms },
    };
    let answer = async { client.database("testkit").run_command(write).await };
    let answer = tokio::time::timeout(limit, answer).await;
    client.shutdown().immediate(true).await;
    let answer = answer.context("a majority write got no answer")??;
    anyhow::ensure!(answer.get("writeConcernError").is_none(), "no majority: {answer}");
    Ok(())
}
