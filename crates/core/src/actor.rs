// SPDX-License-Identifier: Apache-2.0
//! Who does something.

use serde::{Deserialize, Serialize};

use crate::id::{ProjectId, TokenId};

/// What somebody may do, lowest first; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Requests, renews and downloads certificates.
    Operator,
    /// Changes issuers and other settings of a project.
    Admin,
    /// Everything, in every project.
    Owner,
}

/// Where a role holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The whole organisation.
    Organisation,
    /// One project.
    Project(ProjectId),
}

/// Who is behind a mutation: a bearer of a token, or the system itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The bearer of an API token.
    Token {
        /// Which token.
        id: TokenId,
        /// What its maker called it.
        name: String,
        /// What it may do.
        role: Role,
        /// Where it may do so.
        scope: Scope,
    },
    /// A service, by the name of its role: `worker`, `scheduler`.
    Service(&'static str),
    /// Somebody with a shell on a host that has the KEK and the database.
    Console,
}

impl Actor {
    /// What the audit leaf calls the actor.
    #[must_use]
    pub fn audit_name(&self) -> String {
        match self {
            Self::Token { id, name, .. } => format!("token:{id}:{name}"),
            Self::Service(role) => format!("service:{role}"),
            Self::Console => "console".to_owned(),
        }
    }
}
