// SPDX-License-Identifier: Apache-2.0
//! Between values and BSON.

use bson::{Bson, DateTime, Document, RawDocument, doc};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;

/// A time as BSON has it: milliseconds.
pub(crate) fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millisecond())
}

/// A BSON time as a time.
pub(crate) fn time(date: DateTime) -> Timestamp {
    Timestamp::from_millisecond(date.timestamp_millis()).unwrap_or(Timestamp::MAX)
}

/// Any serialisable value as BSON.
pub(crate) fn bson<T: Serialize>(collection: &'static str, value: &T) -> Result<Bson, StoreError> {
    bson::serialize_to_bson(value).map_err(|error| StoreError::Corrupt {
        collection,
        cause: format!("a value does not serialise: {error}"),
    })
}

/// Any serialisable record as a document.
pub(crate) fn document<T: Serialize>(collection: &'static str, record: &T) -> Result<Document, StoreError> {
    bson::serialize_to_document(record).map_err(|error| StoreError::Corrupt {
        collection,
        cause: format!("a record does not serialise: {error}"),
    })
}

/// A document as the value that it holds.
pub(crate) fn read<T: DeserializeOwned>(
    collection: &'static str,
    document: Document,
) -> Result<T, StoreError> {
    let id = document.get("_id").map(ToString::to_string).unwrap_or_default();
    bson::deserialize_from_document(document)
        .map_err(|error| StoreError::Corrupt { collection, cause: format!("{id}: {error}") })
}

/// The same of one that is still as the database sent it.
pub(crate) fn read_raw<T: DeserializeOwned>(
    collection: &'static str,
    document: &RawDocument,
) -> Result<T, StoreError> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| {
        let id = document.get_str("_id").unwrap_or_default();
        StoreError::Corrupt { collection, cause: format!("{id}: {error}") }
    })
}

/// An expression: the database's own time, later by `by`.
pub(crate) fn database_now_plus(by: std::time::Duration) -> Document {
    doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "millisecond", "amount": millis(by) } }
}

/// A duration as documents have it.
pub(crate) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Times in documents: BSON dates, to the millisecond.
pub(crate) mod as_date {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        super::date(*time).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        bson::DateTime::deserialize(deserializer).map(super::time)
    }
}

/// Optional times in documents.
pub(crate) mod as_date_option {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(super::date).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<bson::DateTime>::deserialize(deserializer)?.map(super::time))
    }
}
