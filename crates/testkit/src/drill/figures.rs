// SPDX-License-Identifier: Apache-2.0
//! What a drill measured, each figure beside its bound.

use std::fmt;
use std::time::Duration;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what; empty for a plain count.
    pub unit: &'static str,
    /// The most that it may be; none for what is only shown.
    pub bound: Option<f64>,
}

impl Figure {
    /// Whether it is within its bound.
    #[must_use]
    pub fn is_met(&self) -> bool {
        // Written so that a figure which is no number is a missed one.
        self.bound.is_none_or(|bound| self.value <= bound)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.value.fract() == 0.0 { 0 } else { 3 };
        write!(out, "{} {:.digits$}", self.name, self.value)?;
        if !self.unit.is_empty() {
            write!(out, " {}", self.unit)?;
        }
        match self.bound {
            Some(bound) if self.is_met() => write!(out, " (at most {bound})"),
            Some(bound) => write!(out, " (MISSED: at most {bound})"),
            None => Ok(()),
        }
    }
}

/// What a drill measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// A count of what must never happen.
    pub fn none(&mut self, name: &str, count: usize) {
        self.count_at_most(name, count, 0);
    }

    /// A count that is bounded.
    pub fn count_at_most(&mut self, name: &str, count: usize, bound: usize) {
        self.add(name, whole(count), "", Some(whole(bound)));
    }

    /// A count that is only shown.
    pub fn count(&mut self, name: &str, count: usize) {
        self.add(name, whole(count), "", None);
    }

    /// A time that is bounded.
    pub fn at_most(&mut self, name: &str, time: Duration, bound: Duration) {
        self.add(name, time.as_secs_f64(), "s", Some(bound.as_secs_f64()));
    }

    /// A time that is only shown.
    pub fn time(&mut self, name: &str, time: Duration) {
        self.add(name, time.as_secs_f64(), "s", None);
    }

    /// Any other figure.
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str, bound: Option<f64>) {
        self.0.push(Figure { name: name.to_owned(), value, unit, bound });
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter()
    }

    /// The one of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Figure> {
        self.0.iter().find(|figure| figure.name == name)
    }

    /// Whether each is within its bound, and anything was measured at all.
    #[must_use]
    pub fn are_met(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(Figure::is_met)
    }
}

/// In one line: what a drill prints last.
impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", if self.are_met() { "met" } else { "MISSED" })?;
        for (index, figure) in self.0.iter().enumerate() {
            write!(out, "{} {figure}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a drill are far below 2^52")]
fn whole(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missed_bound_is_a_missed_drill() {
        let mut figures = Figures::default();
        assert!(!figures.are_met(), "a drill that measured nothing has shown nothing");
        figures.at_most("gap", Duration::from_millis(1_500), Duration::from_secs(2));
        figures.count("writes", 700);
        figures.none("lost", 0);
        assert!(figures.are_met());
        assert_eq!(figures.to_string(), "met: gap 1.500 s (at most 2), writes 700, lost 0 (at most 0)");
        figures.none("doubled", 1);
        assert!(!figures.are_met());
        assert!(
            figures.to_string().starts_with("MISSED: ") && figures.to_string().contains("doubled 1 (MISSED")
        );
    }

    #[test]
    fn what_is_no_number_is_missed() {
        let mut figures = Figures::default();
        figures.add("median", f64::NAN, "s", Some(1.0));
        assert!(!figures.are_met());
    }
}
