// SPDX-License-Identifier: Apache-2.0
//! Claims about the configuration as a whole.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const URI: (&str, &str) = ("CAP_MONGO_URI", "mongodb://127.0.0.1:1/?replicaSet=rs0");

fn read(file: Option<&Path>, env: &[(&str, &str)]) -> Config {
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::read(file, env)
}

fn written(dir: &TempDir, name: &str, mode: u32, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

/// The faults, a line each.
fn faults<G: Group>(file: Option<&Path>, env: &[(&str, &str)]) -> Vec<String> {
    let Err(faults) = read(file, env).finish::<G>() else { panic!("there is no fault") };
    faults.to_string().lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn the_defaults_are_the_contracts() {
    let env = [URI, ("CAP_KEK_DIR", "/keks"), ("CAP_INSTANCE_NAME", "pod-1")];
    type All = (ServiceConfig, MongoConfig, ApiConfig, WorkerConfig, SchedulerConfig);
    let (service, mongo, api, worker, scheduler) = read(None, &env).finish::<All>().unwrap();
    assert_eq!(service.admin_listen.to_string(), "127.0.0.1:9090");
    assert_eq!((service.log.as_str(), service.instance_name.as_str()), ("info", "pod-1"));
    assert_eq!(service.shutdown_delay, Duration::from_secs(5));
    assert_eq!(service.shutdown_grace, Duration::from_secs(45));
    assert_eq!((mongo.database.as_str(), mongo.allow_plaintext), ("certautopilot", false));
    assert_eq!(api.listen.to_string(), "127.0.0.1:8181");
    assert_eq!(api.challenge_listen.to_string(), "127.0.0.1:8080");
    assert_eq!((api.public_url, api.tls), (None, None));
    let limits = api.limits;
    assert_eq!(
        (limits.per_token, limits.per_address, limits.failures, limits.waiting),
        (500, 100, 60, 10_000)
    );
    assert_eq!((limits.places, limits.body), (1024, Duration::from_secs(10)));
    assert!(limits.trusted_proxies.is_empty(), "nobody's word is taken for who a caller is");
    assert_eq!((worker.job_lease, worker.concurrency), (Duration::from_secs(60), 32));
    assert_eq!(scheduler.lease, Duration::from_secs(15));
    let kek = read(None, &env).finish::<KekConfig>().unwrap();
    assert!(matches!(kek.provider, KekProvider::File { dir } if dir == Path::new("/keks")));
}

#[test]
fn every_fault_is_listed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(&dir, "c.yaml", 0o600, "job_lease: 1s\nlog_fromat: json\n");
    let env = [
        ("CAP_WORKER_CONCURRENCY", "many"),
        ("CAP_ADMIN_LISTEN", "localhost:1"),
        ("CAP_LOG", "verbose"),
        ("CAP_INSTANCE_NAME", "a b"),
        ("CAP_KEK_PROVIDER", "pkcs11"),
        ("CAP_NONSENSE", ""),
    ];
    let faults = faults::<(ServiceConfig, MongoConfig, KekConfig, WorkerConfig)>(Some(&file), &env);
    for part in [
        "CAP_LOG_FROMAT (key `log_fromat` of ",
        "did you mean CAP_LOG_FORMAT?",
        "CAP_NONSENSE: no such variable",
        "CAP_INSTANCE_NAME: `a b`: not an instance name",
        "CAP_ADMIN_LISTEN: `localhost:1`: not an IP address with a port",
        "CAP_LOG: `verbose`: `verbose` is not a level",
        "CAP_MONGO_URI: it is required and not given; set it, or CAP_MONGO_URI_FILE",
        "CAP_KEK_PROVIDER: `pkcs11`: not available in this build; write file or env",
        "`1s`: out of range; write a duration from 5s to 10m",
        "CAP_WORKER_CONCURRENCY: `many`: not a whole number; write a whole number from 1 to 1000",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part} is not in {faults:#?}");
    }
    assert_eq!(faults.len(), 9, "{faults:#?}");
}

#[test]
fn the_environment_wins_over_the_file_whatever_the_form() {
    let dir = tempfile::tempdir().unwrap();
    let token = written(&dir, "token", 0o600, "from a file\n");
    let text = "CAP_JOB_LEASE: 10s\nworker_concurrency: 7\ntoken: from yaml\n";
    let yaml = written(&dir, "c.yaml", 0o600, text);
    let env = [("CAP_JOB_LEASE", "20s"), ("CAP_TOKEN_FILE", token.to_str().unwrap())];
    let (worker, client) = read(Some(&yaml), &env).finish::<(WorkerConfig, ClientConfig)>().unwrap();
    assert_eq!((worker.job_lease, worker.concurrency), (Duration::from_secs(20), 7));
    assert_eq!(client.token.unwrap().expose_secret(), "from a file");
}

#[test]
fn an_empty_value_is_not_given() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = written(&dir, "c.yaml", 0o600, "job_lease: 10s\nscheduler_lease:\n");
    let env = [("CAP_JOB_LEASE", ""), ("CAP_MONGO_URI", "")];
    let (worker, scheduler) = read(Some(&yaml), &env).finish::<(WorkerConfig, SchedulerConfig)>().unwrap();
    assert_eq!(worker.job_lease, Duration::from_secs(10));
    assert_eq!(scheduler.lease, Duration::from_secs(15));
    assert_eq!(faults::<MongoConfig>(None, &env).len(), 1);
}

#[test]
fn a_secret_file_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, is_good) in [(0o600, true), (0o440, true), (0o644, false), (0o606, false), (0o620, false)] {
        let path = written(&dir, &format!("{mode:o}"), mode, "hunter2\r\n");
        let env = [("CAP_TOKEN_FILE", path.to_str().unwrap())];
        if is_good {
            let client = read(None, &env).finish::<ClientConfig>().unwrap();
            assert_eq!(client.token.unwrap().expose_secret(), "hunter2");
        } else {
            let faults = faults::<ClientConfig>(None, &env);
            assert!(faults[0].contains(&format!("mode {mode:04o}); chmod 0600")), "{faults:?}");
        }
    }
    let missing = faults::<ClientConfig>(None, &[("CAP_TOKEN_FILE", "/nowhere/token")]);
    assert!(missing[0].contains("/nowhere/token cannot be read"), "{missing:?}");
}

#[test]
fn a_secret_in_a_yaml_file_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = written(&dir, "open.yaml", 0o644, "token: hunter2\n");
    let faults = faults::<ClientConfig>(Some(&open), &[]);
    assert!(faults[0].contains("a secret in a file that others may read or write"));
    assert!(!faults[0].contains("hunter2"));
    let harmless = written(&dir, "harmless.yaml", 0o644, "job_lease: 10s\n");
    assert!(read(Some(&harmless), &[]).finish::<WorkerConfig>().is_ok());
}

#[test]
fn what_is_given_twice_in_one_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let both = [("CAP_TOKEN", "a"), ("CAP_TOKEN_FILE", "/x")];
    let twice = faults::<ClientConfig>(None, &both);
    assert!(twice[0].contains("CAP_TOKEN: also given as CAP_TOKEN_FILE; keep one"), "{twice:?}");
    let yaml = written(&dir, "c.yaml", 0o600, "job_lease: 10s\nCAP_JOB_LEASE: 20s\n");
    assert_eq!(faults::<WorkerConfig>(Some(&yaml), &[]).len(), 1);
}

#[test]
fn secrets_are_never_quoted() {
    let env =
        [("CAP_MONGO_URI", "mongo://u:hunter2@h"), ("CAP_KEK_PROVIDER", "env"), ("CAP_KEK_V1", "hunter2")];
    let faults = faults::<(MongoConfig, KekConfig)>(None, &env);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults.iter().all(|fault| !fault.contains("hunter2")), "{faults:?}");
    assert!(!format!("{:?}", read(None, &env)).contains("hunter2"));
}

#[test]
fn names_of_the_local_stack_and_of_tests_pass_and_others_do_not() {
    let known = [("CAP_TEST_X", "1"), ("CAP_DRILL_KILL", "x"), ("CAP_ACME_CA_FILE", "x"), ("PATH", "x")];
    assert!(read(None, &known).finish::<()>().is_ok());
    for name in
        ["CAP_", "CAP_JOB_LEASES", "CAP_JOB_LEASE_FILE", "CAP_KEK_V0", "CAP_KEK_V<N>", "CAP_CA_FILE_FILE"]
    {
        assert_eq!(faults::<()>(None, &[(name, "x")]).len(), 1, "{name}");
    }
    let garbled = [(OsString::from("CAP_LOG"), OsString::from_vec(vec![0xFF]))];
    assert!(Config::read(None, garbled).finish::<()>().is_err());
}

#[test]
fn keks_of_the_environment_are_read_by_version() {
    let dir = tempfile::tempdir().unwrap();
    let second = written(&dir, "v2", 0o600, &("02".repeat(32) + "\n"));
    let (first, second) = ("01".repeat(32), second.to_str().unwrap());
    let env = [("CAP_KEK_PROVIDER", "env"), ("CAP_KEK_V1", first.as_str()), ("CAP_KEK_V2_FILE", second)];
    let KekProvider::Env { keys } = read(None, &env).finish::<KekConfig>().unwrap().provider else {
        panic!("not the environment")
    };
    let shown: Vec<_> = keys.iter().map(|(version, key)| (*version, *key.expose_secret())).collect();
    assert_eq!(shown, [(1, [1; 32]), (2, [2; 32])]);
    for env in [&env[..1], &[env[0], ("CAP_KEK_V1", "0102")]] {
        assert_eq!(faults::<KekConfig>(None, env).len(), 1);
    }
    assert_eq!(faults::<KekConfig>(None, &[]).len(), 1, "file needs a folder");
}

#[test]
fn plaintext_to_another_host_is_refused_unless_allowed_and_then_warned_of() {
    let uri = ("CAP_MONGO_URI", "mongodb://db.example.test/certs?replicaSet=rs0");
    assert!(faults::<MongoConfig>(None, &[uri])[0].contains("CAP_MONGO_ALLOW_PLAINTEXT=true"));
    let mut allowed = read(None, &[uri, ("CAP_MONGO_ALLOW_PLAINTEXT", "true")]);
    assert_eq!(allowed.finish::<MongoConfig>().unwrap().database, "certs");
    assert_eq!(allowed.warnings().len(), 1);
    for uri in [URI.1, "mongodb://db.example.test/?replicaSet=rs0&tls=true"] {
        let mut quiet = read(None, &[("CAP_MONGO_URI", uri), ("CAP_MONGO_DATABASE", "other")]);
        assert_eq!(quiet.finish::<MongoConfig>().unwrap().database, "other");
        assert!(quiet.warnings().is_empty());
    }
}

#[test]
fn tls_needs_both_files_and_urls_need_a_host() {
    let half = faults::<ApiConfig>(None, &[("CAP_API_TLS_KEY_FILE", "/k")]);
    assert!(half[0].contains("CAP_API_TLS_CERT_FILE: CAP_API_TLS_KEY_FILE is given"), "{half:?}");
    for url in ["certs.example.test", "ftp://x", "https://", "https://u:p@x", "https://x/?q"] {
        assert_eq!(faults::<ApiConfig>(None, &[("CAP_API_PUBLIC_URL", url)]).len(), 1, "{url}");
    }
    let api = read(None, &[("CAP_API_PUBLIC_URL", "https://x/")]).finish::<ApiConfig>().unwrap();
    assert_eq!(api.public_url.as_deref(), Some("https://x"));
}

#[test]
fn a_file_that_is_not_there_or_not_flat_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let missing = faults::<()>(Some(&dir.path().join("none.yaml")), &[]);
    assert!(missing[0].contains("it cannot be read"), "{missing:?}");
    let nested = written(&dir, "c.yaml", 0o600, "mongo:\n  uri: hunter2\n");
    let nested = faults::<()>(Some(&nested), &[]);
    assert!(nested[0].contains("not part of a flat map") && !nested[0].contains("hunter2"), "{nested:?}");
}

#[test]
fn a_tls_key_that_others_may_read_is_refused_and_one_for_the_group_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let api = |key: &Path| {
        let env = [("CAP_API_TLS_CERT_FILE", "/cert.pem"), ("CAP_API_TLS_KEY_FILE", key.to_str().unwrap())];
        read(None, &env).finish::<ApiConfig>()
    };
    for mode in [0o644, 0o604, 0o620, 0o602] {
        let key = written(&dir, "exposed.pem", mode, "hunter2");
        let told = api(&key).unwrap_err().to_string();
        for part in ["CAP_API_TLS_KEY_FILE: others may read or change", &format!("{mode:04o}"), "chmod 0600"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
    }
    // As Kubernetes mounts it: for the group, behind a symlink.
    written(&dir, "group.pem", 0o440, "x");
    let link = dir.path().join("key.pem");
    std::os::unix::fs::symlink("group.pem", &link).unwrap();
    assert_eq!(api(&link).unwrap().tls.unwrap().key, link);
    assert!(api(&dir.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn what_another_binary_reads_is_checked_for_its_spelling_and_not_missed() {
    let env = [
        ("CAP_JOB_LEASE", "5"),
        ("CAP_SCHEDULER_LEASE", "-1s"),
        ("CAP_LOG", "a=b=c"),
        ("CAP_API_URL", "nowhere"),
        ("CAP_KEK_V1", "hunter2"),
        ("CAP_API_TLS_KEY_FILE", "/none"),
    ];
    for faults in [faults::<ClientConfig>(None, &env), faults::<SchedulerConfig>(None, &env)] {
        assert_eq!(faults.len(), 5, "{faults:#?}");
        for part in
            ["CAP_JOB_LEASE: `5`", "CAP_SCHEDULER_LEASE: `-1s`", "CAP_LOG: ", "CAP_API_URL: ", "CAP_KEK_V1: "]
        {
            assert!(faults.iter().any(|fault| fault.contains(part)), "{part} is not in {faults:#?}");
        }
    }
    assert!(read(None, &[]).finish::<()>().is_ok(), "what nobody gave is missed by who reads it alone");
}

#[test]
fn a_boolean_that_is_none_hides_no_fault_of_the_uri() {
    let uri = ("CAP_MONGO_URI", "mongodb://db.example.test/certs");
    let faults = faults::<MongoConfig>(None, &[uri, ("CAP_MONGO_ALLOW_PLAINTEXT", "perhaps")]);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults[1].contains("names no replica set"), "{faults:?}");
    assert!(faults[0].contains("CAP_MONGO_ALLOW_PLAINTEXT: `perhaps`"), "{faults:?}");
    assert!(faults[2].contains("without verified TLS"), "{faults:?}");
}

#[test]
fn no_two_listeners_of_the_api_want_the_same_place() {
    for (name, told) in [
        (
            "CAP_CHALLENGE_LISTEN",
            "CAP_CHALLENGE_LISTEN: `127.0.0.1:8181`: CAP_API_LISTEN listens there already",
        ),
        ("CAP_ADMIN_LISTEN", "CAP_ADMIN_LISTEN: `127.0.0.1:8181`: CAP_API_LISTEN listens there already"),
    ] {
        let env = [(name, "127.0.0.1:8181")];
        let both = faults::<ApiConfig>(None, &env);
        assert!(both.len() == 1 && both[0].contains(told), "{both:?}");
        assert!(read(None, &env).finish::<WorkerConfig>().is_ok(), "a worker has no such listener");
    }
    let any = [("CAP_API_LISTEN", "127.0.0.1:0"), ("CAP_ADMIN_LISTEN", "127.0.0.1:0")];
    assert!(read(None, &any).finish::<ApiConfig>().is_ok());
}

#[test]
fn limits_and_trusted_proxies_are_read_and_a_wrong_one_is_told() {
    let env = [("CAP_API_RATE_PER_TOKEN", "0"), ("CAP_API_TRUSTED_PROXIES", "10.0.0.0/8, ::1")];
    let limits = read(None, &env).finish::<ApiConfig>().unwrap().limits;
    assert_eq!((limits.per_token, limits.trusted_proxies.len()), (0, 2));
    let wrong = [("CAP_API_RATE_PER_ADDRESS", "-1"), ("CAP_API_TRUSTED_PROXIES", "10.0.0.1/8")];
    let faults = faults::<ApiConfig>(None, &wrong);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[1].contains("bits behind its prefix; write addresses and networks"), "{faults:?}");
}
