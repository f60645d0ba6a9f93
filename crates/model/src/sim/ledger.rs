// SPDX-License-Identifier: Apache-2.0
//! The database in memory: jobs, certificates, orders, and the filters under which each is written, as in the store.

use std::collections::HashSet;
use std::time::Duration;

use cap_core::challenge::ChallengeAnswer;
use cap_core::clock::{later, until};
use cap_core::id::{CertificateId, ClaimId, IssuerId, JobId, OrderId, ProjectId, VersionId};
use cap_core::job::{Claim, Lane, Setbacks, Settlement, Work};
use cap_core::limits;
use cap_core::order::{FailedAttempt, IssuedVersion, LedgerError, Order, OrderKey, OrderState};
use cap_core::problem::Problem;
use cap_core::renewal_info::AriId;
use jiff::Timestamp;

use super::plan::Mutant;

/// What is stored.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) project: ProjectId,
    pub(super) certificates: Vec<Certificate>,
    pub(super) orders: Vec<Row>,
    pub(super) jobs: Vec<Job>,
    pub(super) answers: HashSet<String>,
    /// Which steps orders took: from this phase to that.
    pub(super) moves: HashSet<(&'static str, &'static str)>,
    pub(super) claims: u32,
    pub(super) mutant: Option<Mutant>,
}

#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) id: CertificateId,
    pub(super) fence: i64,
    pub(super) order: Option<OrderId>,
    pub(super) versions: Vec<Version>,
    pub(super) problem: Option<Problem>,
    pub(super) next_attempt_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) made_for: Option<VersionId>,
    pub(super) version: IssuedVersion,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) order: Order,
    pub(super) live: bool,
    /// Facts written of it; that what it replaces was left out is one that only some orders have.
    pub(super) writes: u32,
    /// When it was given up.
    pub(super) failed_at: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) work: Work,
    pub(super) state: &'static str,
    /// Since the beginning; nothing when it is over.
    pub(super) claim_at: Option<Duration>,
    pub(super) token: Option<ClaimId>,
    pub(super) attempt: i32,
    pub(super) fence: i64,
    pub(super) failures: u32,
    pub(super) setbacks: Option<Setbacks>,
    pub(super) problem: Option<Problem>,
    pub(super) lost: u32,
}

/// What a run reads first.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) current: Option<VersionId>,
    pub(super) expires: Option<Timestamp>,
    pub(super) versions: i64,
    /// Who issued the current version, and what the CA calls it.
    pub(super) issuer: Option<IssuerId>,
    pub(super) ari_id: Option<AriId>,
    pub(super) has_order: bool,
}

/// What became of beginning an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opened {
    Ours,
    Busy,
    Superseded,
}

pub(super) fn phase(state: &OrderState) -> &'static str {
    match state {
        OrderState::Keyed { .. } => "keyed",
        OrderState::Ordered { .. } => "ordered",
        OrderState::Challenged { .. } => "challenged",
        OrderState::Ready { .. } => "ready",
        OrderState::Stored { .. } => "stored",
        OrderState::Failed { .. } => "failed",
    }
}

impl Certificate {
    pub(super) fn current(&self) -> Option<VersionId> {
        self.versions.last().map(|version| version.version.id)
    }
}

impl Job {
    pub(super) fn new(id: JobId, work: Work, fence: i64, at: Duration) -> Self {
        let (state, claim_at) = ("queued", Some(at));
        let (token, setbacks, problem) = (None, None, None);
        Self { id, work, state, claim_at, token, attempt: 0, fence, failures: 0, setbacks, problem, lost: 0 }
    }

    fn is_own(&self, claim: &Claim) -> bool {
        self.token == Some(claim.token) && self.attempt == claim.attempt
    }

    fn end(&mut self, state: &'static str) {
        (self.state, self.claim_at, self.token) = (state, None, None);
    }

    fn back(&mut self, at: Duration) {
        (self.state, self.claim_at, self.token, self.lost) = ("queued", Some(at), None, 0);
    }
}

impl Database {
    fn certificate(&mut self, id: CertificateId) -> Option<&mut Certificate> {
        self.certificates.iter_mut().find(|certificate| certificate.id == id)
    }

    /// When the next job is due.
    pub(super) fn due_at(&self) -> Option<Duration> {
        self.jobs.iter().filter_map(|job| job.claim_at).min()
    }

    /// The job that has been due longest.
    pub(super) fn claim(&mut self, token: ClaimId, lease: Duration, now: Duration) -> Option<Claim> {
        let project = self.project;
        let due = self.jobs.iter_mut().filter(|job| job.claim_at.is_some_and(|at| at <= now));
        let job = due.min_by_key(|job| job.claim_at)?;
        job.lost += u32::from(job.state == "running");
        (job.attempt, job.fence) = (job.attempt + 1, job.fence + 1);
        (job.state, job.token, job.claim_at) = ("running", Some(token), Some(now + lease));
        self.claims += 1;
        Some(Claim {
            job: job.id,
            project,
            work: job.work.clone(),
            token,
            attempt: job.attempt,
            fence: job.fence,
            failures: job.failures,
            setbacks: job.setbacks,
            lane: Lane::Main,
            lost: job.lost,
            is_last: false,
        })
    }

    /// Whether the lease was extended.
    pub(super) fn extend(&mut self, token: ClaimId, lease: Duration, now: Duration) -> bool {
        let own = self.jobs.iter_mut().find(|job| job.token == Some(token) && job.state == "running");
        own.map(|job| job.claim_at = Some(now + lease)).is_some()
    }

    pub(super) fn look(&mut self, id: CertificateId) -> Option<Look> {
        self.certificate(id).map(|certificate| Look {
            current: certificate.current(),
            expires: certificate.versions.last().map(|version| version.version.issued.not_after),
            versions: i64::try_from(certificate.versions.len()).unwrap_or(i64::MAX),
            issuer: certificate.versions.last().map(|version| version.version.issuer),
            ari_id: certificate.versions.last().and_then(|version| version.version.issued.ari_id.clone()),
            has_order: certificate.order.is_some(),
        })
    }

    /// Takes over the order in flight.
    pub(super) fn take_order(&mut self, id: CertificateId, fence: i64) -> Result<Option<Order>, LedgerError> {
        let Some(row) = self.orders.iter_mut().find(|row| row.live && row.order.certificate == id) else {
            return Ok(None);
        };
        if row.order.fence > fence {
            return Err(LedgerError::Fenced);
        }
        row.order.fence = fence;
        Ok(Some(row.order.clone()))
    }

    /// Whether an order for the names is in flight: all certificates of the simulation have the same.
    pub(super) fn is_locked(&self) -> bool {
        self.orders.iter().any(|row| row.live)
    }

    pub(super) fn open_order(&mut self, order: &Order) -> Opened {
        let no_fence = self.mutant == Some(Mutant::NoFence);
        let is_there = self.orders.iter().any(|row| row.order.id == order.id);
        let is_locked = self.is_locked();
        let Some(certificate) = self.certificate(order.certificate) else { return Opened::Superseded };
        let matches = certificate.current() == order.made_for && certificate.fence <= order.fence;
        if !matches && !no_fence {
            return Opened::Superseded;
        }
        if is_there {
            return Opened::Ours;
        }
        if is_locked {
            return Opened::Busy;
        }
        (certificate.fence, certificate.order) = (order.fence, Some(order.id));
        self.orders.push(Row { order: order.clone(), live: true, writes: 1, failed_at: None });
        Opened::Ours
    }

    /// The row that a write of this order may change.
    fn row(&mut self, order: &Order) -> Result<&mut Row, Option<&Order>> {
        let no_fence = self.mutant == Some(Mutant::NoFence);
        let Some(row) = self.orders.iter_mut().find(|row| row.order.id == order.id) else { return Err(None) };
        let known = (row.order.fence, row.order.revision, row.live);
        if known == (order.fence, order.revision, true) || no_fence { Ok(row) } else { Err(Some(&row.order)) }
    }

    fn has_moved(&mut self, from: &OrderState, to: &OrderState) {
        self.moves.insert((phase(from), phase(to)));
    }

    pub(super) fn advance(
        &mut self,
        order: &Order,
        next: &OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<Order, LedgerError> {
        let advanced = Order { revision: order.revision + 1, state: next.clone(), ..order.clone() };
        match self.row(order) {
            Ok(row) => {
                (row.order.state, row.order.revision) = (next.clone(), advanced.revision);
                row.writes += u32::from(phase(next) != phase(&order.state));
            }
            Err(Some(stored)) if *stored == advanced => return Ok(advanced),
            Err(_) => return Err(LedgerError::Fenced),
        }
        self.has_moved(&order.state, next);
        self.answers.extend(answers.iter().map(|answer| answer.token.to_string()));
        Ok(advanced)
    }

    /// Ends an order with all that goes with it, if every filter matches. Answers whether it does so now.
    fn ends(
        &mut self,
        claim: &Claim,
        order: &Order,
        state: &OrderState,
        version: Option<i64>,
    ) -> Result<bool, LedgerError> {
        let no_fence = self.mutant == Some(Mutant::NoFence);
        let certificate = self.certificate(order.certificate).ok_or(LedgerError::Fenced)?;
        let next = i64::try_from(certificate.versions.len()).unwrap_or(i64::MAX) + 1;
        let is_as_seen = certificate.current() == order.made_for
            && certificate.fence <= claim.fence
            && version.is_none_or(|number| number == next);
        let is_own = self.jobs.iter().any(|job| job.id == claim.job && job.is_own(claim));
        if (is_as_seen && is_own || no_fence) && self.row(order).is_ok() {
            let row = self.row(order).map_err(|_| LedgerError::Fenced)?;
            (row.order.state, row.order.revision, row.live) = (state.clone(), order.revision + 1, false);
            row.writes += 1;
            self.has_moved(&order.state, state);
            return Ok(true);
        }
        // Perhaps refused by the same end, whose outcome an earlier try did not learn.
        let stored = self.orders.iter().find(|row| row.order.id == order.id);
        let is_done = stored.is_some_and(|row| row.order.state == *state && row.order.fence == order.fence);
        if is_done { Ok(false) } else { Err(LedgerError::Fenced) }
    }

    pub(super) fn store(
        &mut self,
        claim: &Claim,
        order: &Order,
        version: &IssuedVersion,
    ) -> Result<(), LedgerError> {
        let placed = order.state.placed().cloned();
        let placed = placed.ok_or_else(|| LedgerError::Corrupt("no URL".into()))?;
        let state = OrderState::Stored { placed, version: version.id };
        if self.ends(claim, order, &state, Some(version.number))? {
            let stored = Version { made_for: order.made_for, version: version.clone() };
            if let Some(certificate) = self.certificate(order.certificate) {
                (certificate.fence, certificate.order) = (claim.fence + 1, None);
                (certificate.problem, certificate.next_attempt_at) = (None, None);
                certificate.versions.push(stored);
            }
            self.job(claim, |job| job.end("succeeded"));
        }
        Ok(())
    }

    pub(super) fn fail(
        &mut self,
        claim: &Claim,
        order: &Order,
        failed: &FailedAttempt,
        worker_now: Timestamp,
        now: Duration,
    ) -> Result<(), LedgerError> {
        let placed = order.state.placed().cloned();
        let state = OrderState::Failed { placed, problem: failed.problem.clone() };
        if self.ends(claim, order, &state, None)? {
            if let Some(row) = self.orders.iter_mut().find(|row| row.order.id == order.id) {
                row.failed_at = Some(now);
            }
            if let Some(certificate) = self.certificate(order.certificate) {
                (certificate.fence, certificate.order) = (claim.fence, None);
                certificate.problem = Some(failed.problem.clone());
                certificate.next_attempt_at = Some(failed.next_attempt_at);
            }
            self.job(claim, |job| {
                job.back(now + until(worker_now, failed.next_attempt_at));
                (job.failures, job.setbacks) = (job.failures + 1, None);
                job.problem = Some(failed.problem.clone());
            });
        }
        Ok(())
    }

    /// Ends an order that was never placed, and the job, which needs a person.
    pub(super) fn bury(
        &mut self,
        claim: &Claim,
        order: &Order,
        problem: &Problem,
        worker_now: Timestamp,
        now: Duration,
    ) -> Result<(), LedgerError> {
        let state = OrderState::Failed { placed: None, problem: problem.clone() };
        if self.ends(claim, order, &state, None)? {
            if let Some(row) = self.orders.iter_mut().find(|row| row.order.id == order.id) {
                row.failed_at = Some(now);
            }
            if let Some(certificate) = self.certificate(order.certificate) {
                certificate.order = None;
            }
            self.settle(claim, &Settlement::Dead(problem.clone()), worker_now, now);
        }
        Ok(())
    }

    fn job(&mut self, claim: &Claim, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.id == claim.job) {
            change(job);
        }
    }

    /// Settles a claim that ends without any other fact. Answers whether the job was the claim's.
    pub(super) fn settle(
        &mut self,
        claim: &Claim,
        settlement: &Settlement,
        worker_now: Timestamp,
        now: Duration,
    ) -> bool {
        let no_fence = self.mutant == Some(Mutant::NoFence);
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == claim.job) else { return false };
        if !job.is_own(claim) && !no_fence {
            return false;
        }
        let mut shown = None;
        match settlement {
            Settlement::Succeeded => job.end("succeeded"),
            Settlement::Superseded => job.end("cancelled"),
            Settlement::HandedBack => {
                job.back(now);
                job.lost = claim.lost;
            }
            Settlement::Dead(problem) => {
                job.end("dead");
                shown = Some((problem.clone(), later(worker_now, limits::DEAD_WAIT)));
            }
            Settlement::Again { after, problem, setbacks } => {
                job.back(now + *after);
                (job.problem, job.setbacks) = (problem.clone(), *setbacks);
                shown = problem.clone().map(|problem| (problem, later(worker_now, *after)));
            }
        }
        let is_over = job.claim_at.is_none();
        let Work::Issue { certificate, .. } = claim.work else { return true };
        let Some(certificate) = self.certificate(certificate) else { return true };
        if is_over {
            certificate.fence = certificate.fence.max(claim.fence + 1);
        }
        if let Some((problem, next)) = shown.filter(|_| settlement.is_shown()) {
            (certificate.problem, certificate.next_attempt_at) = (Some(problem), Some(next));
        }
        true
    }

    /// Plans what nobody has planned: the next version of a certificate whose job is over, a day later where it died.
    pub(super) fn plan(&mut self, versions: i64, now: Duration) {
        for certificate in &self.certificates {
            let stored = i64::try_from(certificate.versions.len()).unwrap_or(i64::MAX);
            let is_for =
                |job: &&Job| matches!(job.work, Work::Issue { certificate: id, .. } if id == certificate.id);
            let is_planned = self.jobs.iter().filter(is_for).any(|job| job.claim_at.is_some());
            if stored >= versions || is_planned {
                continue;
            }
            let is_dead = self.jobs.iter().rfind(is_for).is_some_and(|job| job.state == "dead");
            let after = if is_dead { limits::DEAD_WAIT } else { Duration::ZERO };
            let Ok(id) = format!("job_{:032x}", self.jobs.len()).parse() else { continue };
            let work = Work::Issue { certificate: certificate.id, made_for: certificate.current() };
            self.jobs.push(Job::new(id, work, certificate.fence, now + after));
        }
    }

    /// What is left of a key that was never stored: another one, made by whoever asks.
    pub(super) fn forget_key(&mut self, order: &mut Order, key: OrderKey) {
        order.key = key.clone();
        if let Some(row) = self.orders.iter_mut().find(|row| row.order.id == order.id) {
            row.order.key = key;
        }
    }
}
