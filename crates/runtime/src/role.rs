// SPDX-License-Identifier: Apache-2.0
//! Which services there are.

use std::time::Duration;

use cap_core::health::Check;

use crate::config::ServiceConfig;

/// Which service a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The REST API and the HTTP-01 responder.
    Api,
    /// Does the jobs.
    Worker,
    /// Plans what is due.
    Scheduler,
}

impl Role {
    /// Every service.
    pub const ALL: [Self; 3] = [Self::Api, Self::Worker, Self::Scheduler];

    /// The word for it: `api`, `worker`, `scheduler`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
        }
    }

    /// The binary's name.
    #[must_use]
    pub fn binary(self) -> &'static str {
        match self {
            Self::Api => "certautopilot-api",
            Self::Worker => "certautopilot-worker",
            Self::Scheduler => "certautopilot-scheduler",
        }
    }

    /// What it does, for `--help`.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Api => "The REST API of CertAutoPilot and its HTTP-01 responder",
            Self::Worker => "The worker of CertAutoPilot: does the jobs",
            Self::Scheduler => "The scheduler of CertAutoPilot: plans what is due",
        }
    }

    /// What its readiness is made of. Expected from the first moment: a check that nobody has registered yet must not
    /// look like one that passes.
    pub(crate) fn checks(self) -> [Check; 3] {
        match self {
            Self::Api | Self::Worker | Self::Scheduler => [Check::Mongo, Check::Kek, Check::Schema],
        }
    }

    /// How long listeners stay open after readiness is gone: only the api has any that clients are sent to.
    pub(crate) fn hold(self, service: &ServiceConfig) -> Duration {
        match self {
            Self::Api => service.shutdown_delay,
            Self::Worker | Self::Scheduler => Duration::ZERO,
        }
    }
}
