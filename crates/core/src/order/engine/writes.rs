// SPDX-License-Identifier: Apache-2.0
//! How facts are written down: again and again until they are stored or the lease ends.

use secrecy::ExposeSecret;

use crate::audit::{Action, CannotAudit, Draft, Origin, Row};
use crate::certificate::{Issued, Presented, due_time, presented};
use crate::challenge::ChallengeAnswer;
use crate::clock::later;
use crate::envelope::{KeyringError, Sealed, Slot};
use crate::fault;
use crate::id::VersionId;
use crate::limits;
use crate::order::{IssuedVersion, LedgerError, Order, OrderState, Placed};
use crate::problem::{Class, Problem};
use crate::renewal_info::first_look;

use super::{Engine, Halt, Outcome, Run};

impl Engine<'_> {
    /// The next state of the order, with the answers to its challenges.
    pub(super) async fn record(
        &self,
        points: (&'static str, &'static str),
        order: &mut Order,
        run: &mut Run,
        next: OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<(), Halt> {
        *order = self.written(points, order, next, answers).await?;
        run.progressed = true;
        Ok(())
    }

    /// The order, its next state written down.
    pub(super) async fn written(
        &self,
        (before, after): (&'static str, &'static str),
        order: &Order,
        next: OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<Order, Halt> {
        fault::point(before);
        let order = loop {
            let written = self.ledger.advance(order, next.clone(), answers).await;
            if let Some(result) = self.persisted(written).await {
                break result?;
            }
        };
        fault::point(after);
        Ok(order)
    }

    /// The end of a write; nothing when its outcome is unknown and the lease still lets us write it again.
    pub(super) async fn persisted<T>(
        &self,
        written: Result<T, LedgerError>,
    ) -> Option<Result<T, LedgerError>> {
        match written {
            Err(LedgerError::Unavailable(_)) if self.mandate.holds() => {
                self.clock.sleep(limits::PERSIST_WAIT).await;
                None
            }
            written => Some(written),
        }
    }

    pub(super) async fn audit(&self, draft: &Draft) -> Result<Row, Halt> {
        match self.auditor.row(&Origin::service("worker"), draft).await {
            Ok(row) => Ok(row),
            Err(CannotAudit::Key(error)) => Err(Halt::Keyring(error)),
            Err(too_large @ CannotAudit::TooLarge(_)) => {
                Err(Halt::Ledger(LedgerError::Corrupt(too_large.to_string())))
            }
        }
    }

    /// The certificate, with all that belongs to it, when it is the one that was asked for.
    pub(super) async fn store(
        &self,
        order: &Order,
        placed: Placed,
        chain: String,
        progressed: bool,
    ) -> Result<Outcome, Halt> {
        let spki = order.key.spki()?;
        let now = self.clock.now();
        let given = presented(&chain);
        let accepted = match Issued::accept(chain, &spki, order.names.identifiers()) {
            Ok(issued) if issued.not_after <= now => {
                Err("the CA issued a certificate that has expired".to_owned())
            }
            Ok(issued) if self.in_use == Some(&*issued.fingerprint_sha256) => {
                Err("the CA gave the certificate that this one is to replace".to_owned())
            }
            Ok(issued) => Ok(issued),
            Err(bad) => Err(bad.to_string()),
        };
        let issued = match accepted {
            Ok(issued) => issued,
            Err(bad) => {
                let problem = Problem::new(Class::Protocol, "wrong-certificate", bad);
                let more = |draft| compared(draft, &spki, given);
                return self.wrong_certificate(order, progressed, problem, more).await;
            }
        };
        let id = VersionId::generate(self.clock, self.entropy);
        let renew_at = due_time(now, issued.not_before, issued.not_after, self.entropy);
        let key = self.reseal(order, id).await?;
        let can_be_asked = self.account.offers_renewal_info() && issued.ari_id.is_some();
        let look = first_look(issued.not_before, issued.not_after, self.entropy).filter(|_| can_be_asked);
        let version = IssuedVersion {
            id,
            number: self.number,
            issuer: order.issuer,
            key,
            renew_at,
            renewal_info_at: look.map(|after| later(now, after)),
            issued,
        };
        let draft = Draft::new(Action::CertificateIssued, Some(order.project), order.certificate)
            .names(&order.names)
            .detail("version", id.to_string())
            .detail("order_url", placed.url)
            .detail("serial", version.issued.serial.clone())
            .detail("not_after", version.issued.not_after.to_string())
            .detail("fingerprint_sha256", version.issued.fingerprint_sha256.clone())
            .detail("spki_sha256", hex::encode(spki))
            .detail("key_kept", order.key.kept)
            .sealed("key", &version.key);
        let audit = self.audit(&draft).await?;
        fault::point("record-issued.before");
        loop {
            let written = self.ledger.store(self.claim, order, &version, &audit).await;
            if let Some(result) = self.persisted(written).await {
                break result?;
            }
        }
        fault::point("record-issued.after");
        Ok(Outcome::Stored)
    }

    /// The key leaves its place in the order for its place in the version.
    async fn reseal(&self, order: &Order, version: VersionId) -> Result<Sealed, KeyringError> {
        let old = Slot::order_key(order.project, order.id);
        let key = self.keyring.open(&old, &order.key.sealed).await?;
        let new = Slot::version_key(order.project, version);
        self.keyring.seal(&new, key.expose_secret()).await
    }
}

/// Of what was not accepted: what it is, beside what was asked for. The names of the order stand in the entry already.
fn compared(draft: Draft, expected: &[u8; 32], given: Option<Presented>) -> Draft {
    let draft = draft.detail("expected_spki_sha256", hex::encode(expected));
    let Some(given) = given else { return draft };
    let listed: Vec<String> = given.names.iter().take(limits::AUDIT_NAMES).map(ToString::to_string).collect();
    draft
        .detail("issued_spki_sha256", given.spki_sha256)
        .detail("issued_fingerprint_sha256", given.fingerprint_sha256)
        .detail("issued_names", listed)
        .detail("issued_names_count", given.names_count)
}
