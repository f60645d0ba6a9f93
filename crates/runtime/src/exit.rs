// SPDX-License-Identifier: Apache-2.0
//! How a process ends, as a number that a supervisor can act on.

use std::fmt;
use std::process::ExitCode;

use crate::config::Faults;

/// The exit codes, by name (the numbers from 64 on are those of BSD's `sysexits.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: ended as asked, after a clean drain.
    Ok,
    /// 1: ended before the drain was done.
    Aborted,
    /// 64: the configuration is wrong; starting again changes nothing.
    Config,
    /// 69: a dependency refused us for good.
    Refused,
    /// 70: our bug.
    Bug,
    /// 78: the KEK is not the one that this cluster's data was sealed under.
    WrongKek,
}

/// Why a process ends early: for the operator, with the number.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

/// Says with which code an error ends the process.
pub trait OrExit<T> {
    /// The value, or the error as a [`Failure`] with this code.
    ///
    /// # Errors
    /// When there was one.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Aborted => 1,
            Self::Config => 64,
            Self::Refused => 69,
            Self::Bug => 70,
            Self::WrongKek => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Failure {
    /// An error and the code that it ends the process with.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        Self { exit, error }
    }

    /// The code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// The error and its causes, on one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// What nobody gave a code is a bug, save faults of the configuration.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let exit = if error.is::<Faults>() { Exit::Config } else { Exit::Bug };
        Self { exit, error }
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::new(Exit::Config, faults)
    }
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Fault;

    #[test]
    fn the_codes_are_the_ones_that_supervisors_were_told() {
        let codes =
            [Exit::Ok, Exit::Aborted, Exit::Config, Exit::Refused, Exit::Bug, Exit::WrongKek].map(Exit::code);
        assert_eq!(codes, [0, 1, 64, 69, 70, 78]);
    }

    #[test]
    fn faults_of_the_configuration_end_with_64_and_the_unclassified_with_70() {
        let faults = || Faults::from(Fault::new("CAP_X", "is wrong", "mend it"));
        assert_eq!(Failure::from(faults()).exit(), Exit::Config);
        assert_eq!(Failure::from(anyhow::Error::from(faults())).exit(), Exit::Config);
        assert_eq!(Failure::from(anyhow::anyhow!("odd")).exit(), Exit::Bug);
    }

    #[test]
    fn a_failure_tells_its_causes() {
        let failure = Failure::new(Exit::Refused, anyhow::anyhow!("inner").context("outer"));
        assert_eq!(failure.to_string(), "outer: inner");
    }
}
