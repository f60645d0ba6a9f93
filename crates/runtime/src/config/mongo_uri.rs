// SPDX-License-Identifier: Apache-2.0
//! What a MongoDB connection string says about hosts, TLS and the database. The driver reads the rest.

use std::net::IpAddr;

use super::mongo::database;

/// What we must know before anything connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MongoUri {
    /// Whether the connection is encrypted and the server is verified.
    pub(super) is_tls: bool,
    /// Whether every host is this one.
    pub(super) is_loopback: bool,
    /// The path.
    pub(super) database: Option<String>,
}

/// Parses; what it says against a URI never quotes it, for it may hold a password.
pub(super) fn parse(text: &str) -> Result<MongoUri, String> {
    let (is_srv, rest) = if let Some(rest) = text.strip_prefix("mongodb+srv://") {
        (true, rest)
    } else if let Some(rest) = text.strip_prefix("mongodb://") {
        (false, rest)
    } else {
        return Err("it starts with neither mongodb:// nor mongodb+srv://".to_owned());
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let path = path.strip_prefix('/').unwrap_or(path);
    if query.contains('@') || path.contains('@') {
        return Err(
            "an @ stands behind the hosts; percent-encode the special characters of the password".to_owned()
        );
    }
    let hosts = authority.rsplit_once('@').map_or(authority, |(_user, hosts)| hosts);
    if hosts.split(',').any(str::is_empty) {
        return Err("it names no host, or an empty one".to_owned());
    }
    let database = match path {
        "" => None,
        path => Some(database(path)?),
    };
    Ok(MongoUri {
        is_tls: is_tls(query, is_srv),
        is_loopback: !is_srv && hosts.split(',').all(is_loopback),
        database,
    })
}

/// TLS that does not verify the server hides nothing from who stands in the way: it counts as none.
fn is_tls(query: &str, by_default: bool) -> bool {
    let options = query.split('&').filter_map(|option| option.split_once('='));
    let mut on = by_default;
    for (name, value) in options {
        let is_true = value.eq_ignore_ascii_case("true");
        match name.to_ascii_lowercase().as_str() {
            "tls" | "ssl" => on = is_true,
            "tlsinsecure" | "tlsallowinvalidcertificates" if is_true => return false,
            _ => {}
        }
    }
    on
}

fn is_loopback(host: &str) -> bool {
    // A socket file: its slashes are percent-encoded.
    if host.to_ascii_lowercase().starts_with("%2f") {
        return true;
    }
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _port)) => address,
        None => host.split_once(':').map_or(host, |(name, _port)| name),
    };
    let is_loopback_address = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback_address || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_this_machine_are_told_from_others() {
        for (uri, local) in [
            ("mongodb://127.0.0.1:27017,localhost:1/?replicaSet=rs0", true),
            ("mongodb://user:p%40ss@[::1]:27017", true),
            ("mongodb://%2Ftmp%2Fmongodb.sock", true),
            ("mongodb://127.0.0.1,db.example.test", false),
            ("mongodb://localhost.example.test", false),
            ("mongodb://localhost@db.example.test", false),
            ("mongodb+srv://localhost", false),
        ] {
            assert_eq!(parse(uri).unwrap().is_loopback, local, "{uri}");
        }
    }

    #[test]
    fn only_verified_tls_counts() {
        for (uri, tls) in [
            ("mongodb://h/?tls=true", true),
            ("mongodb://h/?SSL=True", true),
            ("mongodb+srv://h", true),
            ("mongodb+srv://h/?tls=false", false),
            ("mongodb://h", false),
            ("mongodb://h/?tls=true&tlsInsecure=true", false),
            ("mongodb://h/?tlsAllowInvalidCertificates=true&tls=true", false),
            ("mongodb://h/?tls=true&tlsInsecure=false", true),
        ] {
            assert_eq!(parse(uri).unwrap().is_tls, tls, "{uri}");
        }
    }

    #[test]
    fn the_path_names_the_database() {
        assert_eq!(parse("mongodb://h/certs?tls=true").unwrap().database.as_deref(), Some("certs"));
        assert_eq!(parse("mongodb://h/?tls=true").unwrap().database, None);
        assert_eq!(parse("mongodb://h?tls=true").unwrap().database, None);
    }

    #[test]
    fn a_broken_uri_is_refused_without_being_quoted() {
        for uri in [
            "hunter2",
            "http://hunter2",
            "mongodb://",
            "mongodb://a,,b",
            "mongodb://user:hunter2/x@host",
            "mongodb://h/hunter2.x",
            "mongodb://h/admin",
        ] {
            let why = parse(uri).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
