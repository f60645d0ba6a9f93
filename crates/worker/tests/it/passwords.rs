// SPDX-License-Identifier: Apache-2.0
//! A database that asks for passwords: the system works with the user that the operations guide makes, a service whose
//! password is wrong ends and says so, and no password is ever shown.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cap_testkit::mongo::MongoUser;
use cap_testkit::mongo::driver::bson::doc;
use cap_testkit::process::{Binaries, Launch, Launcher, Lifetime, Process, reserve_one};
use cap_testkit::scratch::Scratch;
use cap_testkit::stack::{Demo, Infrastructure, Role, Stack};

use crate::bench::{room, workers};

const DATABASE: &str = "certautopilot";
/// It means something else in a URI where it is not percent-encoded.
const PASSWORD: &str = "zebra@quagga:/okapi%?&";
const WRONG_PASSWORD: &str = "hunter2";
/// From start to an end by itself.
const ENDS: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_certificate_is_issued_where_mongodb_asks_for_passwords_and_none_is_told() {
    let _room = room().await;
    let scratch = Scratch::create().unwrap();
    let launcher = Arc::new(Launcher::new(scratch.path(), Lifetime::WithUs).unwrap());
    let mut options = workers(1).with_all("CAP_LOG", "trace");
    (options.schedulers, options.shared_mongo) = (1, false);
    (options.replica_set.members, options.replica_set.asks_for_passwords) = (1, true);
    let mut infrastructure = Infrastructure::start(&launcher, &options).await.unwrap();
    let set = infrastructure.replica_set.as_ref().unwrap();
    let user = set.create_documented_user(DATABASE, PASSWORD).await.unwrap();
    infrastructure.mongo_uri = set.uri_as(&user, DATABASE);
    let wrong = MongoUser { password: WRONG_PASSWORD.to_owned(), ..user };
    let wrong_uri = set.uri_as(&wrong, DATABASE);
    let binaries = Binaries::find().unwrap();
    let stack = Stack::start_in(&launcher, binaries, infrastructure, &options).await.unwrap();

    // As the guide says, what only migrations need is not missed afterwards.
    let set = stack.infrastructure.replica_set.as_ref().unwrap();
    let everywhere = doc! { "db": DATABASE, "collection": "" };
    let migrations = doc! { "resource": everywhere, "actions": ["createCollection", "createIndex"] };
    let revoke = doc! { "revokePrivilegesFromRole": "certautopilot", "privileges": [migrations] };
    set.command_in(DATABASE, revoke).await.unwrap();
    let api = stack.client(0).unwrap();
    let demo = Demo::create(&api, stack.ca(), "demo", "pebble").await.unwrap();
    let id = demo.request(&api, &["passwords.example.test"]).await.unwrap();
    demo.wait_valid(&api, &id).await.unwrap();

    let services = || stack.apis.iter().chain(&stack.workers).chain(&stack.schedulers);
    let mut logs: Vec<PathBuf> = services().map(|service| service.process().log().to_owned()).collect();
    for (service, role) in services().zip(Role::ALL) {
        let process = launcher.spawn(another(service.process().launch(), &wrong_uri)).unwrap();
        let code = process.wait_exit(ENDS).await.unwrap();
        let log = process.log_tail();
        assert_eq!(code, Some(69), "{}: {log}", role.name());
        for told in
            ["MongoDB refused to", "Authentication failed", "check the user, the password", "CAP_MONGO_URI"]
        {
            assert!(log.contains(told), "{}: {told}: {log}", role.name());
        }
        logs.push(process.log().to_owned());
    }
    services().for_each(|service| assert_tells_no_password(service.process()));
    for log in logs {
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.len() > 100, "{} says nothing", log.display());
        assert_no_password(&text, &log.display().to_string());
    }
}

/// The same service with this URI, at ports of its own.
fn another(launch: &Launch, mongo_uri: &str) -> Launch {
    let mut launch = launch.clone();
    launch.name.push_str("-wrong-password");
    for (_, value) in launch.env.iter_mut().filter(|(name, _)| name.ends_with("_LISTEN")) {
        // The lease ends here, and the port is handed out again only after all others.
        *value = format!("127.0.0.1:{}", reserve_one().unwrap().port());
    }
    launch.env.insert("CAP_MONGO_URI".into(), mongo_uri.into());
    launch
}

/// What `ps` shows to everybody.
fn assert_tells_no_password(process: &Process) {
    let command_line = std::fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap();
    let command_line = String::from_utf8_lossy(&command_line).into_owned();
    assert!(command_line.contains("certautopilot"), "{command_line:?}");
    assert_no_password(&command_line, process.name());
}

fn assert_no_password(text: &str, whose: &str) {
    for part in [PASSWORD, "zebra", "quagga", "okapi", WRONG_PASSWORD] {
        let line = text.lines().find(|line| line.contains(part));
        assert!(line.is_none(), "{whose}: {part}: {line:?}");
    }
}
