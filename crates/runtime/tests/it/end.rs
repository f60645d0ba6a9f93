// SPDX-License-Identifier: Apache-2.0
//! Ending: drained, cut short, or broken.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::service::{Service, becomes_ready, get};

const QUICK: (&str, &str) = ("CAP_SHUTDOWN_GRACE", "300ms");
const SLOW: (&str, &str) = ("CAP_SHUTDOWN_GRACE", "1h");

#[test]
fn asked_once_it_drains_and_ends_with_0() {
    for (manners, signal) in [("tidy", Signal::TERM), ("tidy", Signal::INT), ("tasked", Signal::TERM)] {
        let mut service = Service::start(manners, &[SLOW]);
        service.admin();
        service.signal(signal);
        assert_eq!(service.end(), 0, "{:#?}", service.log);
        assert!(service.logged("drained; nothing was left in hand"));
        assert_eq!(service.logged("the task has ended"), manners == "tasked");
    }
}

#[test]
fn readiness_goes_at_once_and_the_process_lives_on_while_it_drains() {
    let mut service = Service::start("slow", &[SLOW]);
    let admin = service.admin();
    becomes_ready(&admin);
    service.signal(Signal::TERM);
    service.line("draining");
    let deadline = Instant::now() + Duration::from_secs(5);
    while get(&admin, "/readyz").unwrap() != "HTTP/1.1 503 Service Unavailable" {
        assert!(Instant::now() < deadline, "{:#?}", service.log);
    }
    assert_eq!(get(&admin, "/livez").unwrap(), "HTTP/1.1 200 OK");
}

#[test]
fn asked_twice_it_ends_at_once() {
    let mut service = Service::start("stubborn", &[SLOW]);
    service.admin();
    service.signal(Signal::TERM);
    service.line("draining");
    service.signal(Signal::TERM);
    assert_eq!(service.end(), 1, "{:#?}", service.log);
    assert!(service.logged("asked twice"));
}

#[test]
fn a_drain_that_the_process_began_survives_the_first_signal_only() {
    let mut service = Service::start("hermit", &[SLOW]);
    service.line("draining");
    service.signal(Signal::TERM);
    service.line("already draining");
    service.signal(Signal::TERM);
    assert_eq!(service.end(), 1, "{:#?}", service.log);
}

#[test]
fn out_of_time_it_hands_back_or_is_ended() {
    for (manners, told) in
        [("slow", "the drain was cut short"), ("stubborn", "the drain did not end in time")]
    {
        let mut service = Service::start(manners, &[QUICK]);
        service.admin();
        service.signal(Signal::TERM);
        assert_eq!(service.end(), 1, "{:#?}", service.log);
        assert!(service.logged(told), "{:#?}", service.log);
    }
}

#[test]
fn only_the_api_holds_its_listeners() {
    for (manners, hold) in [("api", "\"hold_ms\":7000"), ("tidy", "\"hold_ms\":0")] {
        let mut service = Service::start(manners, &[("CAP_SHUTDOWN_DELAY", "7s")]);
        service.admin();
        service.signal(Signal::TERM);
        assert!(service.line("draining").contains(hold), "{:#?}", service.log);
    }
}

#[test]
fn what_went_wrong_is_in_the_exit_code() {
    for (manners, exit, told) in
        [("panic", 70, "on purpose"), ("wrong-kek", 78, "another key"), ("refused", 69, "go away")]
    {
        let mut service = Service::start(manners, &[]);
        assert_eq!(service.end(), exit, "{:#?}", service.log);
        assert!(service.logged(told), "{:#?}", service.log);
    }
}
