// SPDX-License-Identifier: Apache-2.0
//! core reaches the world through ports only: no crate that opens a socket, a file or a process is among its own.

use super::{Finding, Package};

const PURE: &[&str] = &["cap-core"];

/// What pure crates may use. A new one is added here after a look at what it can reach.
const ALLOWED: &[&str] = &[
    "aes-gcm",
    "async-trait",
    "base64",
    "bytes",
    "crc32fast",
    "futures-util",
    "hex",
    "hkdf",
    "hmac",
    "idna",
    "jiff",
    "pem",
    "rcgen",
    "rustls-pki-types",
    "secrecy",
    "serde",
    "serde_bytes",
    "serde_json",
    "sha2",
    "subtle",
    "thiserror",
    "tokio",
    "tracing",
    "url",
    "uuid",
    "x509-parser",
    "zeroize",
];

/// What tokio may bring along: channels and locks.
const TOKIO_FEATURES: &[&str] = &["sync"];

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| PURE.contains(&package.name.as_str())) {
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.dev) {
            if !ALLOWED.contains(&dependency.name.as_str()) {
                let problem = format!(
                    "{} is pure and {} is not on its list: go through a port, or add it in xtask/src/tidy/purity.rs",
                    package.name, dependency.name
                );
                findings.push(Finding::new(&package.manifest, problem));
            }
            let reaching: Vec<&str> = dependency
                .features
                .iter()
                .map(String::as_str)
                .filter(|f| !TOKIO_FEATURES.contains(f))
                .collect();
            if dependency.name == "tokio" && !reaching.is_empty() {
                let problem = format!(
                    "{} is pure and takes tokio's {}: only {} may be had (write the dependency out; `workspace = true` \
                     adds the workspace's features)",
                    package.name,
                    reaching.join(", "),
                    TOKIO_FEATURES.join(", ")
                );
                findings.push(Finding::new(&package.manifest, problem));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_core_passes_and_others_are_not_looked_at() {
        let mut core = Package::with("cap-core", &["serde", "tokio"]);
        core.dependencies[1].features = vec!["sync".into()];
        assert_eq!(check(&[core, Package::with("cap-api", &["reqwest"])]), []);
    }

    #[test]
    fn a_crate_that_reaches_the_world_is_found() {
        assert_eq!(check(&[Package::with("cap-core", &["reqwest"])]).len(), 1);
        let mut core = Package::with("cap-core", &["tokio"]);
        core.dependencies[0].features = vec!["sync".into(), "net".into()];
        assert!(check(&[core])[0].problem.contains("net"));
    }
}
