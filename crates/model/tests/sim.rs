// SPDX-License-Identifier: Apache-2.0
#![expect(clippy::print_stdout, reason = "stories and figures are for whoever runs it")]
//! The simulation: no seed of many breaks a promise, and each guard that is taken away is missed by one.
//!
//! `CAP_SIM_SEED=7 cargo test -p cap-model --test sim -- --nocapture one_seed` tells the story of seed 7;
//! `CAP_SIM_SEEDS=1000000` runs so many.

use cap_model::sim::{Mutant, Stories, run, run_all};

/// Seeds of one run.
const SEEDS: u64 = 20_000;
/// Lines of a failing seed's story that are shown: its end.
const LINES: usize = 120;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn seeds() -> u64 {
    number("CAP_SIM_SEEDS").unwrap_or(SEEDS)
}

/// The end of the first story that went wrong.
fn told(stories: &Stories) -> Option<String> {
    let (seed, story) = stories.failed.as_ref()?;
    let lines: Vec<&str> = story.trace.lines().collect();
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
    let again = format!("CAP_SIM_SEED={seed} cargo test -p cap-model --test sim -- --nocapture one_seed");
    Some(format!("{end}\nseed {seed}: {}\nthe whole story: {again}", story.wrong.join("; ")))
}

#[test]
fn no_seed_breaks_a_promise() {
    let started = std::time::Instant::now();
    let stories = run_all(0..seeds(), None, "");
    let sum = &stories.sum;
    println!(
        "{} seeds in {:?}: {} certificates, {} crashes, {} pauses, {} orders given up, {} polls",
        stories.seeds,
        started.elapsed(),
        sum.issued,
        sum.crashes,
        sum.pauses,
        sum.withdrawn,
        sum.polls
    );
    if let Some(told) = told(&stories) {
        panic!("{told}");
    }
    assert_eq!(stories.seeds, seeds());
    // Enough has happened, and nothing that the picture of the states does not show.
    assert!(sum.crashes.min(sum.pauses) > seeds() / 2, "{} crashes, {} pauses", sum.crashes, sum.pauses);
    assert!(sum.withdrawn > 0);
    assert_eq!(sum.moves, cap_core::order::moves());
}

#[test]
fn one_seed_is_one_story() {
    let seed = number("CAP_SIM_SEED").unwrap_or(7);
    let (story, again) = (run(seed, None, true), run(seed, None, true));
    println!("{}", story.trace);
    assert!(!story.trace.is_empty());
    assert_eq!(story.trace, again.trace);
    assert_eq!(story.wrong, Vec::<String>::new());
}

/// The first seed in which something is bought twice without the guard.
fn buys_twice(guard: Mutant) {
    let stories = run_all(0..seeds(), Some(guard), "was bought");
    let Some(told) = told(&stories) else { panic!("{guard:?} is missed by none of {} seeds", stories.seeds) };
    println!("without {guard:?}: {told}");
}

#[test]
fn without_the_fence_a_certificate_is_bought_twice() {
    buys_twice(Mutant::NoFence);
}

#[test]
fn with_a_key_that_is_stored_too_late_a_certificate_is_bought_twice() {
    buys_twice(Mutant::LateKey);
}
