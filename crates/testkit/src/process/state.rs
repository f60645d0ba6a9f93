// SPDX-License-Identifier: Apache-2.0
//! What is written down about detached processes: `state.json` for us, `pids/NAME` (the bare pid) for people.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::identity::{ProcessId, boot_id};
use super::launch::Launch;

const FILE: &str = "state.json";

/// One detached process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Which process it is.
    pub id: ProcessId,
    /// What it was started with.
    pub launch: Launch,
}

/// The processes of one local stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateFile {
    /// The boot in which they were started.
    pub boot: String,
    /// In the order of their start.
    pub processes: Vec<Record>,
    /// Whether the stack came up whole. Without it an `up` was cut short.
    pub complete: bool,
}

impl StateFile {
    /// With nothing in it.
    ///
    /// # Errors
    /// When the boot's name cannot be read.
    pub fn empty() -> anyhow::Result<Self> {
        Ok(Self { boot: boot_id()?, processes: Vec::new(), complete: false })
    }

    /// What was written down under this folder, if anything was.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load(home: &Path) -> anyhow::Result<Option<Self>> {
        let path = home.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
                format!("{} is damaged; remove it when nothing of it runs any more", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The recorded processes that run.
    ///
    /// # Errors
    /// When the boot's name cannot be read.
    pub fn alive(&self) -> anyhow::Result<Vec<&Record>> {
        let same_boot = boot_id()? == self.boot;
        Ok(self.processes.iter().filter(|record| same_boot && record.id.is_alive()).collect())
    }

    /// Writes a process down, in the place of an earlier one of its name.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn record(&mut self, home: &Path, launch: &Launch, id: ProcessId) -> anyhow::Result<()> {
        let record = Record { id, launch: launch.clone() };
        match self.processes.iter_mut().find(|known| known.launch.name == launch.name) {
            Some(known) => *known = record,
            None => self.processes.push(record),
        }
        self.save(home)?;
        let pids = home.join("pids");
        fs::create_dir_all(&pids).with_context(|| format!("making {}", pids.display()))?;
        replace(&pids.join(&launch.name), format!("{}\n", id.pid).as_bytes())
    }

    /// Writes that the stack came up whole.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn complete(home: &Path) -> anyhow::Result<()> {
        let mut state = Self::load(home)?.context("nothing was started")?;
        state.complete = true;
        state.save(home)
    }

    /// Forgets everything; the logs stay.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget(home: &Path) -> anyhow::Result<()> {
        for gone in [fs::remove_dir_all(home.join("pids")), fs::remove_file(home.join(FILE))] {
            match gone {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("forgetting the processes of {}", home.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn save(&self, home: &Path) -> anyhow::Result<()> {
        replace(&home.join(FILE), &serde_json::to_vec_pretty(self)?)
    }
}

/// A reader sees the old text or the new one, never half of it.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes).with_context(|| format!("writing {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn launch(name: &str) -> Launch {
        Launch {
            name: name.into(),
            program: "/bin/true".into(),
            args: vec![],
            env: Default::default(),
            address: String::new(),
        }
    }

    #[test]
    fn a_second_start_takes_the_place_of_the_first() {
        let home = Scratch::create().unwrap();
        let me = ProcessId::current().unwrap();
        let mut state = StateFile::empty().unwrap();
        state.record(home.path(), &launch("api-0"), ProcessId { pid: 1, started: 1 }).unwrap();
        state.record(home.path(), &launch("api-0"), me).unwrap();
        let read = StateFile::load(home.path()).unwrap().unwrap();
        assert_eq!(read.processes.len(), 1);
        assert_eq!(read.alive().unwrap()[0].id, me);
        assert_eq!(fs::read_to_string(home.path().join("pids/api-0")).unwrap(), format!("{}\n", me.pid));
    }

    #[test]
    fn nothing_of_another_boot_is_alive() {
        let mut state = StateFile::empty().unwrap();
        let home = Scratch::create().unwrap();
        state.record(home.path(), &launch("ca"), ProcessId::current().unwrap()).unwrap();
        state.boot = "another".into();
        assert!(state.alive().unwrap().is_empty());
    }
}
