// SPDX-License-Identifier: Apache-2.0
//! Where the database is.

use secrecy::{ExposeSecret, SecretString};

use super::mongo_uri::{self, MongoUri};
use super::{Config, Fault, Group};

/// Which database when nobody says.
const DATABASE: &str = "certautopilot";
/// Octets of a database's name (MongoDB's limit).
const DATABASE_OCTETS: usize = 63;

/// Where the database is.
#[derive(Debug, Clone)]
pub struct MongoConfig {
    /// The connection string.
    pub uri: SecretString,
    /// Which database: as configured, else the URI's path, else `certautopilot`.
    pub database: String,
    /// Whether the operator allowed MongoDB without TLS on another host.
    pub allow_plaintext: bool,
}

impl Group for MongoConfig {
    fn read(config: &mut Config) -> Option<Self> {
        let remedy = "write it like mongodb://host1,host2,host3/?replicaSet=rs0&tls=true";
        let parsed = config.parse("CAP_MONGO_URI", remedy, mongo_uri::parse);
        let named = config.parse("CAP_MONGO_DATABASE", "choose another name", database);
        let name_is_wrong = named.is_none() && config.is_given("CAP_MONGO_DATABASE");
        let allow_plaintext = config.bool("CAP_MONGO_ALLOW_PLAINTEXT");
        let parsed = parsed?;
        // What is neither true nor false allows nothing, and hides no fault of the URI.
        let uri = config.secret("CAP_MONGO_URI")?;
        if !parsed.names_a_set {
            let why = "it names no replica set, and a database that is none cannot be used";
            config.fault(Fault::new("CAP_MONGO_URI", why, "add replicaSet=NAME"));
        }
        let may_be_reached = may_be_reached(config, &parsed, allow_plaintext.unwrap_or(false));
        if name_is_wrong || !may_be_reached || !parsed.names_a_set {
            return None;
        }
        let database = named.or(parsed.database).unwrap_or_else(|| DATABASE.to_owned());
        debug_assert!(!uri.expose_secret().is_empty());
        Some(Self { uri, database, allow_plaintext: allow_plaintext? })
    }
}

/// Whether the operator accepts how the URI connects.
fn may_be_reached(config: &mut Config, uri: &MongoUri, allow_plaintext: bool) -> bool {
    if uri.is_tls || uri.is_loopback {
        return true;
    }
    if allow_plaintext {
        config.warn("MongoDB is used without TLS on another host, as CAP_MONGO_ALLOW_PLAINTEXT allows: whoever is on the way reads and changes everything");
        return true;
    }
    config.fault(Fault::new(
        "CAP_MONGO_URI",
        "it connects to another host without verified TLS",
        "add tls=true (and tlsCAFile=... for a private CA), or set CAP_MONGO_ALLOW_PLAINTEXT=true",
    ));
    false
}

/// A database name that every MongoDB takes.
pub(super) fn database(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > DATABASE_OCTETS {
        return Err("a database's name has 1 to 63 octets".to_owned());
    }
    if matches!(text, "admin" | "local" | "config") {
        return Err("that database is MongoDB's own".to_owned());
    }
    if text.contains(['/', '\\', '.', '"', '$', '*', '<', '>', ':', '|', '?', ' ', '\0']) {
        return Err("a database's name has none of / \\ . \" $ * < > : | ? and space".to_owned());
    }
    Ok(text.to_owned())
}
