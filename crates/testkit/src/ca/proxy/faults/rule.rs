// SPDX-License-Identifier: Apache-2.0
//! Which fault is injected into which requests, and how often: what a drill says, and what the control port takes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::ca::proxy::route::Asked;
use crate::luck::Luck;

/// A longer stall only outlasts every client.
const MAX_STALL_MS: u64 = 120_000;
/// A longer wait outlasts every drill.
const MAX_RETRY_AFTER_S: u32 = 3_600;
/// More looks than any client takes.
const MAX_LOOKS: u32 = 10_000;
/// What a gateway or a CA answers when it is not well.
const SERVER_ERRORS: [u16; 3] = [500, 502, 503];

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The CA acts; the connection is closed without an answer.
    LostResponse,
    /// The CA acts; the connection is reset (RST).
    Reset,
    /// 400 badNonce, with a good nonce. The CA is not asked.
    BadNonce,
    /// 429 rateLimited with `Retry-After`. The CA is not asked.
    RateLimited {
        /// When to come again, in seconds.
        retry_after_s: u32,
        /// Said as an HTTP date (RFC 9110, 5.6.7), and not as seconds.
        #[serde(default)]
        as_date: bool,
    },
    /// 500 as a CA says it, 502 or 503 as the gateway in front of it does.
    ServerError {
        /// 500, 502 or 503.
        status: u16,
        /// Whether the CA acts before.
        #[serde(default)]
        acts: bool,
    },
    /// 403 unauthorized to a look at an order that was finalized, as from a replica that lags or a firewall. The CA is not
    /// asked.
    Refused,
    /// The CA acts; its answer stands still.
    Stall {
        /// For so long, in milliseconds.
        ms: u64,
    },
    /// The challenge is taken, as the answer says, and nobody looks at it. The CA is not asked.
    Unvalidated,
    /// The CA issues, and its order says `processing` for a while.
    Processing {
        /// So many looks at the order.
        looks: u32,
    },
    /// Finalize is accepted, and then the order turns `invalid`. The CA is not asked, so it issues nothing.
    LateFailure,
    /// The chain that is fetched is another one.
    WrongCertificate {
        /// What is wrong with it.
        wrong: Wrong,
    },
    /// newOrder for names that have an order open answers that one, as Boulder does. The CA is not asked.
    SharedOrder,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// It certifies another key.
    Key,
    /// It certifies the right key under other names. Only for P-256 keys.
    Names,
}

impl Fault {
    /// Its name in JSON and in the counts.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LostResponse => "lost-response",
            Self::Reset => "reset",
            Self::BadNonce => "bad-nonce",
            Self::RateLimited { .. } => "rate-limited",
            Self::ServerError { .. } => "server-error",
            Self::Refused => "refused",
            Self::Stall { .. } => "stall",
            Self::Unvalidated => "unvalidated",
            Self::Processing { .. } => "processing",
            Self::LateFailure => "late-failure",
            Self::WrongCertificate { .. } => "wrong-certificate",
            Self::SharedOrder => "shared-order",
        }
    }

    /// The requests in which it means something.
    fn fits(&self) -> &'static [Asked] {
        match self {
            Self::LostResponse
            | Self::Reset
            | Self::BadNonce
            | Self::RateLimited { .. }
            | Self::ServerError { .. }
            | Self::Stall { .. } => Asked::SIGNED,
            Self::Refused => &[Asked::Order],
            Self::Unvalidated => &[Asked::Challenge],
            Self::Processing { .. } | Self::LateFailure => &[Asked::Finalize],
            Self::WrongCertificate { .. } => &[Asked::Certificate],
            Self::SharedOrder => &[Asked::NewOrder],
        }
    }
}

/// A fault, and the requests that it is injected into.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// What is asked for; none for everything in which the fault means something.
    #[serde(default)]
    pub routes: Vec<Asked>,
    /// The beginning of the first of the names, in their order; none for every request, those that are about no names too.
    #[serde(default)]
    pub names: Option<String>,
    /// How likely it is, for each request; 1 unless given.
    #[serde(default)]
    pub probability: Option<f64>,
    /// How often in all; without end unless given.
    #[serde(default)]
    pub count: Option<u64>,
    /// How often for one set of names; without end unless given.
    #[serde(default)]
    pub count_per_names: Option<u64>,
    /// Decides the lots that are drawn.
    #[serde(default)]
    pub seed: u64,
}

impl FaultRule {
    /// This fault in every request in which it means something.
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self {
            fault,
            routes: Vec::new(),
            names: None,
            probability: None,
            count: None,
            count_per_names: None,
            seed: 0,
        }
    }

    /// Only where this is asked for.
    #[must_use]
    pub fn at(mut self, routes: &[Asked]) -> Self {
        self.routes = routes.to_vec();
        self
    }

    /// Only for names that begin so.
    #[must_use]
    pub fn names(mut self, beginning: &str) -> Self {
        self.names = Some(beginning.to_owned());
        self
    }

    /// So many times.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// So many times for each set of names.
    #[must_use]
    pub fn times_each(mut self, count: u64) -> Self {
        self.count_per_names = Some(count);
        self
    }

    /// So likely, by the lots of this seed.
    #[must_use]
    pub fn likely(mut self, probability: f64, seed: u64) -> Self {
        (self.probability, self.seed) = (Some(probability), seed);
        self
    }

    /// What is wrong with the rule itself: a drill that injects nothing shows nothing.
    pub(super) fn check(&self) -> Result<(), String> {
        let (kind, fits) = (self.fault.kind(), self.fault.fits());
        if let Some(route) = self.routes.iter().find(|route| !fits.contains(route)) {
            return Err(format!("{kind} means nothing at {route:?}; choose among {fits:?}"));
        }
        if self.probability.is_some_and(|probability| !(probability > 0.0 && probability <= 1.0)) {
            return Err("a probability is above 0 and at most 1".into());
        }
        if self.count == Some(0) || self.count_per_names == Some(0) {
            return Err("a count is 1 or more".into());
        }
        match self.fault {
            Fault::ServerError { status, .. } if !SERVER_ERRORS.contains(&status) => {
                Err(format!("a server error is one of {SERVER_ERRORS:?}"))
            }
            Fault::Stall { ms } if ms > MAX_STALL_MS => {
                Err(format!("a stall is at most {MAX_STALL_MS} ms long"))
            }
            Fault::RateLimited { retry_after_s, .. } if retry_after_s > MAX_RETRY_AFTER_S => {
                Err(format!("Retry-After is at most {MAX_RETRY_AFTER_S} s here"))
            }
            Fault::Processing { looks } if looks == 0 || looks > MAX_LOOKS => {
                Err(format!("an order is processing for 1 to {MAX_LOOKS} looks"))
            }
            _ => Ok(()),
        }
    }
}

/// A rule at work.
#[derive(Debug)]
pub(super) struct Armed {
    rule: FaultRule,
    luck: Luck,
    left: Option<u64>,
    left_for: HashMap<String, u64>,
}

impl Armed {
    pub(super) fn new(rule: FaultRule) -> Self {
        Self { luck: Luck::seeded(rule.seed), left: rule.count, left_for: HashMap::new(), rule }
    }

    pub(super) fn rule(&self) -> &FaultRule {
        &self.rule
    }

    /// Whether this request is one of those that the rule is about, and some are left.
    pub(super) fn aims_at(&self, asked: Asked, names: Option<&str>) -> bool {
        let routes: &[Asked] =
            if self.rule.routes.is_empty() { self.rule.fault.fits() } else { &self.rule.routes };
        let of_names = match &self.rule.names {
            None => true,
            Some(beginning) => names.is_some_and(|names| names.starts_with(beginning.as_str())),
        };
        let left_for =
            names.and_then(|names| self.left_for.get(names).copied()).or(self.rule.count_per_names);
        routes.contains(&asked) && of_names && self.left != Some(0) && left_for != Some(0)
    }

    /// Draws the lot of a request that the rule is about; what is left is one less when it falls.
    pub(super) fn falls(&mut self, names: Option<&str>) -> bool {
        if !self.luck.strikes(self.rule.probability.unwrap_or(1.0)) {
            return false;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        if let (Some(each), Some(names)) = (self.rule.count_per_names, names) {
            let left = self.left_for.entry(names.to_owned()).or_insert(each);
            *left = left.saturating_sub(1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_read_from_json_as_it_is_documented() {
        let text = json!({
            "fault": { "kind": "rate-limited", "retry_after_s": 3, "as_date": true },
            "routes": ["new-order", "finalize"], "names": "limited-", "probability": 0.5, "count": 4, "seed": 7,
        });
        let rule: FaultRule = serde_json::from_value(text).unwrap();
        let wanted = FaultRule::always(Fault::RateLimited { retry_after_s: 3, as_date: true })
            .at(&[Asked::NewOrder, Asked::Finalize])
            .names("limited-")
            .times(4)
            .likely(0.5, 7);
        assert_eq!(rule, wanted);
        for bad in
            [json!({ "fault": { "kind": "flood" } }), json!({ "fault": { "kind": "reset" }, "rate": 1 })]
        {
            assert!(serde_json::from_value::<FaultRule>(bad).is_err());
        }
    }

    #[test]
    fn a_rule_that_would_inject_nothing_is_refused() {
        let always = FaultRule::always;
        for bad in [
            always(Fault::LateFailure).at(&[Asked::Order]),
            always(Fault::Reset).at(&[Asked::Directory]),
            always(Fault::Reset).times(0),
            always(Fault::Reset).likely(0.0, 1),
            always(Fault::Reset).likely(f64::NAN, 1),
            always(Fault::ServerError { status: 404, acts: false }),
            always(Fault::Stall { ms: 600_000 }),
            always(Fault::Processing { looks: 0 }),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert_eq!(always(Fault::SharedOrder).check(), Ok(()));
    }

    #[test]
    fn a_rule_is_about_its_routes_and_names_and_ends() {
        let mut armed =
            Armed::new(FaultRule::always(Fault::Reset).at(&[Asked::NewOrder]).names("a").times_each(1));
        assert!(!armed.aims_at(Asked::Order, Some("a.example.test")));
        assert!(!armed.aims_at(Asked::NewOrder, Some("b.example.test")));
        assert!(!armed.aims_at(Asked::NewOrder, None));
        assert!(
            armed.aims_at(Asked::NewOrder, Some("a.example.test")) && armed.falls(Some("a.example.test"))
        );
        assert!(!armed.aims_at(Asked::NewOrder, Some("a.example.test")), "once for each set of names");
        assert!(armed.aims_at(Asked::NewOrder, Some("a2.example.test")));
        let mut twice = Armed::new(FaultRule::always(Fault::Reset).times(2));
        assert!(twice.falls(None) && twice.falls(None));
        assert!(!twice.aims_at(Asked::Order, None));
    }
}
