// SPDX-License-Identifier: Apache-2.0
//! The database's clock, for who has to go by it between two requests.

use bson::doc;
use jiff::Timestamp;

use crate::document::time;
use crate::error::StoreError;
use crate::{Store, bounded};

impl Store {
    /// What the primary's clock says.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn database_time(&self) -> Result<Timestamp, StoreError> {
        const DOING: &str = "ask for the database's time";
        let hello = bounded(DOING, self.database.run_command(doc! { "hello": 1 })).await?;
        let said = hello.get_datetime("localTime");
        said.map(|said| time(*said))
            .map_err(|error| StoreError::Unavailable { doing: DOING, cause: error.to_string() })
    }
}
