// SPDX-License-Identifier: Apache-2.0
//! The README's first things to try, line by line as they stand there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use cap_testkit::process::Service;
use cap_testkit::scratch::Scratch;
use cap_testkit::wait::{self, Pending};

use crate::run::{Cli, Ran};
use crate::world::{World, world};

const READY_WITHIN: Duration = Duration::from_secs(60);
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");

/// What follows a prompt under "The first five things to try".
fn lines() -> Vec<String> {
    let text = fs::read_to_string(README).unwrap();
    let from = text.split("\n## The first five things to try\n").nth(1).unwrap();
    let section = from.split("\n## ").next().unwrap();
    section.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// A checkout as `cargo xtask up` leaves it, with our processes in the place of its own.
fn checkout(world: &World, at: &Path) {
    let local = at.join("target/local");
    fs::create_dir_all(local.join("pids")).unwrap();
    let env = format!(
        "CAP_API_URL={}\nCAP_TOKEN={}\nCAP_MONGO_URI='{}'\nCAP_KEK_DIR={}\nCAP_ACME_DIRECTORY_URL={}\n",
        world.stack.api_url(0).unwrap(),
        world.stack.token(),
        world.stack.mongo_uri(),
        world.stack.kek_dir().display(),
        world.stack.ca().directory_url(),
    );
    fs::write(local.join("env"), env).unwrap();
    for service in world.stack.workers.iter().chain(&world.stack.schedulers) {
        fs::write(local.join("pids").join(service.name()), format!("{}\n", service.pid())).unwrap();
    }
    symlink(Cli::bare().program().parent().unwrap(), at.join("target/debug")).unwrap();
    // `cargo xtask status` has tests of its own; here it is a word on stdout.
    let cargo = at.join("cargo");
    fs::write(&cargo, "#!/bin/sh\necho \"cargo $*\"\n").unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn the_first_things_to_try_work_as_they_are_written() {
    let lines = lines();
    assert!(lines.len() >= 9, "{lines:#?}");
    let scratch = Scratch::create().unwrap();
    let mut world = world().await.write().await;
    checkout(&world, scratch.path());
    // One shell for all of them, as a person has; each line's streams and code go into files.
    let mut script = format!("cd '{}'; PATH=$PWD:$PATH; set -o pipefail\n", scratch.path().display());
    for (at, line) in lines.iter().enumerate() {
        script.push_str(&format!("{{ {line}\n}} >out.{at} 2>err.{at}; echo $? >code.{at}\n"));
    }
    Cli::bare().shell(&script).await.ends(0);
    heal(&mut world).await;

    let read =
        |kind: &str, at: usize| fs::read_to_string(scratch.path().join(format!("{kind}.{at}"))).unwrap();
    let ran = |part: &str| {
        let at = lines.iter().position(|line| line.contains(part)).unwrap();
        let code = read("code", at).trim().parse().ok();
        Ran { code, data: read("out", at), talk: read("err", at) }
    };
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.contains("'*.")) {
        assert_eq!(read("code", at), "0\n", "{line}: {}", read("err", at));
    }
    assert!(ran("cert request www").data.contains(" valid "));
    assert!(ran("cert describe").data.contains("bücher.example.test (xn--bcher-kva.example.test)"));
    assert!(ran("cert download").data.contains("notAfter="));
    assert!(ran("cert renew").data.contains(" valid "));
    assert!(ran("leader show").data.contains("scheduler-"));
    ran("'*.example.test'").refuses(2, &["*.example.test is a wildcard", "name each host"]);
    let jobs = ran("job list").data;
    assert!(
        jobs.lines().filter(|line| line.contains(" issue ") && line.contains(" succeeded ")).count() >= 2
    );

    let version = world.cli().run(&["cert", "get", "www.example.test", "-o", "json"]).await.ends(0).json();
    assert_eq!(version["version"]["number"], 2, "it was renewed with a worker killed");
}

/// Starts again what the README had us kill: a worker, and the scheduler that led.
async fn heal(world: &mut World) {
    let stack = &mut world.stack;
    let look = || async {
        let worker = is_gone(&stack.workers[0]);
        if worker && stack.schedulers.iter().any(is_gone) {
            Ok(())
        } else {
            Err(Pending::not_yet("they run"))
        }
    };
    wait::until("what was killed to be gone", READY_WITHIN, look).await.unwrap();
    for service in stack.workers.iter_mut().chain(&mut stack.schedulers) {
        if is_gone(service) {
            service.restart().unwrap();
        }
        service.wait_ready(READY_WITHIN).await.unwrap();
    }
}

fn is_gone(service: &Service) -> bool {
    !service.process().is_running()
}
