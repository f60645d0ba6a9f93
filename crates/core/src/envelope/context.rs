// SPDX-License-Identifier: Apache-2.0
//! Associated data: what a ciphertext is bound to, so that it opens nowhere else.

use crate::envelope::{KeyOwner, Slot};
use crate::id::ClusterId;

/// The place of a sealed field.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Whose record.
    pub owner: KeyOwner,
    /// The collection that the record is in.
    pub collection: &'a str,
    /// The record's id.
    pub record: &'a str,
    /// The sealed field.
    pub field: &'a str,
    /// The version of the record's format.
    pub format: u32,
}

impl<'a> Context<'a> {
    /// Of a slot in this cluster.
    #[must_use]
    pub fn of(cluster: ClusterId, slot: &'a Slot) -> Self {
        let Slot { owner, collection, record, field, format } = slot;
        Self { cluster, owner: *owner, collection, record, field, format: *format }
    }

    /// The associated data: every part behind its length (u32, big endian), so that no two places share an encoding.
    #[must_use]
    pub fn associated_data(&self) -> Vec<u8> {
        let (cluster, owner, format) =
            (self.cluster.to_string(), self.owner.to_string(), self.format.to_string());
        let parts = ["cap/v1", &cluster, &owner, self.collection, self.record, self.field, &format];
        let mut data = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
        for part in parts {
            data.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            data.extend_from_slice(part.as_bytes());
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_places_never_share_associated_data(a in ["[a-z_/]{0,6}", "[a-z_/]{0,6}", "[a-z_/]{0,6}"], b in ["[a-z_/]{0,6}", "[a-z_/]{0,6}", "[a-z_/]{0,6}"]) {
            let cluster = "cls_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b".parse().unwrap();
            let data = |x: &[String; 3]| Context {
                cluster, owner: KeyOwner::Cluster, collection: &x[0], record: &x[1], field: &x[2], format: 1,
            }.associated_data();
            prop_assert_eq!(a == b, data(&a) == data(&b));
        }
    }
}
