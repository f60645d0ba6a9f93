// SPDX-License-Identifier: Apache-2.0
//! Where secrets are kept: what is sealed for one slot opens in no other.

use crate::envelope::KeyOwner;
use crate::id::{IssuerId, OrderId, ProjectId, VersionId};

/// The format of every record with a secret in it so far.
const FORMAT: u32 = 1;

/// A field of a record, whose value is a secret of its owner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Whose record.
    pub owner: KeyOwner,
    /// The collection that it is in.
    pub collection: &'static str,
    /// Its id.
    pub record: String,
    /// The field.
    pub field: &'static str,
    /// The version of the record's format.
    pub format: u32,
}

impl Slot {
    /// The key of an issuer's account, the next one as well: it is sealed for the place that it will have.
    #[must_use]
    pub fn account_key(project: ProjectId, issuer: IssuerId) -> Self {
        Self::of(project, "issuers", issuer.to_string(), "account_key")
    }

    /// The key that a CA handed out for an external account.
    #[must_use]
    pub fn eab_hmac_key(project: ProjectId, issuer: IssuerId) -> Self {
        Self::of(project, "issuers", issuer.to_string(), "eab_hmac_key")
    }

    /// The leaf key of an order.
    #[must_use]
    pub fn order_key(project: ProjectId, order: OrderId) -> Self {
        Self::of(project, "orders", order.to_string(), "key")
    }

    /// The leaf key of a certificate's version.
    #[must_use]
    pub fn version_key(project: ProjectId, version: VersionId) -> Self {
        Self::of(project, "certificate_versions", version.to_string(), "key")
    }

    fn of(project: ProjectId, collection: &'static str, record: String, field: &'static str) -> Self {
        Self { owner: KeyOwner::Project(project), collection, record, field, format: FORMAT }
    }
}
