// SPDX-License-Identifier: Apache-2.0
//! Which certificate an order is said to replace (RFC 9773, 5), and when it is no longer said: that an order is a
//! replacement may get it past the CA's limits, and must never be why it is not placed.

use crate::id::IssuerId;
use crate::job::{Setbacks, Sort, count_of};
use crate::limits;
use crate::order::{CaError, OrderState};
use crate::problem::{Class, Problem};
use crate::renewal_info::AriId;

/// What an order at `issuer` replaces: the version before it, if it was `issued_by` the same issuer.
#[must_use]
pub fn predecessor(issued_by: Option<IssuerId>, id: Option<&AriId>, issuer: IssuerId) -> Option<AriId> {
    id.filter(|_| issued_by == Some(issuer)).cloned()
}

/// Whether an order is placed as one that replaces nothing, since so many attempts failed before it, the `last` one by a protocol error of the
/// CA's: it may refuse the predecessor in words of its own.
#[must_use]
pub fn is_doubted(failures: u32, last: Option<&Problem>) -> bool {
    failures >= limits::REPLACES_FAILURES
        && last.is_some_and(|problem| problem.class == Class::Protocol && problem.kind.starts_with("urn:"))
}

impl OrderState {
    /// The certificate that the CA is told the order replaces, as long as it is not placed.
    #[must_use]
    pub fn replaces(&self) -> Option<&AriId> {
        match self {
            Self::Keyed { replaces } => replaces.as_ref(),
            Self::Ordered { .. }
            | Self::Challenged { .. }
            | Self::Ready { .. }
            | Self::Stored { .. }
            | Self::Failed { .. } => None,
        }
    }
}

const SERVER_INTERNAL: &str = "urn:ietf:params:acme:error:serverInternal";
/// What a CA answers that fails in itself, rather than for want of a connection: by the type of its problem, if it has one.
const STUMBLED: [&str; 3] = [SERVER_INTERNAL, "about:blank", "ca-error"];
/// What a CA may say of the predecessor: that another order replaces it, in today's words and in those of a draft, that it does
/// not know it, or that it was another account's.
const OF_THE_PREDECESSOR: [&str; 5] = [
    "urn:ietf:params:acme:error:alreadyReplaced",
    "urn:ietf:params:acme:error:conflict",
    "urn:ietf:params:acme:error:malformed",
    "urn:ietf:params:acme:error:unauthorized",
    SERVER_INTERNAL,
];

/// Whether an order that was not placed because of `error`, after the faults `before`, is sent again as one that
/// replaces nothing. A CA may have another order that replaces the same certificate (`alreadyReplaced`), may have lost the
/// certificate or the account that it was for, or may stumble. What it says of the names or the profile it would say once more,
/// and count once more.
pub(super) fn goes_without(error: &CaError, before: Option<Setbacks>) -> bool {
    match error {
        // A CA that does not accept the account says so once more.
        CaError::Refused(problem) | CaError::Gone(problem) | CaError::Account(problem) => {
            OF_THE_PREDECESSOR.contains(&&*problem.kind)
        }
        CaError::Transient(_) | CaError::OutOfStep(_) | CaError::Later { .. } => {
            let faults = count_of(before, Sort::Replacement);
            stumbles(error) && faults.saturating_add(1) >= limits::REPLACES_FAULTS
        }
        CaError::NeedsPerson(_) => false,
    }
}

/// Whether a CA fails in itself over an order. One that cannot be reached has said nothing of the predecessor.
pub(super) fn stumbles(error: &CaError) -> bool {
    match error {
        CaError::Transient(problem) | CaError::OutOfStep(problem) | CaError::Later { problem, .. } => {
            problem.class != Class::RateLimited && STUMBLED.contains(&&*problem.kind)
        }
        CaError::Refused(_) | CaError::Gone(_) | CaError::Account(_) | CaError::NeedsPerson(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn only_what_the_same_issuer_issued_is_replaced() {
        let issuer = |n: u32| format!("iss_{n:032x}").parse::<IssuerId>().unwrap();
        let id = AriId::new(&[1], &[2]).unwrap();
        assert_eq!(predecessor(Some(issuer(1)), Some(&id), issuer(1)), Some(id.clone()));
        assert_eq!(predecessor(Some(issuer(2)), Some(&id), issuer(1)), None);
        assert_eq!(predecessor(None, Some(&id), issuer(1)), None);
        assert_eq!(predecessor(Some(issuer(1)), None, issuer(1)), None);
    }

    #[test]
    fn what_failed_twice_by_a_protocol_error_is_placed_as_one_that_replaces_nothing() {
        let of = |class| Problem::new(class, "urn:ietf:params:acme:error:neverHeardOf", "");
        let odd = of(Class::Protocol);
        assert!(!is_doubted(1, Some(&odd)) && is_doubted(2, Some(&odd)));
        for known in [Class::Validation, Class::Configuration, Class::RateLimited, Class::Transient] {
            assert!(!is_doubted(9, Some(&of(known))), "{known:?}");
        }
        assert!(!is_doubted(9, None));
        let own = Problem::new(Class::Protocol, "order-stuck", "");
        assert!(!is_doubted(9, Some(&own)), "what we say ourselves is known");
    }

    #[test]
    fn a_limit_is_waited_for_and_a_refusal_is_not_taken_for_an_answer() {
        let problem = || Problem::new(Class::Protocol, "urn:ietf:params:acme:error:alreadyReplaced", "");
        let after = |count| Some(Setbacks::none(Timestamp::UNIX_EPOCH).times(Sort::Replacement, count));
        let others = Some(Setbacks { count: 9, ..Setbacks::none(Timestamp::UNIX_EPOCH) });
        for (before, expected) in
            [(None, false), (others, false), (after(1), false), (after(2), true), (after(99), true)]
        {
            let fault = |kind| CaError::Transient(Problem::new(Class::Transient, kind, ""));
            for kind in STUMBLED {
                assert_eq!(goes_without(&fault(kind), before), expected, "{before:?}");
            }
            assert!(!goes_without(&fault("ca-unreachable"), before), "{before:?}");
        }
        let limit = Problem::new(Class::RateLimited, SERVER_INTERNAL, "");
        let later = CaError::Later { problem: limit, at: Timestamp::UNIX_EPOCH };
        assert!(!goes_without(&later, after(9)) && !goes_without(&CaError::NeedsPerson(problem()), after(9)));
    }

    #[test]
    fn only_what_may_be_about_the_predecessor_is_asked_for_without_it() {
        let refused = |kind: &str| {
            let problem = Problem::new(Class::Protocol, &format!("urn:ietf:params:acme:error:{kind}"), "");
            [CaError::Refused(problem.clone()), CaError::Gone(problem.clone()), CaError::Account(problem)]
        };
        for kind in ["alreadyReplaced", "conflict", "malformed", "unauthorized", "serverInternal"] {
            assert!(refused(kind).iter().all(|error| goes_without(error, None)), "{kind}");
        }
        for kind in
            ["rejectedIdentifier", "invalidProfile", "accountDoesNotExist", "caa", "unsupportedIdentifier"]
        {
            assert!(!refused(kind).iter().any(|error| goes_without(error, None)), "{kind}");
        }
        let profile = Problem::new(Class::Configuration, "profile-not-offered", "");
        assert!(!goes_without(&CaError::Refused(profile), None), "nor is what we say ourselves");
    }
}
