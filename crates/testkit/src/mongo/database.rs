// SPDX-License-Identifier: Apache-2.0
//! One database a test: tests never see each other's data.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::ProcessId;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// An empty database with a name that nothing else uses.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    /// Its name.
    pub name: String,
    /// The connection string with it.
    pub uri: String,
}

impl TestDatabase {
    /// A new name in the set behind this connection string.
    pub(super) fn in_set(uri: &str) -> anyhow::Result<Self> {
        let me = ProcessId::current()?;
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{:x}_{:x}_{n}", me.started, me.pid);
        Ok(Self { uri: with_database(uri, &name), name })
    }
}

/// Puts the database into a connection string that has none, or another.
fn with_database(uri: &str, name: &str) -> String {
    let (base, options) = uri.split_once('?').map_or((uri, None), |(base, options)| (base, Some(options)));
    let hosts_start = base.find("://").map_or(0, |at| at + 3);
    let hosts_end = base[hosts_start..].find('/').map_or(base.len(), |at| hosts_start + at);
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    format!("{}/{name}{options}", &base[..hosts_end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_goes_between_hosts_and_options() {
        let want = "mongodb://a:1,b:2/t?replicaSet=rs0";
        for uri in [
            "mongodb://a:1,b:2/?replicaSet=rs0",
            "mongodb://a:1,b:2/old?replicaSet=rs0",
            "mongodb://a:1,b:2?replicaSet=rs0",
        ] {
            assert_eq!(with_database(uri, "t"), want);
        }
        assert_eq!(with_database("mongodb://a:1", "t"), "mongodb://a:1/t");
    }

    #[test]
    fn names_never_repeat() {
        let a = TestDatabase::in_set("mongodb://a").unwrap();
        let b = TestDatabase::in_set("mongodb://a").unwrap();
        assert_ne!(a.name, b.name);
    }
}
