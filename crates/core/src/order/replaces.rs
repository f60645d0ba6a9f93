// SPDX-License-Identifier: Apache-2.0
//! Which certificate an order is said to replace (RFC 9773, 5), and when it is no longer said: that an order is a
//! replacement may get it past the CA's limits, and must never be why it is not placed.

use crate::id::IssuerId;
use crate::job::Setbacks;
use crate::limits;
use crate::order::{CaError, OrderState};
use crate::renewal_info::AriId;

/// What an order at `issuer` replaces: the version before it, if it was `issued_by` the same issuer.
#[must_use]
pub fn predecessor(issued_by: Option<IssuerId>, id: Option<&AriId>, issuer: IssuerId) -> Option<AriId> {
    id.filter(|_| issued_by == Some(issuer)).cloned()
}

impl OrderState {
    /// The certificate that the CA is told the order replaces.
    pub(super) fn replaces(&self) -> Option<&AriId> {
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

/// What a CA answers that fails in itself, rather than for want of a connection: by the type of its problem, if it has one.
const STUMBLED: [&str; 3] = ["urn:ietf:params:acme:error:serverInternal", "about:blank", "ca-error"];

/// Whether an order that was not placed because of `error`, after `before` passing faults in a row, is sent again as one that
/// replaces nothing. A CA may have another order that replaces the same certificate (`alreadyReplaced`), may have lost the
/// certificate or the account that it was for, or may stumble; what it really refuses it refuses once more.
pub(super) fn goes_without(error: &CaError, before: Option<Setbacks>) -> bool {
    match error {
        CaError::Refused(_) | CaError::Gone(_) => true,
        // One that cannot be reached has said nothing of the predecessor.
        CaError::Transient(problem) | CaError::OutOfStep(problem) => {
            STUMBLED.contains(&&*problem.kind)
                && before.is_some_and(|before| before.count.saturating_add(1) >= limits::REPLACES_FAULTS)
        }
        CaError::Later { .. } | CaError::NeedsPerson(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{Class, Problem};
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
    fn a_limit_is_waited_for_and_a_refusal_is_not_taken_for_an_answer() {
        let problem = || Problem::new(Class::Protocol, "urn:ietf:params:acme:error:alreadyReplaced", "");
        let after = |count| Some(Setbacks { count, since: Timestamp::UNIX_EPOCH });
        assert!(goes_without(&CaError::Refused(problem()), None));
        assert!(goes_without(&CaError::Gone(problem()), None));
        for (before, expected) in
            [(None, false), (after(1), false), (after(2), true), (after(u32::MAX), true)]
        {
            let fault = |kind| CaError::Transient(Problem::new(Class::Transient, kind, ""));
            for kind in STUMBLED {
                assert_eq!(goes_without(&fault(kind), before), expected, "{before:?}");
            }
            assert!(!goes_without(&fault("ca-unreachable"), before), "{before:?}");
        }
        let later = CaError::Later { problem: problem(), at: Timestamp::UNIX_EPOCH };
        assert!(!goes_without(&later, after(9)) && !goes_without(&CaError::NeedsPerson(problem()), after(9)));
    }
}
