// SPDX-License-Identifier: Apache-2.0
//! One run of the program: what it was given, what it wrote where, how it ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cap_testkit::process::Binaries;
use serde_json::Value;
use tokio::process::Command;

/// More than any wait of the program itself: two minutes unless a test says less.
const WITHIN: Duration = Duration::from_secs(180);

/// The program with an environment that holds nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Cli {
    program: PathBuf,
    env: BTreeMap<String, String>,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    /// Stdout.
    pub(crate) data: String,
    /// Stderr.
    pub(crate) talk: String,
}

impl Cli {
    pub(crate) fn bare() -> Self {
        Self { program: Binaries::find().unwrap().path("certautopilot").unwrap(), env: BTreeMap::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.command(&self.program);
        command.args(args);
        let ran = finish(command).await;
        // Nothing here is a terminal, so nothing may be written for one.
        for text in [&ran.data, &ran.talk] {
            assert!(!text.contains('\x1b') && !text.contains('\r'), "{args:?}: {text:?}");
        }
        ran
    }

    /// A line for bash, in which `$CLI` is the program.
    pub(crate) async fn shell(&self, line: &str) -> Ran {
        let mut command = self.command(Path::new("bash"));
        let path = std::env::var_os("PATH").unwrap();
        command.arg("-c").arg(line).env("CLI", &self.program).env("PATH", path);
        finish(command).await
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.env).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

async fn finish(mut command: Command) -> Ran {
    let output = tokio::time::timeout(WITHIN, command.output()).await.unwrap().unwrap();
    let ran = Ran {
        code: output.status.code(),
        data: String::from_utf8(output.stdout).unwrap(),
        talk: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!ran.talk.contains("panicked"), "{ran:?}");
    ran
}

impl Ran {
    /// It ended with this code.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.data, self.talk);
        self
    }

    /// It was refused with this code: no data, and talk that says what, why and what to do.
    #[track_caller]
    pub(crate) fn refuses(self, code: i32, told: &[&str]) -> Self {
        let ran = self.ends(code);
        assert_eq!(ran.data, "", "{}", ran.talk);
        assert!(ran.talk.contains("error: ") && ran.talk.contains("\n  hint: "), "{}", ran.talk);
        ran.tells(told)
    }

    /// Its talk has all of these.
    #[track_caller]
    pub(crate) fn tells(self, told: &[&str]) -> Self {
        for text in told {
            assert!(self.talk.contains(text), "{text:?} is not in: {}", self.talk);
        }
        self
    }

    /// Its data, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {:?}", self.data))
    }
}
