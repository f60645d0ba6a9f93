// SPDX-License-Identifier: Apache-2.0
//! The state machine as a page: asked of [`next_step`], case by case, so that the page says what the code does.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::clock::later;
use crate::limits;
use crate::order::{Knowledge, OrderState, Placed, Seen, Step, next_step, unheard_at};
use crate::problem::{Class, Problem};

/// The states in which there is something to do, in the order in which an order passes them.
const LIVE: [&str; 4] = ["keyed", "ordered", "challenged", "ready"];
/// What the CA can have said.
const WORDS: [&str; 6] = ["nothing yet", "pending", "ready", "processing", "valid", "invalid"];
/// How old the order is.
const AGES: [Age; 4] = [Age::Young, Age::LeftOpen, Age::Expired, Age::LongExpired];

#[derive(Clone, Copy)]
enum Age {
    Young,
    /// For a certificate that has no version yet.
    LeftOpen,
    Expired,
    LongExpired,
}

/// What this run has done.
#[derive(Clone, Copy)]
enum Done {
    Nothing,
    Submitted,
    Finalized,
}

const DONE: [Done; 3] = [Done::Nothing, Done::Submitted, Done::Finalized];

/// Every step from one phase to another that an order may take. Failing is open to each: the CA may refuse any act.
#[must_use]
pub fn moves() -> BTreeSet<(&'static str, &'static str)> {
    let mut moves: BTreeSet<_> = LIVE.iter().map(|phase| (*phase, "failed")).collect();
    // What it replaces is left out where the CA refuses it, and that is written down.
    moves.insert(("keyed", "keyed"));
    for phase in LIVE {
        for word in WORDS {
            for (age, done) in AGES.iter().flat_map(|age| DONE.map(|done| (*age, done))) {
                moves.extend(leads_to(&decide(phase, word, done, age)).map(|next| (phase, next)));
            }
        }
    }
    moves
}

/// The phase that is written down when a step has succeeded.
fn leads_to(step: &Step) -> Option<&'static str> {
    match step {
        Step::Place => Some("ordered"),
        Step::Prepare => Some("challenged"),
        Step::MarkReady => Some("ready"),
        Step::Download => Some("stored"),
        Step::Fail(_) => Some("failed"),
        Step::Look | Step::Submit | Step::Finalize | Step::Withdraw | Step::Wait | Step::Done => None,
    }
}

/// A step in a few words.
fn words(step: &Step) -> &'static str {
    match step {
        Step::Place => "place the order",
        Step::Prepare => "read the challenges",
        Step::Look => "ask the CA",
        Step::Submit => "submit the challenges",
        Step::MarkReady => "note that finalize is next",
        Step::Finalize => "finalize",
        Step::Download => "fetch, check and store",
        Step::Withdraw => "give its authorizations up",
        Step::Wait => "wait, then ask",
        Step::Fail(_) => "end the attempt",
        Step::Done => "nothing",
    }
}

fn decide(phase: &str, word: &str, done: Done, age: Age) -> Step {
    let since = Timestamp::UNIX_EPOCH;
    let expires = later(since, limits::ORDER_LIFE_DEFAULT);
    let placed = Placed { url: String::new(), expires: Some(expires) };
    let state = match phase {
        "keyed" => OrderState::Keyed { replaces: None },
        "ordered" => OrderState::Ordered { placed },
        "challenged" => OrderState::Challenged { placed, duties: vec![] },
        _ => OrderState::Ready { placed, since },
    };
    let seen = match word {
        "pending" => Some(Seen::Pending),
        "ready" => Some(Seen::Ready),
        "processing" => Some(Seen::Processing),
        "valid" => Some(Seen::Valid),
        "invalid" => Some(Seen::Invalid(Problem::new(Class::Validation, "invalid", ""))),
        _ => None,
    };
    let now = match age {
        Age::Young => since,
        Age::LeftOpen => unheard_at(since, None),
        Age::Expired => expires,
        Age::LongExpired => later(expires, limits::READY_EXPIRY_MARGIN),
    };
    let submitted = matches!(done, Done::Submitted | Done::Finalized);
    let finalized = matches!(done, Done::Finalized);
    next_step(&state, &Knowledge { seen, submitted, finalized, ..Knowledge::default() }, now)
}

/// The page, for docs/reference/.
#[must_use]
pub fn order_states_markdown() -> String {
    let mut page = String::from(
        "# The states of an order\n\n\
         <!-- Written by `cargo xtask codegen` from crates/core/src/order/picture.rs. -->\n\n\
         What is recorded of an order decides, with the CA's last word on it, what is done next. The picture and the table \
         are asked of the code.\n\n```mermaid\nstateDiagram-v2\n    [*] --> keyed: key and signing request are stored\n",
    );
    for phase in LIVE {
        for (from, to) in moves().into_iter().filter(|(from, _)| *from == phase) {
            let _ = writeln!(page, "    {from} --> {to}: {}", reason(from, to));
        }
    }
    page.push_str(
        "    stored --> [*]\n    failed --> [*]: a new attempt, later\n```\n\n\
         An order fails where the CA refuses an act, ends the order, issues something else than was asked for, or does not \
         finish before the order expires. From `ready` on it may have been finalized: then a refusal to be asked ends \
         nothing, and its expiry only with an hour for clocks that differ. It is left open for too long after half \
         of the life that was left of the version in use, and after five hours where there is none.\n\n\
         | recorded | the CA's last word | next | submitted in this run | and left open for too long | and finalized | expired | expired for \
         an hour |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for phase in LIVE {
        for word in WORDS {
            let first = decide(phase, word, Done::Nothing, Age::Young);
            let always = |words: &[&str]| {
                words.iter().all(|word| decide(phase, word, Done::Finalized, Age::LongExpired) == first)
            };
            if matches!(first, Step::Place | Step::Prepare) && always(&WORDS) {
                if word == WORDS[0] {
                    let _ = writeln!(page, "| `{phase}` | whatever | {} | | | | | |", words(&first));
                }
                continue;
            }
            let other = |done, age| {
                let step = decide(phase, word, done, age);
                if step == first { "" } else { words(&step) }
            };
            let _ = writeln!(
                page,
                "| `{phase}` | {word} | {} | {} | {} | {} | {} | {} |",
                words(&first),
                other(Done::Submitted, Age::Young),
                other(Done::Submitted, Age::LeftOpen),
                other(Done::Finalized, Age::Young),
                other(Done::Nothing, Age::Expired),
                other(Done::Nothing, Age::LongExpired)
            );
        }
    }
    page.push_str(
        "\nWhere a cell is empty, the step is the one under \"next\". `stored` and `failed` have none.\n",
    );
    page
}

fn reason(from: &str, to: &str) -> &'static str {
    match (from, to) {
        (_, "keyed") => "refused for what it replaces, sent without",
        (_, "ordered") => "newOrder",
        (_, "challenged") => "challenges read, answers stored",
        (_, "ready") => "submitted, or the CA waits for finalize or issues",
        (_, "stored") => "finalized, fetched, checked",
        _ => "refused, invalid or expired",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_goes_forward_or_fails() {
        let line = ["keyed", "ordered", "challenged", "ready", "stored"];
        let mut expected: BTreeSet<_> = line.windows(2).map(|pair| (pair[0], pair[1])).collect();
        expected.extend(LIVE.map(|phase| (phase, "failed")));
        expected.insert(("keyed", "keyed"));
        assert_eq!(moves(), expected);
    }

    #[test]
    fn the_page_has_every_state_and_every_word() {
        let page = order_states_markdown();
        for phase in LIVE {
            assert!(page.contains(&format!("| `{phase}` |")), "{phase}");
        }
        for word in WORDS {
            assert!(page.contains(&format!("| `ready` | {word} |")), "{word}");
        }
        assert!(
            page.contains("| `ready` | ready | finalize |  |  | wait, then ask |  | end the attempt |"),
            "{page}"
        );
        assert!(
            page.contains(
                "| `ready` | pending | submit the challenges | wait, then ask | give its authorizations up |"
            ),
            "{page}"
        );
    }
}
