// SPDX-License-Identifier: Apache-2.0
//! What the api is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{ApiLimits, Config, Fault, Group, secret_file};

/// What the api is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// REST and its health checks.
    pub listen: SocketAddr,
    /// HTTP-01 answers.
    pub challenge_listen: SocketAddr,
    /// What clients are told to call: a scheme, a host, no slash at the end.
    pub public_url: Option<String>,
    /// Serve REST over TLS with these.
    pub tls: Option<TlsFiles>,
    /// How much each caller may ask for.
    pub limits: ApiLimits,
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

impl Group for ApiConfig {
    fn read(config: &mut Config) -> Option<Self> {
        let listen = config.socket_addr("CAP_API_LISTEN");
        let challenge_listen = config.socket_addr("CAP_CHALLENGE_LISTEN");
        let public_url =
            config.parse("CAP_API_PUBLIC_URL", "write it like https://certs.example.test", base_url);
        let listens = [("CAP_API_LISTEN", listen), ("CAP_CHALLENGE_LISTEN", challenge_listen)];
        let admin_listen = ("CAP_ADMIN_LISTEN", config.socket_addr("CAP_ADMIN_LISTEN"));
        let is_apart = apart(config, &[listens[0], listens[1], admin_listen]);
        let url_is_wrong = public_url.is_none() && config.is_given("CAP_API_PUBLIC_URL");
        let tls = tls(config);
        let limits = ApiLimits::read(config);
        if url_is_wrong || !is_apart {
            return None;
        }
        Some(Self {
            listen: listen?,
            challenge_listen: challenge_listen?,
            public_url,
            tls: tls?,
            limits: limits?,
        })
    }
}

/// Whether no two listeners want the same place. Port 0 is another one each time.
fn apart(config: &mut Config, listens: &[(&'static str, Option<SocketAddr>)]) -> bool {
    let mut is_apart = true;
    for (at, (name, listen)) in listens.iter().enumerate() {
        for (first, other) in &listens[..at] {
            if let (Some(listen), Some(other)) = (listen, other)
                && listen.port() != 0
                && listen == other
            {
                is_apart = false;
                let why = format!("`{listen}`: {first} listens there already");
                config.fault(Fault::new(*name, why, "give each listener an address or a port of its own"));
            }
        }
    }
    is_apart
}

fn tls(config: &mut Config) -> Option<Option<TlsFiles>> {
    const NAMES: [&str; 2] = ["CAP_API_TLS_CERT_FILE", "CAP_API_TLS_KEY_FILE"];
    let (given, missing) = match NAMES.map(|name| config.path(name)) {
        [Some(certificate), Some(key)] => {
            // Read now only to be refused with all else that is wrong: what serves reads it, and checks it, again.
            if !config.spelling_only
                && let Err((why, remedy)) = secret_file::read(&key)
            {
                config.fault(Fault::new(NAMES[1], why, remedy));
                return None;
            }
            return Some(Some(TlsFiles { certificate, key }));
        }
        [None, None] => return Some(None),
        [Some(_), None] => (NAMES[0], NAMES[1]),
        [None, Some(_)] => (NAMES[1], NAMES[0]),
    };
    config.fault(Fault::new(
        missing,
        format!("{given} is given and this is not"),
        "TLS needs the certificate and its key: set both or neither",
    ));
    None
}

/// An `http` or `https` URL without query; the slash at its end is dropped.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let trimmed = text.trim_end_matches('/');
    let url: axum::http::Uri = trimmed.parse().map_err(|_| "not a URL".to_owned())?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err("not an http or https URL with a host".to_owned());
    }
    if url.query().is_some() || url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("it has a query or a user in it".to_owned());
    }
    Ok(trimmed.to_owned())
}
