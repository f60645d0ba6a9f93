// SPDX-License-Identifier: Apache-2.0
//! step-ca in Pebble's place.

use std::sync::Arc;

use cap_testkit::ca::{Asked, CaKind, Fault, FaultRule, NameSetCounts, Pebble, PebbleOptions};
use cap_testkit::fetch;
use cap_testkit::process::{Launcher, Lifetime};
use cap_testkit::progress::say;
use cap_testkit::scratch::Scratch;

use crate::bare::Client;

#[tokio::test]
async fn step_ca_issues_behind_the_proxy_which_counts_and_injects_as_with_pebble() {
    if !fetch::can_have_step_ca() {
        say("there is neither step-ca nor Go to build it: nothing is tested against it");
        return;
    }
    let scratch = Scratch::create().unwrap();
    let launcher = Arc::new(Launcher::new(scratch.path(), Lifetime::WithUs).unwrap());
    let options = PebbleOptions::default();
    let ca = Pebble::start_kind_in(CaKind::StepCa, &launcher, options).await.unwrap();
    assert!(ca.flavor().profiles.is_empty() && !ca.flavor().renewal_info);
    let client = Client::of(&ca).await;
    let lost = FaultRule::always(Fault::Reset).at(&[Asked::NewOrder]).times(1);
    ca.inject(&lost).await.unwrap();
    assert!(client.try_order(&ca, "one.example.test").await.is_err());
    let chain = client.issue(&ca, "one.example.test").await;
    assert!(chain.matches("BEGIN CERTIFICATE").count() >= 2, "{chain}");
    let counted = ca.counts().await.unwrap().of(&["one.example.test"]);
    assert_eq!(counted, NameSetCounts { orders: 2, finalized: 1, certificates: 1 });
}
