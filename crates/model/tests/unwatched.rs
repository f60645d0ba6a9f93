// SPDX-License-Identifier: Apache-2.0
//! The simulation without the watch on orders whose finalization began. The guard is taken out of the engine itself, for
//! the life of this process: so this test has one of its own.

use cap_core::fault::{self, Mutant};
use cap_model::sim::run_all;

/// As many as must break no promise with it.
const SEEDS: u64 = 20_000;

#[test]
fn the_watch_on_orders_that_may_be_issued_is_missed() {
    fault::mutate(Mutant::NoWatch);
    let stories = run_all(0..SEEDS, None, "was bought");
    let Some((seed, story)) = stories.failed else {
        panic!("the watch is missed by none of {} seeds", stories.seeds)
    };
    let wrong = story.wrong.join("; ");
    println!("without the watch, seed {seed}, after {} seeds: {wrong}\n{}", stories.seeds, story.trace);
}
