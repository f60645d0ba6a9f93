// SPDX-License-Identifier: Apache-2.0
//! Rate limits of a CA that everybody keeps: which orders one is about, and until when no more of them are placed.
//!
//! A CA says in words what it counted: certificates for a registered domain, for the very same names, failures of a name, or
//! orders of the account. Where the words name one of the order's names, or a domain above it, only that one is parked; where
//! they name nothing that is known, the account is, since the next order would be refused like this one.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::certificate::Names;
use crate::id::{IssuerId, OrderId};
use crate::limits;
use crate::name::Identifier;
use crate::order::Order;
use crate::problem::Problem;

/// What a rate limit is about, at one issuer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// Whatever the account orders.
    Account,
    /// Whatever is ordered for this name and those below it.
    Domain(String),
    /// What is ordered for this very set of names, by its hash.
    Names(String),
    /// What is asked for this order.
    Order(OrderId),
}

/// A rate limit that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Park {
    /// At which issuer.
    pub issuer: IssuerId,
    /// What no more orders are placed for.
    pub bucket: Bucket,
    /// For how long.
    pub time: Duration,
    /// The order that met it, where it is not placed, and for how long that is not sent again: whatever it goes past, it keeps
    /// what it was told itself.
    pub own: Option<(OrderId, Duration)>,
    /// What the CA said.
    pub problem: Problem,
}

impl Bucket {
    /// As it is recorded.
    #[must_use]
    pub fn key(&self, issuer: IssuerId) -> String {
        match self {
            Self::Account => format!("{issuer}/account"),
            Self::Domain(name) => format!("{issuer}/domain/{name}"),
            Self::Names(hash) => format!("{issuer}/names/{hash}"),
            Self::Order(order) => format!("{issuer}/order/{order}"),
        }
    }

    /// What `said` is about, of an order for these names.
    fn of(said: &str, names: &Names) -> Self {
        if said.contains("exact set") {
            return Self::Names(hex::encode(names.set_sha256()));
        }
        let domains = domains(names);
        // Between the quotation marks: every other part.
        let quoted = said.split('"').skip(1).step_by(2);
        let mut named = quoted.map(|name| name.trim_start_matches("*.").to_ascii_lowercase());
        named.find(|name| domains.contains(name)).map_or(Self::Account, Self::Domain)
    }
}

impl Park {
    /// What becomes of orders when one was refused because of `problem`: the CA asked to come back after `asked`, and the order
    /// itself does so after `own`. What the CA says of one that is placed is about that one alone.
    #[must_use]
    pub fn new(order: &Order, problem: Problem, asked: Duration, own: Duration) -> Self {
        let issuer = order.issuer;
        match order.state.placed() {
            Some(_) => Self { issuer, bucket: Bucket::Order(order.id), time: own, own: None, problem },
            None => {
                let bucket = Bucket::of(&problem.detail, &order.names);
                let time = asked.min(limits::RATE_LIMIT_MAX);
                Self { issuer, bucket, time, own: Some((order.id, own)), problem }
            }
        }
    }

    /// Everything that it is kept by, and for how long.
    pub fn kept(&self) -> impl Iterator<Item = (Bucket, Duration)> {
        let own = self.own.map(|(order, time)| (Bucket::Order(order), time));
        std::iter::once((self.bucket.clone(), self.time)).chain(own)
    }
}

/// Whether an order is placed in spite of a limit that is kept until then: one that the CA suggested by now, since such orders
/// are exempt (RFC 9773, 5), and one that could only be placed when what is in use, and is good yet, has expired. What the CA
/// says to that one order is kept all the same.
#[must_use]
pub fn goes_past(until: Timestamp, expires: Timestamp, now: Timestamp, is_suggested: bool) -> bool {
    is_suggested || (now < expires && expires <= until)
}

/// Everything that an order for these names may be parked by.
#[must_use]
pub fn buckets(names: &Names) -> Vec<Bucket> {
    let whole = [Bucket::Account, Bucket::Names(hex::encode(names.set_sha256()))];
    whole.into_iter().chain(domains(names).into_iter().map(Bucket::Domain)).collect()
}

/// The names and the domains above them, but for those of one label: no CA counts by those.
fn domains(names: &Names) -> BTreeSet<String> {
    let of = |name: &Identifier| match name {
        Identifier::Ip(address) => vec![address.to_string()],
        Identifier::Dns(name) => {
            let name = name.trim_start_matches("*.");
            let above = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
            let all = std::iter::once(name).chain(above);
            all.filter(|domain| domain.contains('.')).map(str::to_owned).collect()
        }
    };
    names.identifiers().iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::parse(vec!["www.shop.example.test".into(), "*.b.test".into()]).unwrap()
    }

    fn of(said: &str) -> Bucket {
        Bucket::of(said, &names())
    }

    #[test]
    fn the_cas_words_say_what_is_parked() {
        let domain = |name: &str| Bucket::Domain(name.to_owned());
        let cases = [
            (
                r#"too many certificates (50) already issued for "example.test" in the last 168h0m0s, retry after .."#,
                domain("example.test"),
            ),
            (
                r#"too many failed authorizations (5) for "www.shop.example.test" in the last 1h0m0s"#,
                domain("www.shop.example.test"),
            ),
            (r#"too many certificates already issued for "*.b.test""#, domain("b.test")),
            (r#"too many new orders (300) from this account in the last 3h0m0s"#, Bucket::Account),
            // Not ours, and not a registered domain: what it means is not known.
            (r#"too many certificates already issued for "example.org""#, Bucket::Account),
            (r#"limit "test" reached"#, Bucket::Account),
            ("", Bucket::Account),
        ];
        for (said, bucket) in cases {
            assert_eq!(of(said), bucket, "{said}");
        }
    }

    #[test]
    fn what_was_issued_too_often_for_the_same_names_parks_nothing_else() {
        let said =
            "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s";
        let Bucket::Names(hash) = of(said) else { panic!("{:?}", of(said)) };
        assert!(buckets(&names()).contains(&Bucket::Names(hash.clone())));
        let other = Names::parse(vec!["www.shop.example.test".into()]).unwrap();
        assert!(!buckets(&other).contains(&Bucket::Names(hash)));
    }

    #[test]
    fn whatever_parks_an_order_is_asked_for_before_the_next() {
        let domain = |name: &str| Bucket::Domain(name.to_owned());
        let all = buckets(&names());
        for bucket in
            [Bucket::Account, domain("example.test"), domain("www.shop.example.test"), domain("b.test")]
        {
            assert!(all.contains(&bucket), "{bucket:?}");
        }
        assert!(!all.contains(&domain("test")));
        let elsewhere = Names::parse(vec!["shop.test".into(), "192.0.2.7".into()]).unwrap();
        let elsewhere = buckets(&elsewhere);
        assert!(!elsewhere.contains(&domain("example.test")) && elsewhere.contains(&domain("192.0.2.7")));
    }

    #[test]
    fn nobody_goes_past_a_limit_but_what_the_ca_suggested_and_what_would_expire() {
        let at = |hour: i64| Timestamp::from_second(1_790_000_000 + hour * 3_600).unwrap();
        let goes = |until, expires, is_suggested| goes_past(at(until), at(expires), at(0), is_suggested);
        assert!(!goes(1, 2, false) && !goes(1, 0, false), "what is over has nothing to lose by waiting");
        assert!(goes(2, 2, false) && goes(3, 2, false) && goes(1, 2, true));
    }
}
