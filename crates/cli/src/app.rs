// SPDX-License-Identifier: Apache-2.0
//! What every verb has at hand: options, output, time, luck, and a client when it wants one.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cap_client::{All, Client, PAGES_MAX, PageQuery, follow};
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_core::page::Slice;
use cap_runtime::config::{ClientConfig, Config, Group, format_duration};
use cap_runtime::{CommonArgs, clock::SystemClock, entropy::OsEntropy};
use jiff::Timestamp;
use serde::Serialize;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Form, Output};

/// Octets of a file with CA certificates: the bundles of whole platforms take a quarter of a MiB.
const CA_OCTETS: u64 = 4 * 1024 * 1024;

/// What every verb has at hand.
#[derive(Debug)]
pub(crate) struct App {
    /// The options of every command.
    pub(crate) global: Global,
    /// Where it writes.
    pub(crate) output: Output,
    /// Its clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Its luck.
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// A request that `--dry-run` keeps back.
#[derive(Debug, Serialize)]
struct Rehearsal<'a, T: Serialize> {
    method: &'a str,
    path: &'a str,
    body: Option<&'a T>,
}

impl App {
    /// An app with this host's clock and luck.
    pub(crate) fn new(global: Global, output: Output) -> Self {
        Self { global, output, clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) }
    }

    /// Civil time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A part of the configuration.
    pub(crate) fn config<G: Group>(&mut self) -> Result<G, Failure> {
        let args = CommonArgs { config: self.global.config.clone(), check_config: self.global.check_config };
        let mut config = Config::load(&args);
        let group = config.finish::<G>()?;
        for warning in config.warnings() {
            self.output.say(&format!("warning: {warning}"))?;
        }
        Ok(group)
    }

    /// A client of the API, with the token if there is one.
    pub(crate) fn client(&mut self) -> Result<Client, Failure> {
        let config: ClientConfig = self.config()?;
        let url = self.global.api_url.clone().or(config.api_url).ok_or_else(|| {
            Failure::usage("the API is not known", "neither --api-url nor CAP_API_URL is given")
                .hint("set CAP_API_URL, as in https://certs.example.test")
        })?;
        let ca =
            config.ca_file.as_deref().map(|path| read_file(path, CA_OCTETS, "CAP_CA_FILE")).transpose()?;
        if config.token.is_some() && in_the_clear(&url) {
            self.output.say(&format!("warning: the token goes to {url} unencrypted; use https://"))?;
        }
        Ok(Client::new(&url, config.token.as_ref(), ca.as_deref())?.telling(tell_wait))
    }

    /// A client, and the project that the command is about: the one named, or the only one.
    pub(crate) async fn client_and_project(&mut self) -> Result<(Client, String), Failure> {
        let client = self.client()?;
        if let Some(project) = &self.global.project {
            return Ok((client, project.clone()));
        }
        let projects = client.projects(&PageQuery { limit: Some(10), cursor: None }).await?;
        let mut names: Vec<String> = projects.items.into_iter().map(|project| project.name).collect();
        match (names.len(), projects.next_cursor) {
            (0, _) => Err(Failure::usage("there is no project", "the token sees none")
                .hint("`certautopilot project create NAME` makes one")),
            (1, None) => Ok((client, names.remove(0))),
            (_, more) => {
                let and_more = if more.is_some() { ", and more" } else { "" };
                let why = format!("there are {}{and_more}", names.join(", "));
                Err(Failure::usage("the project is not named", why).hint("add --project"))
            }
        }
    }

    /// Reads and shows a whole list; says so when it is too long to be read as a whole.
    pub(crate) fn list<T: crate::output::Shown>(&mut self, all: &All<T>) -> Result<(), Failure> {
        self.output.list(&all.items, self.clock.now())?;
        if all.complete {
            return Ok(());
        }
        let why = format!("it has more than the {} items shown", all.items.len());
        Err(Failure::new(Exit::Partly, "the list is not complete", why).hint("narrow it down"))
    }

    /// With `--dry-run`, shows the request instead of sending it.
    pub(crate) fn rehearse<T: Serialize>(
        &mut self,
        method: &str,
        path: &[&str],
        body: Option<&T>,
    ) -> Result<bool, Failure> {
        if !self.global.dry_run {
            return Ok(false);
        }
        let path = format!("/api/v1/{}", path.join("/"));
        let rehearsal = Rehearsal { method, path: &path, body };
        match (self.output.form, body) {
            (Form::Json | Form::Yaml, _) => self.output.document(&rehearsal)?,
            (Form::Table | Form::Wide | Form::Name, None) => {
                self.output.text(&format!("{method} {path}\n"))?
            }
            (Form::Table | Form::Wide | Form::Name, Some(body)) => {
                self.output.text(&format!("{method} {path}\n"))?;
                self.output.document(body)?;
            }
        }
        self.output.say("Nothing was sent: this was a dry run.")?;
        Ok(true)
    }

    /// Asks before something is destroyed, unless `--yes` has answered already.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<(), Failure> {
        if self.global.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !self.output.talk_is_terminal {
            return Err(Failure::usage(question, "there is nobody to ask").hint("add --yes"));
        }
        self.output.say(&format!("{question}? Type yes to go on."))?;
        let mut answer = String::new();
        let read = io::stdin().lock().take(16).read_line(&mut answer);
        read.map_err(|error| Failure::new(Exit::Error, "the answer cannot be read", error.to_string()))?;
        if answer.trim() == "yes" {
            return Ok(());
        }
        Err(Failure::new(Exit::Error, question, "it was not confirmed").hint("type yes, or add --yes"))
    }
}

/// Every item of a list, within the bound on pages.
pub(crate) async fn every<T>(
    page: impl AsyncFnMut(PageQuery) -> Result<Slice<T>, cap_client::ClientError>,
) -> Result<All<T>, Failure> {
    Ok(follow(PAGES_MAX, page).await?)
}

/// Reads a small file that the command was given.
pub(crate) fn read_file(path: &Path, octets: u64, what: &str) -> Result<Vec<u8>, Failure> {
    let refuse = |why: String| {
        let exit = if what.starts_with("CAP_") { Exit::Config } else { Exit::Usage };
        Failure::new(exit, format!("{what}: {} cannot be read", path.display()), why)
            .hint("name a file that you may read")
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(octets + 1).read_to_end(&mut bytes));
    let read = read.map_err(|error| refuse(error.to_string()))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > octets {
        return Err(refuse(format!("it is longer than {octets} octets")));
    }
    Ok(bytes)
}

/// Says that the API asked to wait, and why.
fn tell_wait(wait: Duration, status: u16) {
    let why = if status == 429 { "asks for fewer requests" } else { "cannot answer now" };
    let wait = format_duration(Duration::from_secs(wait.as_secs().max(1)));
    // With stderr gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "the API {why} ({status}); trying again in {wait}");
}

/// Whether what is sent to `url` can be read on the way.
fn in_the_clear(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return false };
    let is_local = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && !is_local
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    fn rehearsed(line: &[&str], form: Form) -> (bool, String) {
        let cli = Cli::try_parse_from([&["certautopilot", "version"], line].concat()).unwrap();
        let (output, out, _) = Output::kept(form);
        let mut app = App::new(cli.global, output);
        let kept_back = app.rehearse("POST", &["projects"], Some(&[1])).unwrap();
        (kept_back, out.text())
    }

    #[test]
    fn only_a_dry_run_keeps_the_request_back() {
        assert_eq!(rehearsed(&[], Form::Table), (false, String::new()));
        let (kept_back, shown) = rehearsed(&["--dry-run"], Form::Table);
        assert!(kept_back && shown.starts_with("POST /api/v1/projects\n["), "{shown}");
        let (_, shown) = rehearsed(&["--dry-run"], Form::Json);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown, serde_json::json!({"method": "POST", "path": "/api/v1/projects", "body": [1]}));
    }

    #[test]
    fn nothing_is_destroyed_unasked() {
        let cli = |line: &[&str]| Cli::try_parse_from(line).unwrap().global;
        let mut app = App::new(cli(&["certautopilot", "version"]), Output::kept(Form::Table).0);
        assert_eq!(app.confirm("delete it").unwrap_err().exit(), Exit::Usage);
        let mut app = App::new(cli(&["certautopilot", "version", "--yes"]), Output::kept(Form::Table).0);
        assert!(app.confirm("delete it").is_ok());
    }

    #[test]
    fn only_loopback_may_be_plain() {
        for url in ["https://a.test", "http://127.0.0.1:8181", "http://[::1]:1", "http://localhost:8181"] {
            assert!(!in_the_clear(url), "{url}");
        }
        for url in ["http://a.test", "http://10.0.0.1:8181", "http://localhost.evil.test"] {
            assert!(in_the_clear(url), "{url}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        std::fs::write(&path, [b'x'; 11]).unwrap();
        assert_eq!(read_file(&path, 11, "--trust-roots").unwrap().len(), 11);
        assert_eq!(read_file(&path, 10, "--trust-roots").unwrap_err().exit(), Exit::Usage);
        assert_eq!(read_file(&path, 10, "CAP_CA_FILE").unwrap_err().exit(), Exit::Config);
    }
}
