// SPDX-License-Identifier: Apache-2.0
//! MongoDB's own failpoint for commands: a member refuses some, loses their answers, or holds them up.

use anyhow::Context as _;
use bson::{Bson, Document, doc};

use super::ReplicaSet;

/// What the failpoint is called.
const NAME: &str = "failCommand";

impl ReplicaSet {
    /// Has a member fail so many commands as `data` says: `failCommands`, and what happens to them. Answers how many it
    /// had failed before.
    ///
    /// # Errors
    /// When there is no such member, or it refuses.
    pub async fn fail_commands(&self, index: usize, times: i32, data: Document) -> anyhow::Result<usize> {
        self.set_fail_point(index, doc! { "times": times }, data).await
    }

    /// Has a member fail no more commands. Answers how many it had failed.
    ///
    /// # Errors
    /// When there is no such member, or it refuses.
    pub async fn fail_no_commands(&self, index: usize) -> anyhow::Result<usize> {
        self.set_fail_point(index, "off", doc! {}).await
    }

    /// How many commands a member has failed since it was started, or began to.
    ///
    /// # Errors
    /// When there is no such member, or it refuses.
    pub async fn failed_commands(&self, index: usize) -> anyhow::Result<usize> {
        let name = format!("failpoint.{NAME}");
        let answer = self.command(index, doc! { "getParameter": 1, &name: 1 }).await?;
        number(answer.get_document(&name)?, "timesEntered")
    }

    async fn set_fail_point(
        &self,
        index: usize,
        mode: impl Into<Bson>,
        data: Document,
    ) -> anyhow::Result<usize> {
        let command = doc! { "configureFailPoint": NAME, "mode": mode.into(), "data": data };
        number(&self.command(index, command).await?, "count")
    }
}

fn number(answer: &Document, field: &str) -> anyhow::Result<usize> {
    let found = answer.get_i64(field).or_else(|_| answer.get_i32(field).map(i64::from));
    Ok(usize::try_from(found.with_context(|| format!("{NAME}: no {field} in {answer}"))?)?)
}
