// SPDX-License-Identifier: Apache-2.0
#![expect(clippy::print_stdout, reason = "counterexamples and figures are for whoever runs it")]
//! The model: no law is broken in any state, and each guard that is taken away is missed.

use std::fmt::Write as _;

use cap_model::claims::{Claims, Faults, Mutant, laws};
use stateright::{Checker, HasDiscoveries, Model};

/// States that must have been looked at for the result to say anything.
const STATES_MIN: usize = 1_000_000;
/// What may happen in one run: one fault of every kind. `CAP_MODEL_CRASHES=2` looks at six times as many states.
const FAULTS: Faults = Faults { crashes: 1, pauses: 1, losses: 1, refusals: 1 };

#[test]
fn no_interleaving_of_workers_ca_and_faults_breaks_a_law() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let started = std::time::Instant::now();
    let crashes =
        std::env::var("CAP_MODEL_CRASHES").map_or(FAULTS.crashes, |crashes| crashes.parse().unwrap());
    let checker = Claims::new(Faults { crashes, ..FAULTS }).checker().threads(cores).spawn_bfs().join();
    let (steps, states) = (checker.state_count(), checker.unique_state_count());
    println!("{states} states by {steps} steps, {} deep, in {:?}", checker.max_depth(), started.elapsed());
    checker.assert_properties();
    assert!(states >= STATES_MIN, "{states} states");
}

/// A way to break the law without the guard.
fn broken(guard: Mutant, law: &'static str) {
    // Fewer faults than there are: one of a kind is enough to find it by.
    broken_by(Faults { crashes: 0, refusals: 0, ..FAULTS }, guard, law);
}

fn broken_by(faults: Faults, guard: Mutant, law: &'static str) {
    let until = HasDiscoveries::AllOf([law].into());
    let checker = Claims::new(faults).without(guard).checker().finish_when(until).spawn_bfs().join();
    let states = checker.unique_state_count();
    let Some(path) = checker.discovery(law) else { panic!("{guard:?} is missed in none of {states} states") };
    let mut told = format!("without {guard:?} it is broken that {law}, after {states} states:\n");
    let last = *path.last_state();
    for (number, action) in path.into_actions().into_iter().enumerate() {
        let _ = writeln!(told, "{:>4} {action:?}", number + 1);
    }
    println!("{told}     {last:?}");
}

#[test]
fn without_the_fence_a_certificate_is_bought_twice() {
    broken(Mutant::NoFence, laws::ONCE);
    broken(Mutant::NoFence, laws::FENCE);
}

#[test]
fn what_is_not_stored_before_the_next_act_is_bought_twice() {
    broken(Mutant::NothingStored, laws::ONCE);
}

#[test]
fn a_certificate_that_is_not_looked_at_is_stored_with_another_key() {
    broken_by(Faults { crashes: 0, pauses: 0, losses: 0, refusals: 1 }, Mutant::AnyKey, laws::KEY);
}

#[test]
fn leases_by_the_workers_clocks_have_two_holders() {
    broken(Mutant::WallClock, laws::LEASE);
}
