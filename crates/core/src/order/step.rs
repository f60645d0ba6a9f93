// SPDX-License-Identifier: Apache-2.0
//! The decision: what to do next, from what is written down and what the CA said.

use jiff::Timestamp;

use crate::order::{OrderState, Reply, Seen, unheard_at, watched_until};
use crate::problem::{Class, Problem};

/// What this run knows beyond what is written down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Knowledge {
    /// What the CA said last about the order; nothing right after a restart.
    pub seen: Option<Seen>,
    /// Whether this run has told the CA that the challenges are answered.
    pub submitted: bool,
    /// Whether this run has sent the signing request.
    pub finalized: bool,
    /// Whether this run has given the order's open authorizations up.
    pub withdrawn: bool,
    /// Before when the CA does not want to be asked again (`Retry-After`).
    pub retry_at: Option<Timestamp>,
    /// When the version expires that the order is to replace, if there is one.
    pub expires: Option<Timestamp>,
}

impl Knowledge {
    /// Takes in what the CA said of the order.
    pub(super) fn hear(&mut self, reply: Reply<Seen>) {
        self.not_before(reply.retry_at);
        self.seen = Some(reply.said);
    }

    /// Takes in before when the CA does not want to be asked: of what it says of an order and of its parts, the latest.
    pub(super) fn not_before(&mut self, retry_at: Option<Timestamp>) {
        self.retry_at = self.retry_at.max(retry_at);
    }

    /// Whether the CA wants not to be asked yet.
    pub(super) fn is_left_alone(&self, now: Timestamp) -> bool {
        self.retry_at.is_some_and(|retry_at| now < retry_at)
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Place the order, then write down its URL.
    Place,
    /// Read the authorizations, then write down the challenges and their answers.
    Prepare,
    /// Ask the CA how the order is.
    Look,
    /// Tell the CA that the challenges are answered.
    Submit,
    /// Write down that finalize is next.
    MarkReady,
    /// Send the signing request.
    Finalize,
    /// Fetch the certificate, check it, store it.
    Download,
    /// Give up the authorizations that the CA leaves open, so that it ends the order.
    Withdraw,
    /// The CA is busy; look again later.
    Wait,
    /// This attempt is over.
    Fail(Problem),
    /// There is nothing left to do.
    Done,
}

/// What to do next. Where the order has a URL, the CA's own answer decides; the stored state only says what we may
/// already have done.
#[must_use]
pub fn next_step(state: &OrderState, known: &Knowledge, now: Timestamp) -> Step {
    match state {
        OrderState::Keyed { .. } => Step::Place,
        OrderState::Ordered { .. } => Step::Prepare,
        OrderState::Challenged { placed, .. } => match &known.seen {
            // The CA may be ready at any moment: that is written down while it is asked.
            None if known.submitted => Step::MarkReady,
            None => Step::Look,
            Some(Seen::Pending) if is_over(placed.expires, now) => Step::Fail(expired()),
            Some(Seen::Pending) => Step::Submit,
            // Whatever made it so, it may be issued at any moment: from here on its expiry is judged as that of one
            // which was finalized.
            Some(Seen::Ready | Seen::Processing | Seen::Valid) => Step::MarkReady,
            Some(Seen::Invalid(problem)) => Step::Fail(problem.clone().not_before(known.retry_at)),
        },
        // From here on an earlier run may have finalized it: nothing but the CA's own verdict, or the end of the order,
        // ends it.
        OrderState::Ready { since, .. } => match &known.seen {
            None if known.is_left_alone(now) => Step::Wait,
            None => Step::Look,
            Some(Seen::Pending | Seen::Ready | Seen::Processing) if !may_issue(state, now) => {
                Step::Fail(expired())
            }
            // It took the signing request, and what answered has not heard of it: another is sent by a later run, if at all.
            Some(Seen::Ready) if known.finalized => Step::Wait,
            Some(Seen::Ready) => Step::Finalize,
            Some(Seen::Pending) if is_left_open(*since, known, now) => Step::Withdraw,
            // An earlier run told the CA, which may have forgotten.
            Some(Seen::Pending) if !known.submitted && !known.withdrawn => Step::Submit,
            Some(Seen::Pending | Seen::Processing) => Step::Wait,
            Some(Seen::Valid) => Step::Download,
            Some(Seen::Invalid(_)) if known.withdrawn => Step::Fail(left_open(*since)),
            Some(Seen::Invalid(problem)) => Step::Fail(problem.clone().not_before(known.retry_at)),
        },
        OrderState::Stored { .. } | OrderState::Failed { .. } => Step::Done,
    }
}

/// Whether the CA may issue for an order at any moment, whatever it says or does not say: it may have been finalized,
/// and has not expired. `now` is this host's clock and the expiry is by the CA's; an order that is dropped too soon is
/// bought twice, and one that is watched too long costs a few looks, so the host's may be ahead by a margin.
#[must_use]
pub fn may_issue(state: &OrderState, now: Timestamp) -> bool {
    watched_until(state).is_some_and(|until| now < until)
}

/// Whether the CA has left an order open for longer than its certificate can wait. It was not finalized, or it would not be:
/// the time is far longer than any replica lags.
fn is_left_open(since: Timestamp, known: &Knowledge, now: Timestamp) -> bool {
    !known.withdrawn && !known.finalized && unheard_at(since, known.expires) <= now
}

fn is_over(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_some_and(|expires| expires <= now)
}

fn left_open(since: Timestamp) -> Problem {
    let detail = format!(
        "the CA was told at {since} that its challenges are answered, and has not validated the names since, which is longer than the \
         certificate can wait; the order was given up, and another one is placed"
    );
    Problem::new(Class::Validation, "order-overdue", detail)
}

fn expired() -> Problem {
    Problem::new(
        Class::Protocol,
        "order-expired",
        "the CA did not finish the order before it expired; a new order is placed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::later;
    use crate::limits;
    use crate::order::Placed;

    fn now() -> Timestamp {
        Timestamp::from_second(1_790_000_000).unwrap()
    }

    fn placed(expires_in_s: i64) -> Placed {
        let expires = Timestamp::from_second(now().as_second() + expires_in_s).ok();
        Placed { url: "https://ca.example.test/order/1".into(), expires }
    }

    fn problem() -> Problem {
        Problem::new(Class::Validation, "urn:ietf:params:acme:error:connection", "refused")
    }

    fn decide(state: &OrderState, seen: Option<Seen>, submitted: bool) -> Step {
        next_step(state, &Knowledge { seen, submitted, ..Knowledge::default() }, now())
    }

    #[test]
    fn after_a_restart_the_ca_is_asked_before_anything_is_sent() {
        let challenged = OrderState::Challenged { placed: placed(60), duties: vec![] };
        let ready = OrderState::Ready { placed: placed(60), since: now() };
        assert_eq!(decide(&challenged, None, false), Step::Look);
        assert_eq!(decide(&ready, None, false), Step::Look);
    }

    #[test]
    fn each_run_tells_a_ca_that_still_waits_once() {
        let challenged = OrderState::Challenged { placed: placed(60), duties: vec![] };
        let ready = OrderState::Ready { placed: placed(60), since: now() };
        for state in [&challenged, &ready] {
            assert_eq!(decide(state, Some(Seen::Pending), false), Step::Submit);
        }
        assert_eq!(decide(&challenged, None, true), Step::MarkReady);
        assert_eq!(decide(&ready, Some(Seen::Pending), true), Step::Wait);
    }

    #[test]
    fn an_order_with_a_url_is_never_placed_again() {
        let states = [
            OrderState::Ordered { placed: placed(60) },
            OrderState::Challenged { placed: placed(60), duties: vec![] },
            OrderState::Ready { placed: placed(60), since: now() },
            OrderState::Failed { placed: Some(placed(60)), problem: problem() },
        ];
        let seen = [Seen::Pending, Seen::Ready, Seen::Processing, Seen::Valid, Seen::Invalid(problem())];
        for state in states {
            for seen in seen.iter().cloned().map(Some).chain([None]) {
                for submitted in [false, true] {
                    assert_ne!(decide(&state, seen.clone(), submitted), Step::Place);
                }
            }
        }
    }

    #[test]
    fn finalize_is_sent_only_when_written_down_and_wanted_by_the_ca() {
        let challenged = OrderState::Challenged { placed: placed(60), duties: vec![] };
        let ready = OrderState::Ready { placed: placed(60), since: now() };
        assert_eq!(decide(&challenged, Some(Seen::Ready), true), Step::MarkReady);
        assert_eq!(decide(&challenged, Some(Seen::Valid), true), Step::MarkReady);
        assert_eq!(decide(&challenged, Some(Seen::Processing), true), Step::MarkReady);
        assert_eq!(decide(&ready, Some(Seen::Ready), true), Step::Finalize);
        assert_eq!(decide(&ready, Some(Seen::Processing), true), Step::Wait);
        assert_eq!(decide(&ready, Some(Seen::Valid), true), Step::Download);
    }

    #[test]
    fn a_ca_that_asks_for_time_is_not_asked_before() {
        let ready = OrderState::Ready { placed: placed(60), since: now() };
        let known = |retry_in_s| {
            let retry_at = Timestamp::from_second(now().as_second() + retry_in_s).ok();
            Knowledge { finalized: true, retry_at, ..Knowledge::default() }
        };
        assert_eq!(next_step(&ready, &known(1), now()), Step::Wait);
        assert_eq!(next_step(&ready, &known(0), now()), Step::Look);
    }

    #[test]
    fn finalize_is_sent_once_in_a_run() {
        let ready = OrderState::Ready { placed: placed(60), since: now() };
        let known = |finalized| Knowledge { seen: Some(Seen::Ready), finalized, ..Knowledge::default() };
        assert_eq!(next_step(&ready, &known(true), now()), Step::Wait);
        assert_eq!(next_step(&ready, &known(false), now()), Step::Finalize);
    }

    /// Seconds past the expiry for which an order that may have been finalized is still watched.
    fn margin() -> i64 {
        i64::try_from(limits::READY_EXPIRY_MARGIN.as_secs()).unwrap()
    }

    #[test]
    fn an_order_ends_by_the_cas_verdict_or_its_own_expiry() {
        let late = OrderState::Challenged { placed: placed(-1), duties: vec![] };
        assert!(matches!(decide(&late, Some(Seen::Pending), true), Step::Fail(_)));
        let late = OrderState::Ready { placed: placed(-margin()), since: now() };
        assert!(matches!(decide(&late, Some(Seen::Processing), true), Step::Fail(_)));
        assert!(matches!(decide(&late, Some(Seen::Ready), true), Step::Fail(_)));
        assert_eq!(decide(&late, Some(Seen::Valid), true), Step::Download);
        assert_eq!(decide(&late, Some(Seen::Invalid(problem())), true), Step::Fail(problem()));
    }

    #[test]
    fn an_order_that_is_left_open_for_too_long_is_given_up_once_in_a_run() {
        let placed = Placed { url: "https://ca.example.test/order/1".into(), expires: None };
        let ready = OrderState::Ready { placed, since: now() };
        // Whether this run has told the CA so or not: earlier ones have.
        let open = Knowledge { seen: Some(Seen::Pending), ..Knowledge::default() };
        let over = unheard_at(now(), None);
        let before = Timestamp::from_second(over.as_second() - 1).unwrap();
        let step = |known: &Knowledge, at| next_step(&ready, known, at);
        assert_eq!(step(&open, before), Step::Submit);
        assert_eq!(step(&Knowledge { submitted: true, ..open.clone() }, over), Step::Withdraw);
        assert_eq!(step(&open, over), Step::Withdraw);
        assert_eq!(step(&Knowledge { expires: Some(now()), ..open.clone() }, before), Step::Withdraw);
        for known in [
            Knowledge { withdrawn: true, ..open.clone() },
            Knowledge { finalized: true, submitted: true, ..open.clone() },
            Knowledge { seen: Some(Seen::Processing), ..open.clone() },
        ] {
            assert_eq!(step(&known, over), Step::Wait, "{known:?}");
        }
        let ended = Knowledge { withdrawn: true, seen: Some(Seen::Invalid(problem())), ..open };
        assert!(matches!(step(&ended, over), Step::Fail(problem) if problem.kind == "order-overdue"));
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_end_an_order_that_may_have_been_finalized() {
        let late = OrderState::Ready { placed: placed(1 - margin()), since: now() };
        assert_eq!(decide(&late, Some(Seen::Processing), true), Step::Wait);
        assert_eq!(decide(&late, Some(Seen::Pending), true), Step::Wait);
        assert_eq!(decide(&late, Some(Seen::Ready), true), Step::Finalize);
        assert!(may_issue(&late, now()));
    }

    #[test]
    fn an_order_whose_expiry_the_ca_keeps_to_itself_ends_all_the_same() {
        let placed = Placed { url: "https://ca.example.test/order/1".into(), expires: None };
        let ready = OrderState::Ready { placed, since: now() };
        let known = Knowledge { seen: Some(Seen::Processing), submitted: true, ..Knowledge::default() };
        let at = |past| later(now(), limits::ORDER_LIFE_DEFAULT + past);
        assert_eq!(next_step(&ready, &known, at(std::time::Duration::ZERO)), Step::Wait);
        assert!(matches!(next_step(&ready, &known, at(limits::READY_EXPIRY_MARGIN)), Step::Fail(_)));
    }
}
