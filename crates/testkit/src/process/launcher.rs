// SPDX-License-Identifier: Apache-2.0
//! Starting processes in one of two lifetimes: with us, for tests; detached, for `cargo xtask up`.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, ensure};

use super::identity::ProcessId;
use super::launch::{Launch, Process};
use super::spawner;
use super::state::StateFile;
use crate::fetch::find_in_path;
use crate::network::Host;
use crate::progress::say;

/// What a child sees of our own environment; the rest would make runs differ between machines.
const INHERITED: &[&str] =
    &["PATH", "HOME", "TMPDIR", "LANG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE", "LD_LIBRARY_PATH"];

/// How long a process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It is killed when its handle is dropped, and by the kernel when this process dies.
    WithUs,
    /// It has a session of its own and survives us. It is written down, so that a later process finds it.
    Detached,
}

/// Starts processes under one folder: `logs/NAME.log`, `data/`, and, when detached, `pids/NAME` and `state.json`.
#[derive(Debug)]
pub struct Launcher {
    home: PathBuf,
    lifetime: Lifetime,
    state: Mutex<StateFile>,
    host: Option<Arc<Host>>,
}

impl Launcher {
    /// A launcher with this folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(home: &Path, lifetime: Lifetime) -> anyhow::Result<Self> {
        for folder in ["logs", "data"] {
            let path = home.join(folder);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        let state = Mutex::new(StateFile::load(home)?.unwrap_or(StateFile::empty()?));
        Ok(Self { home: home.to_owned(), lifetime, state, host: None })
    }

    /// A launcher with the same folder, whose processes are on this host of a network.
    ///
    /// # Errors
    /// When the processes are to outlive us, which the network does not.
    pub fn on(&self, host: &Arc<Host>) -> anyhow::Result<Self> {
        ensure!(
            self.lifetime == Lifetime::WithUs,
            "a detached process cannot be on a host that ends with us"
        );
        let state = Mutex::new(StateFile::empty()?);
        Ok(Self { home: self.home.clone(), lifetime: self.lifetime, state, host: Some(host.clone()) })
    }

    /// Its folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its processes' lifetime.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// A folder for one process's data, its owner's alone: one of them holds keys.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn data_dir(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.home.join("data").join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// Starts a process; its output is added to `logs/NAME.log`.
    ///
    /// # Errors
    /// When the binary is not there or cannot be started, or when its record cannot be written.
    pub fn spawn(&self, launch: Launch) -> anyhow::Result<Process> {
        let log = self.home.join("logs").join(format!("{}.log", launch.name));
        let command = self.command(&launch, &log)?;
        let child = match self.lifetime {
            Lifetime::WithUs => spawner::spawn(command),
            Lifetime::Detached => {
                let mut command = command;
                command.spawn().context("starting the process")
            }
        }
        .with_context(|| format!("{} ({})", launch.name, launch.program.display()))?;
        let pid = i32::try_from(child.id()).context("a pid fits an i32")?;
        // A child that ended at once leaves no start time; the handle then finds it ended by its exit status.
        let id = ProcessId::of(pid).unwrap_or(ProcessId { pid, started: 0 });
        let process = Process {
            launch,
            log,
            id,
            child: Mutex::new(child),
            dies_with_us: self.lifetime == Lifetime::WithUs,
        };
        if self.lifetime == Lifetime::Detached {
            let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            state.record(&self.home, process.launch(), id)?;
        }
        Ok(process)
    }

    fn command(&self, launch: &Launch, log: &Path) -> anyhow::Result<Command> {
        ensure!(
            launch.program.is_file(),
            "{} is not there; build it first (cargo build --workspace --bins)",
            launch.program.display()
        );
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let mut command = self.wrapped(&launch.program);
        command.args(&launch.args).env_clear().envs(&launch.env);
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name).filter(|_| !launch.env.contains_key(*name)) {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(command)
    }

    /// The program behind the small tools that give it its lifetime and its host. Each tool ends in exec, so the pid
    /// stays.
    fn wrapped(&self, program: &Path) -> Command {
        let (tool, args): (&str, &[&str]) = match self.lifetime {
            Lifetime::WithUs => ("setpriv", &["--pdeathsig", "KILL", "--"]),
            Lifetime::Detached => ("setsid", &[]),
        };
        let mut words: Vec<OsString> = Vec::new();
        let found = find_in_path(tool);
        if let Some(tool) = &found {
            words.push(tool.into());
            words.extend(args.iter().map(OsString::from));
        } else {
            say(format_args!(
                "{tool} (util-linux) is not here: {} may outlive a crash of this process",
                program.display()
            ));
        }
        if let Some(host) = &self.host {
            words.extend(["nsenter".into(), format!("--net={}", host.path().display()).into(), "--".into()]);
        }
        words.push(program.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if found.is_none() {
            command.process_group(0);
            return command;
        }
        if self.lifetime == Lifetime::WithUs {
            // Out of the terminal's foreground group: Ctrl-C reaches us, and we end our children in order.
            command.process_group(0);
        }
        command
    }
}
