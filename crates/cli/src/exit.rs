// SPDX-License-Identifier: Apache-2.0
//! How a command ends, as a number that scripts can act on.

use std::process::ExitCode;

/// The exit codes, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Ok,
    /// 1: an error that has no number of its own.
    Error,
    /// 2: the command, or a value in it, makes no sense.
    Usage,
    /// 3: what was checked is not well.
    CheckFailed,
    /// 4: there is no such thing.
    NotFound,
    /// 5: the token is missing, not good, or its role is too low.
    NotAllowed,
    /// 6: something stands against it.
    Conflict,
    /// 7: it took longer than `--timeout`.
    Timeout,
    /// 8: a part was done.
    Partly,
    /// 64: the configuration is wrong.
    Config,
    /// 69: the database refused us for good.
    Refused,
    /// 78: the KEK is the wrong one.
    WrongKek,
}

impl Exit {
    /// Every code.
    pub(crate) const ALL: [Self; 12] = [
        Self::Ok,
        Self::Error,
        Self::Usage,
        Self::CheckFailed,
        Self::NotFound,
        Self::NotAllowed,
        Self::Conflict,
        Self::Timeout,
        Self::Partly,
        Self::Config,
        Self::Refused,
        Self::WrongKek,
    ];

    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::CheckFailed => 3,
            Self::NotFound => 4,
            Self::NotAllowed => 5,
            Self::Conflict => 6,
            Self::Timeout => 7,
            Self::Partly => 8,
            Self::Config => 64,
            Self::Refused => 69,
            Self::WrongKek => 78,
        }
    }

    /// What it means, for the reference.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Error => "an error that has no number of its own",
            Self::Usage => "the command, or a value in it, makes no sense",
            Self::CheckFailed => "what was checked is not well",
            Self::NotFound => "there is no such thing",
            Self::NotAllowed => "the token is missing, not good, or its role is too low",
            Self::Conflict => "something stands against it",
            Self::Timeout => "it took longer than `--timeout`",
            Self::Partly => "a part was done",
            Self::Config => "the configuration is wrong",
            Self::Refused => "the database refused us for good",
            Self::WrongKek => "the KEK is the wrong one",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_ones_that_scripts_were_told() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 64, 69, 78]);
    }
}
