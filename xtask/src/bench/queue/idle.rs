// SPDX-License-Identifier: Apache-2.0
//! What idle processes ask the database: the real services, each command as the primary logs it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cap_testkit::mongo::driver::bson::doc;
use cap_testkit::process::{Binaries, Launcher, Lifetime};
use cap_testkit::progress::say;
use cap_testkit::scratch::Scratch;
use cap_testkit::stack::{Infrastructure, Role, Stack, StackOptions};
use serde_json::Value;

use crate::workspace;

/// From readiness to the first measured moment: what a start asks is not idle.
const SETTLE: Duration = Duration::from_secs(15);
/// What drivers send on connections of their own to see how the members are; one leaves no work behind.
const MONITORING: [&str; 3] = ["hello", "isMaster", "ismaster"];

/// Commands of each process in a minute, by name; the driver's monitoring apart.
pub(crate) type Idle = BTreeMap<String, Operations>;

#[derive(Debug, Default)]
pub(crate) struct Operations {
    pub(crate) asked: BTreeMap<String, f64>,
    pub(crate) monitoring: f64,
}

impl Operations {
    pub(crate) fn sum(&self) -> f64 {
        self.asked.values().sum()
    }
}

/// One api, one worker, a leader and a standby, that nobody asks anything.
pub(crate) async fn run(span: Duration) -> anyhow::Result<Idle> {
    let scratch = Scratch::create()?;
    let launcher = std::sync::Arc::new(Launcher::new(scratch.path(), Lifetime::WithUs)?);
    let mut options = StackOptions::as_shipped().with_all("CAP_LOG", "warn");
    (options.apis, options.workers) = (1, 1);
    let infrastructure = Infrastructure::start(&launcher, &options).await?;
    let binaries = Binaries::in_folder(&workspace::bin_dir(true)?);
    let stack = Stack::start_in(&launcher, binaries, infrastructure, &options).await?;
    let set = stack.infrastructure.replica_set.as_ref().context("the stack has no replica set")?;
    tokio::time::sleep(SETTLE).await;
    let primary = set.primary().await?;
    let log = set.process(primary)?.log();
    let address = &set.process(primary)?.launch().address;
    let server = address.rsplit(':').next().context("a member has a port")?.parse()?;
    set.command(primary, doc! { "profile": 0, "slowms": -1 }).await?;
    let from = fs::metadata(log)?.len();
    say(format_args!("counting what idle processes ask for {} s", span.as_secs()));
    tokio::time::sleep(span).await;
    let to = fs::metadata(log)?.len();
    let services = stack.apis.iter().chain(&stack.workers).chain(&stack.schedulers);
    let mut owners = HashMap::new();
    for service in services {
        let leads = service.metrics().await?.contains("certautopilot_leader 1");
        let name = match leads {
            true => format!("{} (leader)", service.name()),
            false if service.name().starts_with(Role::Scheduler.name()) => {
                format!("{} (standby)", service.name())
            }
            false => service.name().to_owned(),
        };
        let ports = ports_of(service.pid(), server)?;
        ensure!(
            !ports.is_empty(),
            "{name} has no connection to the primary, so nothing of it would be counted"
        );
        owners.extend(ports.into_iter().map(|port| (port, name.clone())));
    }
    counted(log, from..to, &owners, span)
}

/// Every command in this part of the primary's log, by who sent it.
fn counted(
    log: &Path,
    part: std::ops::Range<u64>,
    owners: &HashMap<u16, String>,
    span: Duration,
) -> anyhow::Result<Idle> {
    let text = fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    let part =
        text.get(usize::try_from(part.start)?..usize::try_from(part.end)?).context("the log shrank")?;
    let a_minute = 60.0 / span.as_secs_f64();
    let mut idle: Idle = owners.values().map(|owner| (owner.clone(), Operations::default())).collect();
    for line in String::from_utf8_lossy(part).lines() {
        let Some((port, command)) = command_of(line) else { continue };
        let Some(operations) = owners.get(&port).and_then(|owner| idle.get_mut(owner)) else { continue };
        if MONITORING.iter().any(|name| command.starts_with(name)) {
            operations.monitoring += a_minute;
        } else {
            *operations.asked.entry(command).or_default() += a_minute;
        }
    }
    Ok(idle)
}

/// The client's port and the command, of a line about one. Lines about the statements within a command are not about
/// another one.
fn command_of(line: &str) -> Option<(u16, String)> {
    // A command's name is its first field, and the order is lost once it is read.
    let name = line.split("\"command\":{\"").nth(1)?.split('"').next()?.to_owned();
    let line: Value = serde_json::from_str(line).ok()?;
    let attributes = &line["attr"];
    if line["msg"] != "Slow query" || line["c"] != "COMMAND" {
        return None;
    }
    let port = attributes["remote"].as_str()?.rsplit(':').next()?.parse().ok()?;
    let target = &attributes["command"][&name];
    let collection = target.as_str().or_else(|| attributes["command"]["collection"].as_str()).unwrap_or("");
    Some((port, format!("{name} {collection}").trim_end().to_owned()))
}

/// The local ports of a process's TCP connections to the server at this port: to another one, somebody else's connection
/// may have the same.
fn ports_of(pid: i32, server: u16) -> anyhow::Result<HashSet<u16>> {
    let mut sockets = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One may be closed meanwhile.
        let Ok(link) = fs::read_link(entry?.path()) else { continue };
        let link = link.to_string_lossy();
        sockets
            .extend(link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned));
    }
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let port_in = |field: Option<&&str>| u16::from_str_radix(field?.rsplit(':').next()?, 16).ok();
    let port_of = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_its = fields.get(9).is_some_and(|inode| sockets.contains(*inode));
        (is_its && port_in(fields.get(2)) == Some(server)).then(|| port_in(fields.get(1))).flatten()
    };
    Ok(table.lines().filter_map(port_of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_command_is_counted_once_and_for_its_sender() {
        let line = |component: &str| {
            format!(
                r#"{{"c":"{component}","msg":"Slow query","attr":{{"remote":"127.0.0.1:4711","command":{{"find":"jobs","$db":"cap","filter":{{}}}}}}}}"#
            )
        };
        assert_eq!(command_of(&line("COMMAND")), Some((4711, "find jobs".to_owned())));
        assert_eq!(command_of(&line("WRITE")), None);
        assert_eq!(command_of("a line of another kind"), None);
    }

    #[test]
    fn the_cursor_of_a_stream_names_its_collection() {
        let line = r#"{"c":"COMMAND","msg":"Slow query","attr":{"remote":"127.0.0.1:1","command":{"getMore":17,"collection":"leases"}}}"#;
        assert_eq!(command_of(line), Some((1, "getMore leases".to_owned())));
    }

    #[test]
    fn a_process_owns_its_connections_to_that_server_and_to_no_other() {
        let servers = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [server, other] = [0, 1].map(|n: usize| servers[n].local_addr().unwrap().port());
        let _other = TcpStream::connect(("127.0.0.1", other)).unwrap();
        let connection = TcpStream::connect(("127.0.0.1", server)).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let port = connection.local_addr().unwrap().port();
        assert_eq!(ports_of(me, server).unwrap(), HashSet::from([port]));
    }
}
