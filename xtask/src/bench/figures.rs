// SPDX-License-Identifier: Apache-2.0
//! Figures: percentiles, and targets that are met or missed.

use std::time::Duration;

/// Times of the same thing, sorted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that so many of a thousand do not exceed; zero when there are none.
    pub(crate) fn permille(&self, permille: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last * permille).div_ceil(1_000)).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.permille(500)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.permille(990)
    }

    pub(crate) fn worst(&self) -> Duration {
        self.permille(1_000)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// In milliseconds, as printed.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// A count, as a number to reckon with.
pub(crate) fn number(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let number = count as f64;
    number
}

/// How a figure must stand to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Least,
    Most,
    Below,
}

/// What was judged so far.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    lines: Vec<String>,
    missed: usize,
}

impl Verdicts {
    /// Judges a figure and prints the verdict.
    pub(crate) fn judge(&mut self, what: &str, figure: f64, bound: Bound, target: f64, unit: &str) {
        let (is_met, word) = match bound {
            Bound::Least => (figure >= target, "at least"),
            Bound::Most => (figure <= target, "at most"),
            Bound::Below => (figure < target, "below"),
        };
        self.missed += usize::from(!is_met);
        let verdict = if is_met { "met" } else { "MISSED" };
        let line = format!("{what}: {figure:.3} {unit}, target {word} {target} {unit}: {verdict}");
        println!("  {line}");
        self.lines.push(line);
    }

    /// Prints all of them again; answers whether every target was met.
    pub(crate) fn conclude(&self) -> bool {
        println!("\ntargets");
        for line in &self.lines {
            println!("  {line}");
        }
        self.missed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred_and_never_too_good() {
        let times = Times::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(times.median(), Duration::from_millis(51));
        assert_eq!(times.p99(), Duration::from_millis(100));
        assert_eq!(times.worst(), Duration::from_millis(100));
        assert_eq!(Times::default().p99(), Duration::ZERO);
    }

    #[test]
    fn one_miss_is_enough() {
        let mut verdicts = Verdicts::default();
        verdicts.judge("claims", 2.0, Bound::Least, 2.0, "x");
        verdicts.judge("wake-up", 15.0, Bound::Most, 15.0, "ms");
        assert!(verdicts.conclude());
        verdicts.judge("operations", 120.0, Bound::Below, 120.0, "a minute");
        assert!(!verdicts.conclude());
    }
}
