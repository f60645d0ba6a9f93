// SPDX-License-Identifier: Apache-2.0
//! Configuration: `CAP_*` variables or a YAML file, parsed as a whole, with every fault told at once.
//!
//! ```no_run
//! # use cap_runtime::{CommonArgs, Config};
//! # use cap_runtime::config::{ApiConfig, Faults, KekConfig, MongoConfig};
//! # fn load(args: &CommonArgs) -> Result<(), Faults> {
//! let (mongo, kek, api) = Config::load(args).finish::<(MongoConfig, KekConfig, ApiConfig)>()?;
//! # Ok(()) }
//! ```

mod api;
mod catalogue;
mod client;
mod duration;
mod fault;
mod group;
mod kek;
mod limits;
mod mongo;
mod mongo_uri;
mod nearest;
mod outbound;
mod reference;
mod retention;
mod scheduler;
pub(crate) mod secret_file;
mod service;
mod source;
mod worker;
mod yaml;

pub use api::{ApiConfig, TlsFiles};
pub use catalogue::{Reader, Unset, VARIABLES, Variable};
pub use client::ClientConfig;
pub use duration::{NotADuration, format_duration, parse_duration};
pub use fault::{Fault, Faults};
pub use group::Group;
pub use kek::{KekConfig, KekProvider};
pub use limits::{ApiLimits, Network};
pub use mongo::MongoConfig;
pub use outbound::OutboundConfig;
pub use reference::reference_markdown;
pub use scheduler::SchedulerConfig;
pub use service::{LogFormat, ServiceConfig};
pub use worker::WorkerConfig;

use cap_core::retention::Retention;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::args::CommonArgs;
use source::{Given, Sources};

/// What was given, and what was found wrong with it so far. A getter that finds a fault notes it and answers
/// nothing; [`Config::finish`] tells all of them.
#[derive(Debug)]
pub struct Config {
    values: BTreeMap<String, Given>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
    /// Whether only the spelling of what was given counts: what another binary reads may be missing here.
    spelling_only: bool,
}

/// Every group there is, so that a value is refused wherever it is given and not only by the process that reads it.
type Every = (
    (ServiceConfig, MongoConfig, KekConfig),
    (ApiConfig, WorkerConfig, SchedulerConfig, ClientConfig, Retention, OutboundConfig),
);

impl Config {
    /// Reads the file that `--config` names and this process's environment.
    #[must_use]
    pub fn load(args: &CommonArgs) -> Self {
        Self::read(args.config.as_deref(), std::env::vars_os())
    }

    /// Reads a file and an environment, which wins.
    pub fn read(file: Option<&Path>, env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let Sources { values, faults } = Sources::read(file, env.into_iter());
        let warnings = Vec::new();
        Self { values, faults, warnings, spelling_only: false }
    }

    /// The group (or tuple of groups) that the process needs.
    ///
    /// # Errors
    /// When anything is wrong, in what was read now or before, or in the spelling of what others read: all of it.
    pub fn finish<G: Group>(&mut self) -> Result<G, Faults> {
        let group = G::read(self);
        self.spelling_only = true;
        let _ = Every::read(self);
        self.spelling_only = false;
        if let Some(faults) = Faults::of(std::mem::take(&mut self.faults)) {
            return Err(faults);
        }
        group.ok_or_else(|| {
            let kind = std::any::type_name::<G>();
            Faults::from(Fault::new(kind, "it was refused without a reason", "report this bug"))
        })
    }

    /// Notes a fault in what is missing, or in what does not go together.
    pub fn fault(&mut self, fault: Fault) {
        if !self.spelling_only {
            self.misspelt(fault);
        }
    }

    /// Notes a fault in a value by itself; once, however many groups read it.
    fn misspelt(&mut self, fault: Fault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Notes what the operator must hear at each start, though it is allowed.
    pub fn warn(&mut self, warning: impl Into<String>) {
        if !self.spelling_only {
            self.warnings.push(warning.into());
        }
    }

    /// What the operator must hear at this start.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether a variable was given.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A secret. Notes a fault when it is required and not given.
    pub fn secret(&mut self, name: &'static str) -> Option<SecretString> {
        self.raw(name)
    }

    /// A text.
    pub fn string(&mut self, name: &'static str) -> Option<String> {
        self.raw(name).map(|value| value.expose_secret().to_owned())
    }

    /// A path. Whether anything is there is for its user to find out.
    pub fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        self.string(name).map(PathBuf::from)
    }

    /// `true` or `false`.
    pub fn bool(&mut self, name: &'static str) -> Option<bool> {
        self.parse(name, "write true or false", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("not a boolean".to_owned()),
        })
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
        self.parse(name, &remedy, |text| {
            let number: u64 = text.parse().map_err(|_| "not a whole number".to_owned())?;
            let inside = range.contains(&number).then_some(number);
            inside.ok_or_else(|| "out of range".to_owned())
        })
    }

    /// A duration within `range`.
    pub fn duration(&mut self, name: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let [from, to] = [range.start(), range.end()].map(|end| format_duration(*end));
        let remedy = format!("write a duration from {from} to {to}, like 250ms, 10s, 5m, 1h or 30d");
        self.parse(name, &remedy, |text| {
            let duration = parse_duration(text).map_err(|_| "not a duration".to_owned())?;
            let inside = range.contains(&duration).then_some(duration);
            inside.ok_or_else(|| "out of range".to_owned())
        })
    }

    /// An address to listen on.
    pub fn socket_addr(&mut self, name: &'static str) -> Option<SocketAddr> {
        let remedy = "write an IP address and a port, like 127.0.0.1:8181 or [::]:8181";
        self.parse(name, remedy, |text| text.parse().map_err(|_| "not an IP address with a port".to_owned()))
    }

    /// A variable's value, or its default, through `parse`; what that says against it becomes a fault. The value is
    /// quoted in the fault unless the variable is a secret.
    pub fn parse<T>(
        &mut self,
        name: &'static str,
        remedy: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.raw(name)?;
        let why = match parse(value.expose_secret()) {
            Ok(parsed) => return Some(parsed),
            Err(why) => why,
        };
        let what = self.values.get(name).map_or(name, |given| given.origin.as_str());
        let why = if variable(name).secret { why } else { format!("`{}`: {why}", value.expose_secret()) };
        let fault = Fault::new(what, why, remedy);
        self.misspelt(fault);
        None
    }

    fn raw(&mut self, name: &'static str) -> Option<SecretString> {
        if let Some(given) = self.values.get(name) {
            return Some(given.value.clone());
        }
        match variable(name).unset {
            Unset::Value(value) => Some(SecretString::from(value)),
            Unset::Words(_) | Unset::Nothing => None,
            Unset::Required => {
                let file = if variable(name).secret { format!(", or {name}_FILE") } else { String::new() };
                self.fault(Fault::new(name, "it is required and not given", format!("set it{file}")));
                None
            }
        }
    }

    /// The numbered keys of the `env` KEK provider that were given.
    fn kek_values(&self) -> impl Iterator<Item = (u32, &Given)> {
        let numbered = |(name, given): (&'_ String, _)| Some((catalogue::kek_version(name)?, given));
        self.values.iter().filter_map(numbered)
    }
}

/// # Panics
/// When the code asks for a variable that the catalogue does not have: a bug that the first test of the group finds.
fn variable(name: &str) -> &'static Variable {
    catalogue::find(name).unwrap_or_else(|| panic!("{name} is not in the catalogue"))
}

#[cfg(test)]
mod tests;
