// SPDX-License-Identifier: Apache-2.0
//! How long something took each time.

use std::time::Duration;

use super::{Figures, Form};

/// Times of the same thing, in the order in which they were taken.
#[derive(Clone, Debug, Default)]
pub struct Timings(Vec<Duration>);

impl Timings {
    /// Adds one.
    pub fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle one, the later of two; zero when there is none.
    #[must_use]
    pub fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// The longest; zero when there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    /// Adds the longest, judged by what is promised, and the median, judged by what is aimed at where the drill runs
    /// long enough, and undisturbed enough, for a median to mean something.
    pub fn judge(&self, figures: &mut Figures, form: Form, what: &str, promised: Duration, aim: Duration) {
        figures.at_most(&format!("{what} (longest)"), self.max(), promised);
        let median = format!("{what} (median)");
        match form {
            Form::Short => figures.time(&median, self.median()),
            Form::Soak => figures.at_most(&median, self.median(), aim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timings(seconds: &[u64]) -> Timings {
        Timings(seconds.iter().copied().map(Duration::from_secs).collect())
    }

    #[test]
    fn the_middle_and_the_longest() {
        assert_eq!(timings(&[9, 1, 5]).median(), Duration::from_secs(5));
        assert_eq!(timings(&[9, 1, 5]).max(), Duration::from_secs(9));
        assert_eq!(timings(&[]).median(), Duration::ZERO);
    }

    #[test]
    fn a_soak_is_judged_by_its_aim_and_a_test_is_not() {
        let (promised, aim) = (Duration::from_secs(30), Duration::from_secs(2));
        let judged = |form, seconds: &[u64]| {
            let mut figures = Figures::default();
            timings(seconds).judge(&mut figures, form, "takeover", promised, aim);
            figures.are_met()
        };
        assert!(judged(Form::Short, &[5, 5, 5]) && !judged(Form::Soak, &[5, 5, 5]));
        assert!(judged(Form::Soak, &[1, 1, 29]) && !judged(Form::Short, &[1, 1, 31]));
    }
}
