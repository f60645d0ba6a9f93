// SPDX-License-Identifier: Apache-2.0
//! The decisions of the code, asked once for every case and kept as a table: the model does what `next_step` says.

use cap_core::order::{Knowledge, OrderState, Placed, Seen, Step, next_step};
use cap_core::problem::{Class, Problem};
use jiff::Timestamp;

/// How far an order is, as it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Its key is stored.
    Keyed,
    /// Its URL is stored.
    Ordered,
    /// The answers to its challenges are stored.
    Challenged,
    /// That finalize is next is stored.
    Ready,
}

/// What the CA says of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// Challenges are open.
    Pending,
    /// It waits to be finalized.
    Ready,
    /// It is being issued.
    Processing,
    /// Its certificate can be fetched.
    Valid,
    /// It is over.
    Invalid,
}

/// What the code does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// newOrder.
    Place,
    /// Read the authorizations.
    Prepare,
    /// Ask how the order is.
    Look,
    /// Tell the CA that the challenges are answered.
    Submit,
    /// Write down that finalize is next.
    MarkReady,
    /// Send the signing request.
    Finalize,
    /// Fetch the certificate.
    Download,
    /// Look again later.
    Wait,
    /// The attempt is over.
    Fail,
}

const PHASES: [Phase; 4] = [Phase::Keyed, Phase::Ordered, Phase::Challenged, Phase::Ready];
const WORDS: [Option<Word>; 6] = [
    None,
    Some(Word::Pending),
    Some(Word::Ready),
    Some(Word::Processing),
    Some(Word::Valid),
    Some(Word::Invalid),
];

/// `next_step` as a table: by phase, by the CA's word, by whether this run has submitted.
#[derive(Debug, Clone)]
pub(super) struct Decisions([[[Move; 2]; 6]; 4]);

impl Decisions {
    /// Asks the code for every case.
    pub(super) fn of_the_code() -> Self {
        Self(PHASES.map(|phase| WORDS.map(|word| [false, true].map(|submitted| ask(phase, word, submitted)))))
    }

    pub(super) fn next(&self, phase: Phase, seen: Option<Word>, submitted: bool) -> Move {
        let word = WORDS.iter().position(|word| *word == seen).unwrap_or(0);
        self.0[phase as usize][word][usize::from(submitted)]
    }
}

/// No order of the model grows old: what becomes of those is for the simulation.
fn ask(phase: Phase, word: Option<Word>, submitted: bool) -> Move {
    let placed = || Placed { url: String::new(), expires: Some(Timestamp::MAX) };
    let state = match phase {
        Phase::Keyed => OrderState::Keyed { replaces: None },
        Phase::Ordered => OrderState::Ordered { placed: placed() },
        Phase::Challenged => OrderState::Challenged { placed: placed(), duties: vec![] },
        Phase::Ready => OrderState::Ready { placed: placed(), since: Timestamp::UNIX_EPOCH },
    };
    let seen = word.map(|word| match word {
        Word::Pending => Seen::Pending,
        Word::Ready => Seen::Ready,
        Word::Processing => Seen::Processing,
        Word::Valid => Seen::Valid,
        Word::Invalid => Seen::Invalid(Problem::new(Class::Validation, "invalid", "")),
    });
    match next_step(&state, &Knowledge { seen, submitted, ..Knowledge::default() }, Timestamp::UNIX_EPOCH) {
        Step::Place => Move::Place,
        Step::Prepare => Move::Prepare,
        Step::Look => Move::Look,
        Step::Submit => Move::Submit,
        Step::MarkReady => Move::MarkReady,
        Step::Finalize => Move::Finalize,
        Step::Download => Move::Download,
        Step::Wait => Move::Wait,
        // A live order is never done, and none of these is ever overdue.
        Step::Fail(_) | Step::Done | Step::Withdraw => Move::Fail,
    }
}
