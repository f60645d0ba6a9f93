// SPDX-License-Identifier: Apache-2.0
//! How long a remote act may take: it ends with the lease that it is made under, and within a time of its own.
//!
//! One act may be a hundred requests, one a name. Whatever it did until it was given up, the CA keeps, and whoever comes
//! next asks the CA first; so giving one up costs what giving up by a crash at the same place would.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use crate::limits;
use crate::order::{CaError, Order};
use crate::problem::{Class, Problem};

use super::{Engine, Halt, Outcome};

impl Engine<'_> {
    /// Does an act that changes something at the CA.
    pub(super) async fn act<T>(
        &self,
        order: &Order,
        act: impl Future<Output = Result<T, CaError>>,
    ) -> Result<T, Halt> {
        let (mut act, mut limit) = (pin!(act), pin!(self.limit(order)));
        std::future::poll_fn(|context| {
            if let Poll::Ready(result) = act.as_mut().poll(context) {
                return Poll::Ready(result.map_err(Halt::Ca));
            }
            limit.as_mut().poll(context).map(Err)
        })
        .await
    }

    /// Does an act that only asks: while the CA may issue, its refusal to answer says nothing of the order.
    pub(super) async fn ask<T>(
        &self,
        order: &Order,
        act: impl Future<Output = Result<T, CaError>>,
    ) -> Result<T, Halt> {
        self.act(order, act).await.map_err(|halt| match halt {
            Halt::Ca(error) => Halt::Asked(error),
            halt => halt,
        })
    }

    /// Ends when an act on this order must be given up.
    async fn limit(&self, order: &Order) -> Halt {
        let names = order.names.identifiers().len();
        let most = limits::ACT + limits::ACT_PER_NAME * u32::try_from(names).unwrap_or(u32::MAX);
        let began = self.clock.boottime();
        loop {
            self.clock.sleep(limits::MANDATE_LOOK).await;
            if !self.mandate.holds() {
                return Halt::Done(Outcome::Lost);
            }
            if self.clock.boottime().saturating_sub(began) >= most {
                let detail = format!(
                    "the CA did not finish with {names} names within {} s; what it did is kept, and the rest follows",
                    most.as_secs()
                );
                return Halt::Ca(CaError::Transient(Problem::new(Class::Transient, "ca-slow", detail)));
            }
        }
    }
}
