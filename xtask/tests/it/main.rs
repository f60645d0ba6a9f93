// SPDX-License-Identifier: Apache-2.0
//! `up`, `status` and `down` as a person runs them, in a folder of their own: with the replica set and the CA only,
//! because the services are tested where they live.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use cap_testkit::process::{ProcessId, Signal, StateFile};
use cap_testkit::scratch::Scratch;
use cap_testkit::wait::{self, Pending};

const PROCESSES: usize = 6;
const LIMIT: Duration = Duration::from_secs(60);

struct Checkout {
    scratch: Scratch,
}

impl Checkout {
    fn new() -> Self {
        Self { scratch: Scratch::create().unwrap() }
    }

    fn home(&self) -> PathBuf {
        self.scratch.path().join("local")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).env("CAP_TEST_LOCAL_HOME", self.home());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        (status.code().unwrap(), text)
    }

    /// Starts `up` and lets it go on until it has started something.
    async fn up_half_way(&self) -> Child {
        let child = self.command(&["up", "--infra-only"]).spawn().unwrap();
        wait::until("a first process", LIMIT, || async {
            match alive(&self.home()).len() {
                0 => Err(Pending::not_yet("none")),
                _ => Ok(()),
            }
        })
        .await
        .unwrap();
        child
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        self.run(&["down", "--wipe"]);
    }
}

fn alive(home: &Path) -> Vec<ProcessId> {
    let Ok(Some(state)) = StateFile::load(home) else { return Vec::new() };
    state.alive().unwrap().into_iter().map(|record| record.id).collect()
}

fn process(home: &Path, name: &str) -> ProcessId {
    let state = StateFile::load(home).unwrap().unwrap();
    state.processes.iter().find(|record| record.launch.name == name).unwrap().id
}

/// Waits until a process that was killed has ended: the kernel takes a moment.
async fn gone(killed: ProcessId) {
    let look =
        || async { if killed.is_alive() { Err(Pending::not_yet("it is still there")) } else { Ok(()) } };
    wait::until("a killed process to be gone", Duration::from_secs(30), look).await.unwrap();
}

#[tokio::test]
async fn what_comes_up_is_shown_comes_back_and_goes_down() {
    let checkout = Checkout::new();
    let home = checkout.home();
    assert_eq!(checkout.run(&["status"]).0, 1);

    let (code, text) = checkout.run(&["up", "--infra-only"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(alive(&home).len(), PROCESSES);
    assert_eq!(checkout.run(&["status"]).0, 0);
    let env = std::fs::read_to_string(home.join("env")).unwrap();
    for name in
        ["CAP_MONGO_URI=", "CAP_ACME_DIRECTORY_URL=", "CAP_CHALLENGE_ADDR=", "CAP_DNS_MANAGEMENT_URL="]
    {
        assert!(env.contains(name), "{env}");
    }
    let pid: i32 = std::fs::read_to_string(home.join("pids/ca")).unwrap().trim().parse().unwrap();
    assert_eq!(pid, process(&home, "ca").pid);

    let killed = process(&home, "mongod-1");
    killed.signal(Signal::KILL).unwrap();
    gone(killed).await;
    let (code, text) = checkout.run(&["status"]);
    assert_eq!(code, 3, "{text}");
    let (code, text) = checkout.run(&["up", "--infra-only"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("mongod-1 has ended") && text.contains("is up"), "{text}");
    assert_ne!(process(&home, "mongod-1"), killed);

    let before = alive(&home);
    process(&home, "ca").signal(Signal::STOP).unwrap();
    let (code, text) = checkout.run(&["down"]);
    assert_eq!(code, 0, "{text}");
    assert!(!before.iter().any(ProcessId::is_alive), "a paused process ends too");
    assert!(!home.join("env").exists() && home.join("logs/ca.log").is_file());
    assert_eq!(checkout.run(&["down", "--wipe"]).0, 0);
    assert!(!home.exists());
}

#[tokio::test]
async fn an_interrupted_up_leaves_nothing() {
    let checkout = Checkout::new();
    let child = checkout.up_half_way().await;
    let started = alive(&checkout.home());
    ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap().signal(Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
    assert!(!started.iter().any(ProcessId::is_alive));
    assert_eq!(checkout.run(&["status"]).0, 1);
}

#[tokio::test]
async fn a_killed_up_is_cleaned_by_the_next() {
    let checkout = Checkout::new();
    let mut child = checkout.up_half_way().await;
    child.kill().unwrap();
    child.wait().unwrap();
    let left = alive(&checkout.home());
    assert!(!left.is_empty());
    let (code, text) = checkout.run(&["up", "--infra-only"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("cut short"), "{text}");
    assert!(!left.iter().any(ProcessId::is_alive));
    assert_eq!(alive(&checkout.home()).len(), PROCESSES);
}

#[test]
fn a_server_that_cannot_be_had_is_said_with_what_to_do() {
    let checkout = Checkout::new();
    let output =
        checkout.command(&["up", "--infra-only"]).env("CAP_TEST_MONGOD", "/bin/false").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("CAP_TEST_MONGOD"), "{text}");
    assert!(alive(&checkout.home()).is_empty());
}
