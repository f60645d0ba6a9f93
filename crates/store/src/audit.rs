// SPDX-License-Identifier: Apache-2.0
//! The audit outbox: rows go in with the mutation that they are about.

use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use cap_core::audit::Row;

use crate::document::date;
use crate::error::StoreError;
use crate::fact::Fact;
use crate::{Store, bounded};

impl Fact {
    /// With `row` in the outbox.
    pub(crate) fn audited(self, row: &Row) -> Self {
        self.insert("audit_outbox", document(row))
    }
}

impl Store {
    /// Records something that changes nothing in the database, such as the export of a key, before it happens.
    ///
    /// # Errors
    /// When the row was not, or may not have been, written.
    pub async fn record(&self, row: &Row) -> Result<(), StoreError> {
        let outbox = self.collection::<Document>("audit_outbox");
        bounded("write an audit entry", outbox.insert_one(document(row))).await?;
        Ok(())
    }
}

fn document(row: &Row) -> Document {
    let binary = |bytes: &[u8]| Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() };
    doc! {
        "_id": row.event.to_string(),
        "time": date(row.time),
        "leaf": binary(&row.leaf),
        "mac_version": row.mac_version,
        "mac": binary(&row.mac),
    }
}
