// SPDX-License-Identifier: Apache-2.0
//! The command line as people type it.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("certautopilot").chain(line.split_whitespace()))
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_of_this_release_is_taken() {
    for line in [
        "health --deep",
        "admin bootstrap --token-file t",
        "admin recover-token --yes",
        "admin recover-token --token-file t --yes",
        "project list",
        "project get demo",
        "project create demo --dry-run",
        "project update demo --drift on --drift-port 8443 --drift-interval 1h",
        "drift scan a.test --wait",
        "drift scan --all --wait",
        "drift list --check",
        "issuer list -p demo",
        "issuer get ca",
        "issuer create ca --directory-url https://ca.test/dir --trust-roots r.pem --contact mailto:a@b.test --contact mailto:c@d.test --wait",
        "issuer delete ca --yes",
        "cert request a.test b.test --issuer ca --key-type ecdsa-p256 --profile short --no-auto-renew --wait --timeout 5m",
        "cert list --status failing -o wide",
        "cert get a.test -o json",
        "cert describe a.test",
        "cert update a.test --no-auto-renew --key-type rsa-2048 --reuse-key --profile short --preferred-chain X1 --drift-port 8443",
        "cert update a.test --auto-renew --no-reuse-key --clear-profile --clear-preferred-chain --clear-drift --dry-run",
        "cert renew a.test --wait",
        "cert pause a.test",
        "cert resume a.test",
        "cert revoke a.test --reason superseded --replace",
        "cert download a.test --format fullchain --out f.pem",
        "cert delete a.test",
        "job list --state queued -o name",
        "job list --issuer ca --kind register-issuer",
        "job get job_00000000000000000000000000000001",
        "leader show",
        "token create ci --role operator --project demo --expires-in 30d --token-file t",
        "token list",
        "token revoke tok_00000000000000000000000000000001",
        "schema status",
        "schema migrate",
        "kek generate --dir keys",
        "kek status -o yaml",
        "version",
        "completion bash",
        "generate config",
        "generate cli",
        "--check-config",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "",
        "cert request --issuer ca",
        "cert request a.test",
        "cert list --status lost",
        "cert update a.test",
        "cert update --reuse-key",
        "cert update a.test --auto-renew --no-auto-renew",
        "cert update a.test --reuse-key --no-reuse-key",
        "cert update a.test --profile short --clear-profile",
        "cert update a.test --drift-port 8443 --clear-drift",
        "cert pause",
        "cert revoke a.test --reason superseded --replace --no-replace",
        "job list --issuer ca --certificate a.test",
        "cert list -o xml",
        "project update demo",
        "project update demo --drift maybe",
        "project update demo --drift-interval soon",
        "drift scan",
        "drift scan a.test --all",
        "drift list --state lost",
        "cert download a.test",
        "cert describe a.test --timeout soon",
        "token create ci",
        "token create ci --role king",
        "token create ci --role owner --expires-in never",
        "admin bootstrap",
        "job get crt_00000000000000000000000000000001",
    ] {
        assert!(parse(line).is_err(), "{line:?} was taken");
    }
}

#[test]
fn no_option_takes_a_secret() {
    fn options(command: &clap::Command, found: &mut Vec<String>) {
        found.extend(command.get_arguments().filter_map(|option| option.get_long().map(str::to_owned)));
        command.get_subcommands().for_each(|command| options(command, found));
    }
    let mut found = Vec::new();
    options(&Cli::command(), &mut found);
    assert!(found.contains(&"token-file".to_owned()));
    for option in found {
        let named = ["token", "secret", "password"].iter().any(|word| option.contains(word));
        assert!(!named || option.ends_with("-file"), "--{option} takes a secret");
    }
}

#[test]
fn the_version_is_told() {
    assert_eq!(parse("--version").unwrap_err().kind(), ErrorKind::DisplayVersion);
}
