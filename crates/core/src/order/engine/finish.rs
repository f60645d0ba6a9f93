// SPDX-License-Identifier: Apache-2.0
//! The acts on an order whose challenges are answered: it is finalized and its certificate fetched, or it is given up.

use crate::fault;
use crate::job::Sort;
use crate::order::{CaError, Order, Seen};
use crate::problem::Problem;

use super::{Engine, Halt, Run, placed};

impl Engine<'_> {
    pub(super) async fn finalize(&self, order: &Order, run: &mut Run) -> Result<(), Halt> {
        // Before anything is sent: what was sent last has had its time.
        if self.is_stuck(order, run.progressed) {
            return Err(Halt::Done(self.stuck_with(order).await?));
        }
        let placed = placed(order)?;
        let remote = self.remote(order, &placed, run).await?;
        fault::point("finalize.before");
        let reply = self.act(order, remote.finalize(&order.key.csr)).await;
        fault::point("finalize.after");
        run.known.finalized = true;
        let reply = match reply {
            Ok(reply) => reply,
            Err(Halt::Ca(CaError::Refused(problem) | CaError::Gone(problem))) => {
                return self.refused_to_finalize(order, problem, run).await;
            }
            Err(Halt::Ca(error)) => {
                run.fault = self.is_in_the_way(&error).await.then_some(Sort::Stuck);
                return Err(Halt::Ca(error));
            }
            Err(halt) => return Err(halt),
        };
        // Only a verdict is taken from its answer. One that was processing then is asked before it is waited for, unless it asks
        // for time; and one that says that it waits for what it was just sent has it from a replica that lags.
        run.known.hear(reply);
        run.known.seen = run.known.seen.take().filter(|seen| matches!(seen, Seen::Valid | Seen::Invalid(_)));
        run.looks = 0;
        Ok(())
    }

    /// CAs have refused what they did all the same: what became of the order, it says itself.
    async fn refused_to_finalize(&self, order: &Order, problem: Problem, run: &mut Run) -> Result<(), Halt> {
        let reply = self.seen(order, &placed(order)?, &mut run.remote).await?;
        match reply.said {
            // What it refused says more than what it has made of the order since.
            Seen::Pending | Seen::Ready | Seen::Invalid(_) => Err(Halt::Ca(CaError::Refused(problem))),
            Seen::Processing | Seen::Valid => {
                run.known.hear(reply);
                run.looks = 0;
                Ok(())
            }
        }
    }

    pub(super) async fn download(&self, order: &Order, run: &mut Run) -> Result<(), Halt> {
        let (placed, progressed) = (placed(order)?, run.progressed);
        let remote = self.remote(order, &placed, run).await?;
        fault::point("download.before");
        let chain = self.ask(order, remote.certificate()).await;
        fault::point("download.after");
        let chain = match chain {
            Err(Halt::Asked(error)) if !self.is_of_a_moving_account(&error).await => {
                let is_in_the_way = self.is_in_the_way(&error).await;
                run.fault = is_in_the_way.then_some(Sort::Stuck);
                let ended = self.not_handed_out(order, progressed, is_in_the_way, error).await?;
                return Err(Halt::Done(ended));
            }
            chain => chain?,
        };
        let chain = self.chosen(order, chain, remote, progressed).await;
        run.fault = matches!(chain, Err(Halt::Asked(_))).then_some(Sort::Chain);
        Err(Halt::Done(self.store(order, placed, chain?, progressed).await?))
    }

    /// Gives the order up at the CA, whose word then ends it. One that keeps the order is waited for as before.
    pub(super) async fn withdraw(&self, order: &Order, run: &mut Run) -> Result<(), Halt> {
        let placed = placed(order)?;
        let remote = self.remote(order, &placed, run).await?;
        fault::point("withdraw.before");
        let withdrawn = self.act(order, remote.withdraw()).await;
        fault::point("withdraw.after");
        run.known.withdrawn = true;
        match withdrawn {
            Err(Halt::Ca(error @ (CaError::Later { .. } | CaError::NeedsPerson(_)))) => {
                return Err(Halt::Ca(error));
            }
            Err(Halt::Ca(error)) => {
                tracing::warn!(
                    order = %order.id, url = placed.url, %error,
                    "the CA leaves an order open, and does not let it be given up; it is waited for"
                );
            }
            withdrawn => {
                if withdrawn? == 0 {
                    tracing::warn!(
                        order = %order.id, url = placed.url,
                        "the CA leaves an order open, and none of its authorizations is; it is waited for"
                    );
                    return Ok(());
                }
                tracing::info!(order = %order.id, url = placed.url, "an order that the CA left open was given up");
                (run.known.seen, run.known.retry_at) = (None, None);
            }
        }
        Ok(())
    }
}
