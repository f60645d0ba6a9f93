// SPDX-License-Identifier: Apache-2.0
//! Every variable there is: what is not in this table is refused, and the reference is written from it.

use Reader::{Api, Cli, Scheduler, Worker};

/// Who reads a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// `certautopilot-api`.
    Api,
    /// `certautopilot-worker`.
    Worker,
    /// `certautopilot-scheduler`.
    Scheduler,
    /// `certautopilot`.
    Cli,
}

/// What holds when a variable is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// This value, parsed like a given one.
    Value(&'static str),
    /// What these words say.
    Words(&'static str),
    /// It must be given.
    Required,
    /// Nothing: the feature is off.
    Nothing,
}

/// One variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name in the environment; `<N>` at its end stands for a whole number from 1 on.
    pub name: &'static str,
    /// What holds without it.
    pub unset: Unset,
    /// Whether its value must not be shown; such a one may also be given as a file, in `NAME_FILE`.
    pub secret: bool,
    /// Who reads it.
    pub readers: &'static [Reader],
    /// What it means, for the reference.
    pub meaning: &'static str,
}

const SERVICES: &[Reader] = &[Api, Worker, Scheduler];
const ALL: &[Reader] = &[Api, Worker, Scheduler, Cli];

const fn plain(
    name: &'static str,
    unset: Unset,
    readers: &'static [Reader],
    meaning: &'static str,
) -> Variable {
    Variable { name, unset, secret: false, readers, meaning }
}

const fn secret(
    name: &'static str,
    unset: Unset,
    readers: &'static [Reader],
    meaning: &'static str,
) -> Variable {
    Variable { name, unset, secret: true, readers, meaning }
}

/// The numbered keys of the `env` KEK provider.
pub(super) const KEK_PATTERN: &str = "CAP_KEK_V<N>";

/// Every variable, in the order of the reference.
#[rustfmt::skip]
pub const VARIABLES: &[Variable] = &[
    secret("CAP_MONGO_URI", Unset::Required, ALL, "Where the replica set is. Writes are w=majority and critical reads primary and majority, whatever it says."),
    plain("CAP_MONGO_DATABASE", Unset::Words("path of the URI, else `certautopilot`"), ALL, "Which database."),
    plain("CAP_MONGO_ALLOW_PLAINTEXT", Unset::Value("false"), ALL, "Use MongoDB without TLS on a host that is not loopback. Warns at each start."),
    plain("CAP_KEK_PROVIDER", Unset::Value("file"), ALL, "Who holds the key encryption keys: `file` or `env`."),
    plain("CAP_KEK_DIR", Unset::Words("required for `file`"), ALL, "Folder of `v<N>.key` files, 32 bytes each. A file is refused when others may read it or the group may write it, the folder when either may write it; symlinks are followed."),
    secret(KEK_PATTERN, Unset::Words("one at least for `env`"), ALL, "For `env`: version N of the key, 64 hex digits."),
    plain("CAP_API_LISTEN", Unset::Value("127.0.0.1:8181"), &[Api], "REST, `/healthz`, `/livez`, `/readyz`."),
    plain("CAP_API_TLS_CERT_FILE", Unset::Nothing, &[Api], "Serve the API over TLS with this certificate chain (PEM). Goes with `CAP_API_TLS_KEY_FILE`."),
    plain("CAP_API_TLS_KEY_FILE", Unset::Nothing, &[Api], "The private key of `CAP_API_TLS_CERT_FILE` (PEM). Refused when others may read it or the group may write it."),
    plain("CAP_API_PUBLIC_URL", Unset::Nothing, &[Api], "What clients and agents are told to call."),
    plain("CAP_API_PLACES", Unset::Value("1024"), &[Api], "Requests that a replica answers at once; one caller has a quarter of them. From 16 to 16384."),
    plain("CAP_API_BODY_TIMEOUT", Unset::Value("10s"), &[Api], "How long the body of a request may take, all of it. From 1s to 25s."),
    plain("CAP_API_RATE_PER_TOKEN", Unset::Value("500"), &[Api], "Requests a second of one token, at each replica; twice as many at once. 0: as many as it likes. At most 1000000."),
    plain("CAP_API_RATE_PER_ADDRESS", Unset::Value("100"), &[Api], "Requests a second of one address (of IPv6: of one /64) without a token that was good lately, at each replica; twice as many at once. 0: as many as it likes. At most 1000000."),
    plain("CAP_API_FAILURES_PER_ADDRESS", Unset::Value("60"), &[Api], "Tokens that one address may show in a minute, and at once, and that are refused; then only tokens that were good lately are looked at from there. 0: as many as it likes. At most 1000000."),
    plain("CAP_API_WAITING_PER_PROJECT", Unset::Value("10000"), &[Api], "Certificates of one project that may wait for their first attempt; no more are taken then. 0: as many as are asked for. At most 1000000."),
    plain("CAP_API_TRUSTED_PROXIES", Unset::Words("nobody"), &[Api], "Whose X-Forwarded-For is believed: addresses and networks, separated by commas, like `10.0.0.0/8,fd00::/8`."),
    plain("CAP_CHALLENGE_LISTEN", Unset::Value("127.0.0.1:8080"), &[Api], "HTTP-01 answers, nothing else."),
    plain("CAP_ADMIN_LISTEN", Unset::Value("127.0.0.1:9090"), SERVICES, "`/metrics`, `/livez` and `/readyz` of any process, for operators: show it to nobody else."),
    plain("CAP_LOG", Unset::Value("info"), ALL, "Which log lines: a level, or directives like `info,cap_store=debug`."),
    plain("CAP_LOG_FORMAT", Unset::Words("`json`; `text` on a terminal"), SERVICES, "`json` or `text`."),
    plain("CAP_INSTANCE_NAME", Unset::Words("pod or host name"), SERVICES, "The name of this process in the cluster: letters, digits and `._-`, at most 63."),
    plain("CAP_ISSUANCE_FUSE", Unset::Value("20"), &[Worker], "Orders for the same names in one project, within a week or the life of their certificate if that is shorter, after which no more are begun until the first of them is so old. Failed ones are not counted. From 3 to 1000."),
    plain("CAP_JOB_LEASE", Unset::Value("60s"), &[Worker], "A peer may re-claim a job after it. From 5s to 10m."),
    plain("CAP_WORKER_CONCURRENCY", Unset::Value("32"), &[Worker], "Jobs at the CA, and a quarter as many again of lanes that have few there; as many more may be on their way there, and on their way out. From 1 to 1000."),
    plain("CAP_OUTBOUND_PRIVATE", Unset::Words("none"), &[Worker], "Private networks that drift scans may connect to, with commas between them, like `10.0.0.0/8,fd00::/8`. Public addresses are always allowed; link-local, multicast and metadata addresses never are."),
    plain("CAP_SCHEDULER_LEASE", Unset::Value("15s"), &[Scheduler], "How long a leader that is killed or lost is waited for. From 3s to 5m."),
    plain("CAP_RETENTION_JOBS", Unset::Value("7d"), SERVICES, "How long a finished job is kept, from when the leader has counted it. From 1h to 90d. Give every service the same `CAP_RETENTION_*`: of two the shorter one holds."),
    plain("CAP_RETENTION_ATTEMPTS", Unset::Value("30d"), SERVICES, "How long an attempt is kept in its job, from its start to when the next one begins; with the job it goes in any case. From 1d to 365d."),
    plain("CAP_RETENTION_ORDERS", Unset::Value("30d"), SERVICES, "How long an order that is over is kept. From 1d to 365d."),
    plain("CAP_RETENTION_IDEMPOTENCY", Unset::Value("24h"), SERVICES, "How long a request is remembered that its client may repeat. From 1h, which is longer than any client should repeat one, to 30d."),
    plain("CAP_RETENTION_TOTALS", Unset::Value("400d"), SERVICES, "How long the hourly totals of finished jobs are kept: no shorter than the jobs. From 1d to 3650d."),
    plain("CAP_RETENTION_NOTICES", Unset::Value("400d"), SERVICES, "How long a notice about expiry is kept, from when it is resolved. From 7d to 3650d."),
    plain("CAP_RETENTION_TOKENS", Unset::Value("30d"), SERVICES, "How long a token that ran out is still listed. From 1d to 365d."),
    plain("CAP_SHUTDOWN_DELAY", Unset::Value("5s"), SERVICES, "How long the API still accepts requests after `/readyz` has gone 503. Schedulers step down and workers stop claiming at once. At most 5m."),
    plain("CAP_SHUTDOWN_GRACE", Unset::Value("45s"), SERVICES, "How long a drain may take, after the delay. At most 1h."),
    plain("CAP_API_URL", Unset::Nothing, &[Cli], "The API that the command line calls."),
    secret("CAP_TOKEN", Unset::Nothing, &[Cli], "The bearer token that the command line calls it with."),
    plain("CAP_CA_FILE", Unset::Nothing, &[Cli], "The CA certificates (PEM) that the command line trusts for it, beside the built-in ones."),
];

/// Names that may stand in the environment without being ours to read: what tests, drills and the local stack export.
const FOREIGN: [&str; 4] =
    ["CAP_ACME_DIRECTORY_URL", "CAP_ACME_CA_FILE", "CAP_CHALLENGE_ADDR", "CAP_DNS_MANAGEMENT_URL"];
const FOREIGN_PREFIXES: [&str; 2] = ["CAP_TEST_", "CAP_DRILL_"];

pub(super) fn is_foreign(name: &str) -> bool {
    FOREIGN.contains(&name) || FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The version in `CAP_KEK_V<N>`; nothing when the name is not of that form.
pub(super) fn kek_version(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("CAP_KEK_V")?;
    let version: u32 = digits.parse().ok()?;
    (version > 0 && version.to_string() == digits).then_some(version)
}

/// The variable of this exact name, patterns included.
pub(super) fn find(name: &str) -> Option<&'static Variable> {
    let wanted = if kek_version(name).is_some() { KEK_PATTERN } else { name };
    let literal = |variable: &&Variable| variable.name == wanted;
    VARIABLES.iter().filter(|_| name != KEK_PATTERN).find(literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_unique_and_never_foreign() {
        for (at, variable) in VARIABLES.iter().enumerate() {
            assert!(variable.name.starts_with("CAP_"));
            assert!(!is_foreign(variable.name));
            assert!(VARIABLES[..at].iter().all(|other| other.name != variable.name));
            assert!(!variable.readers.is_empty());
        }
    }

    #[test]
    fn a_kek_version_is_a_whole_number_without_leading_zeros() {
        assert_eq!(kek_version("CAP_KEK_V1"), Some(1));
        assert_eq!(kek_version("CAP_KEK_V120"), Some(120));
        for name in ["CAP_KEK_V", "CAP_KEK_V0", "CAP_KEK_V01", "CAP_KEK_V+1", "CAP_KEK_VX", "CAP_KEK_V1_FILE"]
        {
            assert_eq!(kek_version(name), None, "{name}");
        }
    }
}
