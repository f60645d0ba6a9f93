// SPDX-License-Identifier: Apache-2.0
//! What must hold in every state, and what must be reached in some.

use stateright::{Model, Property};

use super::{Action, At, Claims, Doing, State, Status, all_actions};

/// Bought twice.
pub const ONCE: &str = "at most one certificate is issued for the version";
/// Stored with the wrong key.
pub const KEY: &str = "what is stored is for the key that is stored";
/// Written although overtaken.
pub const FENCE: &str = "no write of an overtaken worker lands";
/// Two holders of one lease.
pub const LEASE: &str = "no two workers that run trust their lease on the job at once";
/// Orders wasted.
pub const ORDERS: &str = "no more orders are placed than one, and one for each fault";
/// Stuck.
pub const DONE: &str = "whatever has happened, the job gets done when the faults stop";

/// Steps within which a job must be done when nothing fails any more.
const CALM_STEPS: u32 = 200;

pub(super) fn all() -> Vec<Property<Claims>> {
    vec![
        Property::always(ONCE, |_, state: &State| {
            state.ca.iter().flatten().filter(|remote| remote.status == Status::Valid).count() <= 1
        }),
        Property::always(KEY, |_, state: &State| state.stored.is_none_or(|(key, of)| key == of)),
        Property::always(FENCE, |_, state: &State| !state.overtaken_write),
        Property::always(LEASE, |_, state: &State| {
            state.workers.iter().filter(|worker| worker.has_mandate()).count() <= 1
        }),
        Property::always(ORDERS, |model: &Claims, state: &State| {
            let happened = model.faults.sum() - state.left.sum();
            state.ca.iter().flatten().count() <= 1 + usize::from(happened)
        }),
        Property::always(DONE, |model: &Claims, state: &State| model.gets_done(*state)),
        Property::sometimes("the job is done without a fault", |model: &Claims, state: &State| {
            is_done(state) && state.left == model.faults
        }),
        Property::sometimes("the job is done after every fault", |_, state: &State| {
            is_done(state) && state.left.sum() == 0
        }),
        Property::sometimes(
            "the job is done, and a worker comes back that was overtaken",
            |_, state: &State| {
                let overtaken = |at| !matches!(at, Doing::Nothing | Doing::Again);
                is_done(state) && state.workers.iter().any(|worker| overtaken(worker.at) && !worker.paused)
            },
        ),
    ]
}

fn is_done(state: &State) -> bool {
    state.job.at == At::Done && state.stored.is_some()
}

impl Claims {
    /// Whether the job gets done from here, when who stands still goes on and nothing fails any more.
    fn gets_done(&self, mut state: State) -> bool {
        for worker in &mut state.workers {
            worker.paused = false;
        }
        for _ in 0..CALM_STEPS {
            if is_done(&state) {
                return true;
            }
            let Some(next) = calm_actions().find_map(|action| self.next_state(&state, action)) else {
                return false;
            };
            state = next;
        }
        false
    }
}

/// Steps that are no faults, the most urgent first.
fn calm_actions() -> impl Iterator<Item = Action> {
    all_actions().filter(|action| {
        !matches!(
            action,
            Action::Lose(_)
                | Action::MixUp(_)
                | Action::Crash(_)
                | Action::Pause(_)
                | Action::Resume(_)
                | Action::Refuse(_)
        )
    })
}
