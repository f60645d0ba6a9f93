// SPDX-License-Identifier: Apache-2.0
//! Which of the chains of a certificate is taken (RFC 8555, 7.4.2): the preferred one where the CA offers it, and its default
//! otherwise. No certificate is lost for want of a chain.

use jiff::Timestamp;

use crate::certificate::{ChainName, Issued};
use crate::clock::until;
use crate::job::{Sort, count_of};
use crate::limits;
use crate::order::{CaError, Chain, LedgerError, Order, RemoteOrder};

use super::{Engine, Halt};

impl Engine<'_> {
    /// The chain that is taken, of those that lead from the certificate of an order: as `first` came, or one of its
    /// alternates, in their order.
    pub(super) async fn chosen(
        &self,
        order: &Order,
        first: Chain,
        remote: &mut Box<dyn RemoteOrder>,
        progressed: bool,
    ) -> Result<String, Halt> {
        let Some(wanted) = self.preferred_chain else { return Ok(first.pem) };
        let faults = count_of(self.setbacks(progressed), Sort::Chain);
        if is_it(order, &first.pem, wanted)? {
            return Ok(first.pem);
        }
        for url in first.alternates.iter().take(limits::CHAIN_ALTERNATES) {
            match self.ask(order, remote.alternate(url)).await {
                Ok(pem) if is_it(order, &pem, wanted)? => return Ok(pem),
                Ok(_) => {}
                Err(Halt::Asked(error)) if is_waited_out(&error, faults, self.clock.now()) => {
                    return Err(Halt::Asked(error));
                }
                Err(Halt::Asked(error)) => {
                    tracing::warn!(order = %order.id, url, %error, "a chain that the CA offers is left out");
                }
                Err(halt) => return Err(halt),
            }
        }
        tracing::info!(order = %order.id, wanted = wanted.as_str(), "the CA offers no such chain; its default is taken");
        Ok(first.pem)
    }
}

/// Whether a chain is the one that is wanted, and good for the order.
fn is_it(order: &Order, pem: &str, wanted: &ChainName) -> Result<bool, LedgerError> {
    let spki = order.key.spki()?;
    let issued = Issued::accept(pem.to_owned(), &spki, order.names.identifiers());
    Ok(issued.is_ok_and(|issued| issued.chain_issuer.as_deref() == Some(wanted.as_str())))
}

/// Whether a chain is asked for again that did not come so many times before: a few times, while there is a certificate to be had,
/// and never for long.
fn is_waited_out(error: &CaError, faults: u32, now: Timestamp) -> bool {
    let is_early = faults < limits::CHAIN_FAULTS;
    match error {
        CaError::Transient(_) | CaError::OutOfStep(_) | CaError::Account(_) => is_early,
        CaError::Later { at, .. } => is_early && until(now, *at) <= limits::CHAIN_WAIT,
        CaError::Refused(_) | CaError::NeedsPerson(_) | CaError::Gone(_) => false,
    }
}
