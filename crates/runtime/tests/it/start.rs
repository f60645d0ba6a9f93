// SPDX-License-Identifier: Apache-2.0
//! Starting, and refusing to.

use std::net::TcpListener;

use crate::service::{Service, ask, becomes_ready, get};

#[test]
fn a_process_says_who_it_is_and_shows_itself() {
    let mut service = Service::start("tidy", &[]);
    let line: serde_json::Value = serde_json::from_str(&service.line("starting")).unwrap();
    assert_eq!(line["role"], "worker");
    assert_eq!(line["instance"], "test-1");
    assert_eq!(line["version"], cap_runtime::args::VERSION);
    let admin = service.admin();
    for target in ["/metrics", "/livez"] {
        assert_eq!(get(&admin, target).unwrap(), "HTTP/1.1 200 OK", "{target}");
    }
    becomes_ready(&admin);
}

#[test]
fn a_process_is_not_ready_before_anybody_has_looked() {
    let mut service = Service::start("blind", &[]);
    let admin = service.admin();
    let answer = ask(&admin, "/readyz").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for check in ["mongo", "kek", "schema"] {
        assert!(answer.contains(&format!("[-]{check} failed: not known yet\n")), "{check}: {answer}");
    }
    assert_eq!(get(&admin, "/livez").unwrap(), "HTTP/1.1 200 OK");
}

#[test]
fn a_wrong_configuration_ends_with_64_and_every_fault() {
    let env = [("CAP_JOB_LEASE", "1s"), ("CAP_LOG", "loud"), ("CAP_JOB_LEESE", "1m")];
    for mut service in [Service::start("tidy", &env), Service::check_only("tidy", &env)] {
        assert_eq!(service.end(), 64, "{:#?}", service.log);
        for part in ["has 3 faults", "CAP_JOB_LEASE: `1s`", "CAP_LOG: ", "did you mean CAP_JOB_LEASE?"] {
            assert!(service.logged(part), "{part}: {:#?}", service.log);
        }
    }
}

#[test]
fn checking_the_configuration_opens_nothing_and_ends_with_0() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let mut service = Service::check_only("refused", &[("CAP_ADMIN_LISTEN", &taken)]);
    assert_eq!(service.end(), 0, "{:#?}", service.log);
    assert!(service.logged("no fault"));
    assert!(!service.logged("starting"));
}

#[test]
fn a_taken_address_ends_with_69_and_names_the_variable() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut service = Service::start("tidy", &[("CAP_ADMIN_LISTEN", &address)]);
    assert_eq!(service.end(), 69, "{:#?}", service.log);
    assert!(service.logged("CAP_ADMIN_LISTEN"));
}

#[test]
fn log_lines_can_be_for_people() {
    let mut service = Service::start("refused", &[("CAP_LOG_FORMAT", "text")]);
    assert_eq!(service.end(), 69);
    assert!(service.logged("INFO") && !service.logged("{\""), "{:#?}", service.log);
    assert!(!service.logged("\u{1b}["), "no colours beside a terminal");
}
