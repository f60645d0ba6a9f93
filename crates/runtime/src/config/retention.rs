// SPDX-License-Identifier: Apache-2.0
//! How long what is over is kept. Every service is told the same.

use std::ops::RangeInclusive;
use std::time::Duration;

use cap_core::retention::Retention;

use super::{Config, Fault, Group};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Shorter, and who asks in the morning what became of a job of the night finds nothing; longer, and the collection that
/// every claim goes through holds little else: history is in the totals.
const JOBS: RangeInclusive<Duration> = HOUR..=DAY.saturating_mul(90);
/// Shorter, and a failing certificate's daily attempts are forgotten between two of them.
const ATTEMPTS: RangeInclusive<Duration> = DAY..=DAY.saturating_mul(365);
/// Shorter, and what a CA is asked about an order cannot be answered here.
const ORDERS: RangeInclusive<Duration> = DAY..=DAY.saturating_mul(365);
/// Clients of ours repeat a request for some 20 s, and schedulers of others' for minutes: shorter than an hour, and a late
/// repetition would be carried out again. Longer than a month, and nobody repeats it any more.
const IDEMPOTENCY: RangeInclusive<Duration> = HOUR..=DAY.saturating_mul(30);
/// Long enough for a comparison with the day before; beyond ten years nobody compares.
const TOTALS: RangeInclusive<Duration> = DAY..=DAY.saturating_mul(3_650);
/// Shorter, and a notice of last week is gone before somebody is back; beyond ten years no audit asks for it.
const NOTICES: RangeInclusive<Duration> = DAY.saturating_mul(7)..=DAY.saturating_mul(3_650);
/// Shorter, and `token list` does not show what ran out yesterday, which is what whoever is locked out looks for.
const TOKENS: RangeInclusive<Duration> = DAY..=DAY.saturating_mul(365);

impl Group for Retention {
    fn read(config: &mut Config) -> Option<Self> {
        let jobs = config.duration("CAP_RETENTION_JOBS", JOBS);
        let attempts = config.duration("CAP_RETENTION_ATTEMPTS", ATTEMPTS);
        let orders = config.duration("CAP_RETENTION_ORDERS", ORDERS);
        let idempotency = config.duration("CAP_RETENTION_IDEMPOTENCY", IDEMPOTENCY);
        let totals = config.duration("CAP_RETENTION_TOTALS", TOTALS);
        let notices = config.duration("CAP_RETENTION_NOTICES", NOTICES);
        let tokens = config.duration("CAP_RETENTION_TOKENS", TOKENS);
        let retention = Self {
            jobs: jobs?,
            attempts: attempts?,
            orders: orders?,
            idempotency: idempotency?,
            totals: totals?,
            notices: notices?,
            tokens: tokens?,
        };
        if retention.totals < retention.jobs {
            config.fault(Fault::new(
                "CAP_RETENTION_TOTALS",
                "it is shorter than CAP_RETENTION_JOBS, so the totals would be gone before what they count",
                "set it to as long at least; 400d is the default",
            ));
            return None;
        }
        Some(retention)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn read(env: &[(&str, &str)]) -> Result<Retention, String> {
        let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::read(None, env).finish::<Retention>().map_err(|faults| faults.to_string())
    }

    #[test]
    fn the_defaults_of_the_catalogue_are_the_domains() {
        assert_eq!(read(&[]), Ok(Retention::default()));
    }

    #[test]
    fn what_is_given_is_read_and_what_makes_no_sense_is_refused_with_its_bounds() {
        let given = read(&[("CAP_RETENTION_JOBS", "12h"), ("CAP_RETENTION_IDEMPOTENCY", "2h")]).unwrap();
        assert_eq!((given.jobs, given.idempotency), (HOUR * 12, HOUR * 2));
        for (name, value, told) in [
            ("CAP_RETENTION_JOBS", "59m", "from 1h to 90d"),
            ("CAP_RETENTION_JOBS", "91d", "from 1h to 90d"),
            ("CAP_RETENTION_ATTEMPTS", "1h", "from 1d to 365d"),
            ("CAP_RETENTION_ORDERS", "366d", "from 1d to 365d"),
            ("CAP_RETENTION_IDEMPOTENCY", "10m", "from 1h to 30d"),
            ("CAP_RETENTION_TOTALS", "0s", "from 1d to 3650d"),
            ("CAP_RETENTION_NOTICES", "1d", "from 7d to 3650d"),
            ("CAP_RETENTION_TOKENS", "1s", "from 1d to 365d"),
        ] {
            let faults = read(&[(name, value)]).unwrap_err();
            assert!(faults.contains(name) && faults.contains(told), "{faults}");
        }
    }

    #[test]
    fn totals_that_end_before_their_jobs_are_refused() {
        let faults = read(&[("CAP_RETENTION_JOBS", "30d"), ("CAP_RETENTION_TOTALS", "29d")]).unwrap_err();
        assert!(faults.contains("shorter than CAP_RETENTION_JOBS"), "{faults}");
        assert!(read(&[("CAP_RETENTION_JOBS", "30d"), ("CAP_RETENTION_TOTALS", "30d")]).is_ok());
    }
}
