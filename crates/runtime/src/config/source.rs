// SPDX-License-Identifier: Apache-2.0
//! Where values come from: the YAML file, the environment over it, and the files that hold secrets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::catalogue;
use super::fault::Fault;
use super::nearest::nearest;
use super::secret_file;
use super::yaml;

/// A value and where it was given, for messages. Held as a secret whatever it is: none of it may be printed by
/// accident.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) value: SecretString,
    pub(super) origin: String,
}

/// Values by name, and what was wrong with giving them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) values: BTreeMap<String, Given>,
    pub(super) faults: Vec<Fault>,
}

/// What one source says, by variable: the value itself, or the file that it is in.
type Layer = BTreeMap<String, Pair>;

#[derive(Debug, Default)]
struct Pair {
    value: Option<Given>,
    file: Option<Given>,
}

impl Sources {
    pub(super) fn read(file: Option<&Path>, env: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut sources = Self::default();
        let mut layer = file.map(|path| sources.file_layer(path)).unwrap_or_default();
        // A variable given in the environment hides what the file says about it, in either form.
        layer.extend(sources.env_layer(env));
        for (name, pair) in layer {
            sources.settle(name, pair);
        }
        sources
    }

    fn file_layer(&mut self, path: &Path) -> Layer {
        let mut layer = Layer::new();
        let (entries, readable_by_others) = match yaml::read(path) {
            Ok(read) => read,
            Err(fault) => {
                self.faults.push(fault);
                return layer;
            }
        };
        for (key, value) in entries {
            let upper = key.to_ascii_uppercase();
            let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            let origin = format!("{name} (key `{key}` of {})", path.display());
            let secret = catalogue::find(&name).is_some_and(|variable| variable.secret);
            if secret && readable_by_others && !value.is_empty() {
                self.faults.push(Fault::new(
                    origin.as_str(),
                    "a secret in a file that others may read or write",
                    format!("chmod 0600 {}", path.display()),
                ));
            }
            self.place(&mut layer, &name, value, origin);
        }
        layer
    }

    fn env_layer(&mut self, env: impl Iterator<Item = (OsString, OsString)>) -> Layer {
        let mut layer = Layer::new();
        for (name, value) in env {
            let Some(name) = name.to_str().filter(|name| name.starts_with("CAP_")) else {
                continue;
            };
            if catalogue::is_foreign(name) {
                continue;
            }
            match value.into_string() {
                Ok(value) => self.place(&mut layer, name, value, name.to_owned()),
                Err(_) => self.faults.push(Fault::new(name, "its value is not UTF-8", "give it as UTF-8")),
            }
        }
        layer
    }

    /// Puts one entry where it belongs, or says why not.
    fn place(&mut self, layer: &mut Layer, name: &str, value: String, origin: String) {
        let base = name.strip_suffix("_FILE");
        let of_secret = base.filter(|base| catalogue::find(base).is_some_and(|variable| variable.secret));
        let (base, is_file) = match (catalogue::find(name), of_secret) {
            (Some(_), _) => (name, false),
            (None, Some(base)) => (base, true),
            (None, None) => {
                let remedy = match nearest(name) {
                    Some(meant) => format!("did you mean {meant}? Otherwise remove it"),
                    None => "remove it; the configuration reference has every name".to_owned(),
                };
                self.faults.push(Fault::new(origin, "no such variable", remedy));
                return;
            }
        };
        // Empty is not given.
        if value.is_empty() {
            return;
        }
        let pair = layer.entry(base.to_owned()).or_default();
        let slot = if is_file { &mut pair.file } else { &mut pair.value };
        let value = SecretString::from(value);
        if let Some(first) = slot.replace(Given { value, origin: origin.clone() }) {
            let both = format!("also given as {}", first.origin);
            self.faults.push(Fault::new(origin, both, "keep one of the two"));
        }
    }

    fn settle(&mut self, name: String, pair: Pair) {
        match (pair.value, pair.file) {
            (Some(value), None) => {
                self.values.insert(name, value);
            }
            (None, Some(file)) => match secret_file::read(Path::new(file.value.expose_secret())) {
                Ok(value) if value.expose_secret().is_empty() => {}
                Ok(value) => {
                    let origin = format!("{} ({})", file.origin, file.value.expose_secret());
                    self.values.insert(name, Given { value, origin });
                }
                Err((why, remedy)) => self.faults.push(Fault::new(file.origin, why, remedy)),
            },
            (Some(value), Some(file)) => self.faults.push(Fault::new(
                value.origin,
                format!("also given as {}", file.origin),
                "keep one of the two",
            )),
            (None, None) => {}
        }
    }
}
