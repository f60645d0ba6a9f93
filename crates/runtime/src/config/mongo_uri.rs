// SPDX-License-Identifier: Apache-2.0
//! What a MongoDB connection string says about hosts, TLS and the database. The driver reads the rest.

use std::net::IpAddr;

use super::mongo::database;

/// The options that the driver takes, in lower case; it refuses others, but only once it is started.
const OPTIONS: [&str; 44] = [
    "appname",
    "authmechanism",
    "authmechanismproperties",
    "authsource",
    "compressors",
    "connecttimeoutms",
    "directconnection",
    "enableoverloadretargeting",
    "heartbeatfrequencyms",
    "journal",
    "loadbalanced",
    "localthresholdms",
    "maxadaptiveretries",
    "maxconnecting",
    "maxidletimems",
    "maxpoolsize",
    "maxstalenessseconds",
    "minpoolsize",
    "proxyhost",
    "proxypassword",
    "proxyport",
    "proxyusername",
    "readconcernlevel",
    "readpreference",
    "readpreferencetags",
    "replicaset",
    "retryreads",
    "retrywrites",
    "servermonitoringmode",
    "serverselectiontimeoutms",
    "sockettimeoutms",
    "srvmaxhosts",
    "srvservicename",
    "ssl",
    "tls",
    "tlsallowinvalidcertificates",
    "tlscafile",
    "tlscertificatekeyfile",
    "tlsinsecure",
    "uuidrepresentation",
    "w",
    "waitqueuetimeoutms",
    "wtimeoutms",
    "zlibcompressionlevel",
];

/// What we must know before anything connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MongoUri {
    /// Whether it says which replica set to expect, or the DNS may say so.
    pub(super) names_a_set: bool,
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
    let names_a_set = check_options(query)?;
    Ok(MongoUri {
        names_a_set: is_srv || names_a_set,
        is_tls: is_tls(query, is_srv),
        is_loopback: !is_srv && hosts.split(',').all(is_loopback),
        database,
    })
}

/// Refuses an option that the driver does not know; says whether the replica set is named. Only a name is quoted, never
/// a value.
fn check_options(query: &str) -> Result<bool, String> {
    let mut names_a_set = false;
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let Some((written, value)) = option.split_once('=') else {
            return Err("behind the ? stands what is no option=value".to_owned());
        };
        let name = written.to_ascii_lowercase();
        if !OPTIONS.contains(&name.as_str()) {
            return Err(format!("there is no option {written}"));
        }
        if value.is_empty() {
            return Err(format!("{written} has no value"));
        }
        names_a_set |= name == "replicaset";
    }
    Ok(names_a_set)
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
            ("mongodb://user:p%40ss@[::1]:27017/?replicaSet=r", true),
            ("mongodb://%2Ftmp%2Fmongodb.sock/?replicaSet=r", true),
            ("mongodb://127.0.0.1,db.example.test/?replicaSet=r", false),
            ("mongodb://localhost.example.test/?replicaSet=r", false),
            ("mongodb://localhost@db.example.test/?replicaSet=r", false),
            ("mongodb+srv://localhost", false),
        ] {
            assert_eq!(parse(uri).unwrap().is_loopback, local, "{uri}");
        }
    }

    #[test]
    fn only_verified_tls_counts() {
        for (uri, tls) in [
            ("mongodb://h/?replicaSet=r&tls=true", true),
            ("mongodb://h/?replicaSet=r&SSL=True", true),
            ("mongodb+srv://h", true),
            ("mongodb+srv://h/?tls=false", false),
            ("mongodb://h/?replicaSet=r", false),
            ("mongodb://h/?replicaSet=r&tls=true&tlsInsecure=true", false),
            ("mongodb://h/?replicaSet=r&tlsAllowInvalidCertificates=true&tls=true", false),
            ("mongodb://h/?replicaSet=r&tls=true&tlsInsecure=false", true),
        ] {
            assert_eq!(parse(uri).unwrap().is_tls, tls, "{uri}");
        }
    }

    #[test]
    fn the_path_names_the_database() {
        assert_eq!(
            parse("mongodb://h/certs?replicaSet=r&tls=true").unwrap().database.as_deref(),
            Some("certs")
        );
        assert_eq!(parse("mongodb://h/?replicaSet=r&tls=true").unwrap().database, None);
        assert_eq!(parse("mongodb://h?replicaSet=r&tls=true").unwrap().database, None);
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

    #[test]
    fn an_unknown_option_is_refused_without_its_value_and_a_missing_replica_set_is_seen() {
        for (uri, told) in [
            ("mongodb://h/?replicaSet=r&maxPoolSiez=hunter2", "no option maxPoolSiez"),
            ("mongodb://h/?hunter2", "no option=value"),
            ("mongodb+srv://h/?tlsCertificate=hunter2", "no option tlsCertificate"),
            ("mongodb://h/?replicaSet=", "no value"),
        ] {
            let why = parse(uri).unwrap_err();
            assert!(why.contains(told) && !why.contains("hunter2"), "{uri}: {why}");
        }
        for (uri, names) in [
            ("mongodb+srv://h/x?retryWrites=true&W=majority", true),
            ("mongodb://h/x?REPLICASET=r&authSource=admin", true),
            ("mongodb://h", false),
            ("mongodb://h/x?tls=true", false),
        ] {
            assert_eq!(parse(uri).unwrap().names_a_set, names, "{uri}");
        }
    }
}
