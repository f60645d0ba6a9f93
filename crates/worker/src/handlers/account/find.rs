// SPDX-License-Identifier: Apache-2.0
//! Asks the CA whether it accepts an account again that it has refused, and tells it the contacts, which may have changed meanwhile.

use cap_core::order::CaError;
use cap_core::problem::{Class, Problem};

use super::{Run, Step};

impl Run<'_> {
    pub(super) async fn find(&self) -> Step {
        if let Some(known) = self.known_by_next_key().await? {
            return known;
        }
        let request = self.world.ca_request(&self.issuer).await?;
        match self.world.ca.find(&request).await {
            Ok(Some(_)) => self.told(request).await,
            Ok(None) => self.failed(CaError::Account(unknown())).await,
            Err(error) => self.failed(error).await,
        }
    }
}

fn unknown() -> Problem {
    let kind = "urn:ietf:params:acme:error:accountDoesNotExist";
    Problem::new(Class::Configuration, kind, "the CA does not know this account any more")
}
