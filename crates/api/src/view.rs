// SPDX-License-Identifier: Apache-2.0
//! Records as clients see them.

use cap_client::wire;
use cap_core::drift::{DriftSettings, DriftTarget};
use cap_core::job::Work;
use cap_runtime::config::format_duration;
use cap_store::{
    CertificateRecord, DriftRecord, IssuerRecord, JobAttempt, JobRecord, NoticeRecord, ProjectDrift,
    ProjectRecord, RenewalInfoRecord, RenewalInfoSeen, TokenRecord, TotalRecord, VersionRecord,
};
use jiff::Timestamp;

pub(crate) fn project(record: ProjectRecord) -> wire::Project {
    let DriftSettings { enabled, port, interval } =
        record.drift.as_ref().map(ProjectDrift::settings).unwrap_or_default();
    let drift = wire::ProjectDrift { enabled, port, interval: format_duration(interval) };
    wire::Project {
        id: record.id,
        name: record.name.to_string(),
        drift,
        weight: record.weight.into(),
        created_at: record.created_at,
    }
}

/// Nothing where nobody set anything up.
fn drift(record: DriftRecord) -> Option<wire::Drift> {
    let DriftRecord { target, on, state, seen, .. } = record;
    if target.is_none() && on != Some(true) {
        return None;
    }
    let DriftTarget { host, port } = target.unwrap_or_default();
    let (version, scanned_at, names) =
        seen.map_or((None, None, Vec::new()), |seen| (Some(seen.version), Some(seen.scanned_at), seen.names));
    Some(wire::Drift { host: host.map(String::from), port, state, version, scanned_at, names })
}

/// Nothing where the CA offers none, and before the first version.
fn renewal_info(record: RenewalInfoRecord) -> Option<wire::RenewalInfo> {
    let next_look_at = record.at?;
    let seen = record.seen;
    let window = seen.as_ref().and_then(RenewalInfoSeen::suggestion);
    Some(wire::RenewalInfo {
        window: window.map(|suggestion| wire::RenewalWindow {
            start: suggestion.window.start(),
            end: suggestion.window.end(),
            renew_at: suggestion.renew_at,
        }),
        explanation_url: seen.as_ref().and_then(|seen| seen.explanation_url.clone()),
        looked_at: seen.as_ref().map(|seen| seen.looked_at),
        problem: seen.and_then(|seen| seen.problem),
        next_look_at,
    })
}

pub(crate) fn token(record: TokenRecord) -> wire::Token {
    wire::Token {
        id: record.id,
        name: record.name.to_string(),
        role: record.role,
        project: record.project,
        created_at: record.created_at,
        expires_at: record.expires_at,
        revoked_at: record.revoked_at,
    }
}

pub(crate) fn issuer(record: IssuerRecord) -> wire::Issuer {
    let (status, account_url) = (record.shown_status(), record.known_url().map(str::to_owned));
    let key_rollover = record
        .rollover
        .map(|rollover| wire::KeyRollover { requested_at: rollover.requested_at, problem: rollover.problem });
    wire::Issuer {
        id: record.id,
        project: record.project,
        name: record.name.to_string(),
        directory_url: record.spec.directory.to_string(),
        trust_roots_pem: record.spec.trust_roots.map(String::from),
        contact: record.spec.contacts.into_iter().map(String::from).collect(),
        eab_kid: record.external.map(|external| external.kid.into()),
        status,
        account_url,
        key_rollover,
        problem: record.problem,
        next_attempt_at: record.next_attempt_at,
        created_at: record.created_at,
    }
}

pub(crate) fn version(record: VersionRecord) -> wire::Version {
    wire::Version {
        id: record.id,
        number: record.number,
        serial: record.serial,
        fingerprint_sha256: record.fingerprint_sha256,
        spki_sha256: record.spki_sha256,
        chain_issuer: record.chain_issuer,
        revocation: record.revocation.map(|revocation| wire::Revocation {
            reason: revocation.reason,
            asked_at: revocation.asked_at,
            revoked_at: revocation.revoked_at,
            problem: revocation.problem,
            next_attempt_at: revocation.next_attempt_at,
        }),
        not_before: record.not_before,
        not_after: record.not_after,
        issued_at: record.issued_at,
    }
}

/// A certificate among others: what its names show is told with the certificate alone, and is not read for lists, since it may
/// be long.
pub(crate) fn listed(record: CertificateRecord, now: Timestamp) -> wire::Certificate {
    let mut certificate = certificate(record, now);
    if let Some(drift) = &mut certificate.drift {
        drift.names.clear();
    }
    certificate
}

pub(crate) fn certificate(record: CertificateRecord, now: Timestamp) -> wire::Certificate {
    let not_after = record.version.as_ref().map(|version| version.not_after);
    let is_revoked = record.version.as_ref().is_some_and(VersionRecord::is_revoked);
    let names = &record.spec.names;
    wire::Certificate {
        id: record.id,
        project: record.project,
        names: names.identifiers().iter().map(ToString::to_string).collect(),
        display_names: names.typed().to_vec(),
        issuer: record.issuer,
        key: wire::Key { kind: record.spec.key_type, reuse: record.spec.key_reuse },
        challenge: record.spec.challenge,
        profile: record.spec.profile.map(String::from),
        preferred_chain: record.spec.preferred_chain.map(String::from),
        auto_renew: record.spec.auto_renew,
        status: record.status.at(now, not_after, is_revoked),
        problem: record.problem,
        next_attempt_at: record.next_attempt_at,
        version: record.version.map(version),
        renew_at: record.renew_at,
        renewal_info: renewal_info(record.renewal_info),
        drift: drift(record.drift),
        created_at: record.created_at,
        updated_at: record.updated_at,
    }
}

pub(crate) fn job(record: JobRecord) -> wire::Job {
    let (certificate, issuer) = match record.work.known() {
        Some(
            Work::Issue { certificate, .. }
            | Work::DriftScan { certificate }
            | Work::Revoke { certificate, .. },
        ) => (Some(*certificate), None),
        Some(Work::RegisterIssuer { issuer } | Work::RenewalLook { issuer }) => (None, Some(*issuer)),
        None => (None, None),
    };
    let attempt = |attempt: JobAttempt| wire::JobAttempt {
        number: attempt.number,
        owner: attempt.owner,
        started_at: attempt.started_at,
    };
    wire::Job {
        id: record.id,
        project: record.project,
        kind: record.work.kind().to_owned(),
        certificate,
        issuer,
        state: record.state,
        lane: record.lane,
        attempt: record.attempt,
        attempts: record.attempts.into_iter().map(attempt).collect(),
        owner: record.owner,
        due_at: record.due_at,
        problem: record.problem,
        created_at: record.created_at,
        finished_at: record.finished_at,
    }
}

pub(crate) fn job_total(record: TotalRecord) -> wire::JobTotal {
    let TotalRecord { id, jobs } = record;
    wire::JobTotal { hour: id.hour.start(), kind: id.kind, outcome: id.outcome.to_owned(), jobs }
}

pub(crate) fn notice(record: NoticeRecord) -> wire::Notice {
    wire::Notice {
        id: record.id.to_string(),
        certificate: record.id.certificate,
        version: record.id.version,
        project: record.project,
        name: record.name,
        kind: record.id.threshold,
        not_after: record.not_after,
        reason: record.reason,
        problem: record.problem,
        noticed_at: record.noticed_at,
        resolved_at: record.resolved_at,
    }
}
