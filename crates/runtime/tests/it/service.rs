// SPDX-License-Identifier: Apache-2.0
//! The smallest service, as a process of its own: this test binary, started again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cap_core::health::{Check, Probe};
use cap_runtime::config::WorkerConfig;
use cap_runtime::{CommonArgs, Exit, Failure, Process, Role, run_with};
use rustix::process::{Pid, Signal, kill_process};

/// What a started process is told to do; without it this binary is only tests.
const MANNERS: &str = "CAP_TEST_MANNERS";
const CHECK_ONLY: &str = "CAP_TEST_CHECK_ONLY";
/// No step of these processes takes a second; beyond this the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Not a claim: the body of the processes that the claims start.
#[test]
fn body() {
    let Ok(manners) = std::env::var(MANNERS) else { return };
    let args = CommonArgs { config: None, check_config: std::env::var_os(CHECK_ONLY).is_some() };
    let role = if manners == "api" { Role::Api } else { Role::Worker };
    let exit = run_with(role, &args, |process, worker: WorkerConfig| behave(manners, process, worker));
    std::process::exit(exit.code().into());
}

/// A probe that always passes.
struct Well(Check);

#[async_trait]
impl Probe for Well {
    fn check(&self) -> Check {
        self.0
    }

    async fn probe(&self) -> Result<(), String> {
        Ok(())
    }
}

async fn behave(manners: String, process: Process, _worker: WorkerConfig) -> Result<(), Failure> {
    let (soft, hard) = (process.shutdown.soft(), process.shutdown.hard());
    if manners != "blind" {
        for check in [Check::Mongo, Check::Kek, Check::Schema] {
            process.readiness.watch(Arc::new(Well(check)), soft.clone());
        }
    }
    match manners.as_str() {
        "stubborn" => std::future::pending().await,
        "slow" => hard.cancelled().await,
        "tidy" | "blind" | "api" => soft.cancelled().await,
        "tasked" => {
            let told = soft.clone();
            process.shutdown.tasks().spawn(async move {
                told.cancelled().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
                tracing::info!("the task has ended");
            });
            soft.cancelled().await;
        }
        "hermit" => {
            // Ends by itself, yet has a task that nothing stops.
            process.shutdown.tasks().spawn(std::future::pending::<()>());
        }
        #[cfg(feature = "drill")]
        "drilled" => {
            for _ in 0..3 {
                cap_core::fault::point("claim.before");
                cap_core::fault::point("claim.after");
            }
        }
        "panic" => panic!("on purpose"),
        "wrong-kek" => return Err(Failure::new(Exit::WrongKek, anyhow::anyhow!("another key"))),
        "refused" => return Err(Failure::new(Exit::Refused, anyhow::anyhow!("go away"))),
        other => panic!("no such manners: {other}"),
    }
    Ok(())
}

/// A started process; killed when dropped.
pub(crate) struct Service {
    child: Child,
    lines: Receiver<String>,
    pub(crate) log: Vec<String>,
}

impl Service {
    pub(crate) fn start(manners: &str, env: &[(&str, &str)]) -> Self {
        let binary = std::env::current_exe().unwrap();
        let mut child = Command::new(binary)
            .args(["--exact", "service::body", "--nocapture"])
            .env_clear()
            .env(MANNERS, manners)
            .env("CAP_ADMIN_LISTEN", "127.0.0.1:0")
            .env("CAP_INSTANCE_NAME", "test-1")
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, lines, log: Vec::new() }
    }

    pub(crate) fn check_only(manners: &str, env: &[(&str, &str)]) -> Self {
        Self::start(manners, &[env, &[(CHECK_ONLY, "1")]].concat())
    }

    /// Reads the log up to a line that has `part` in it.
    pub(crate) fn line(&mut self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line with {part} in {:#?}", self.log));
            self.log.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Where its admin listener is, once it is open.
    pub(crate) fn admin(&mut self) -> String {
        let line: serde_json::Value = serde_json::from_str(&self.line("the admin listener is open")).unwrap();
        line["open_at"].as_str().unwrap().to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Reads the log to its end; the exit code.
    pub(crate) fn end(&mut self) -> i32 {
        self.end_status().code().expect("an exit code")
    }

    /// Reads the log to its end; how the process ended.
    pub(crate) fn end_status(&mut self) -> ExitStatus {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push(line);
        }
        // The log has ended, so the process has, or it is stuck and must not hold the test.
        for _ in 0..100 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end: {:#?}", self.log);
    }

    pub(crate) fn logged(&self, part: &str) -> bool {
        self.log.iter().any(|line| line.contains(part))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of the answer to a GET.
pub(crate) fn get(at: &str, target: &str) -> std::io::Result<String> {
    Ok(ask(at, target)?.lines().next().unwrap_or_default().to_owned())
}

/// Asks for readiness until it is there.
pub(crate) fn becomes_ready(at: &str) {
    let deadline = Instant::now() + PATIENCE;
    while get(at, "/readyz").unwrap() != "HTTP/1.1 200 OK" {
        assert!(Instant::now() < deadline, "{}", ask(at, "/readyz?verbose").unwrap());
    }
}

/// The whole answer to a GET.
pub(crate) fn ask(at: &str, target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
