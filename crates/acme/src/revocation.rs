// SPDX-License-Identifier: Apache-2.0
//! Certificates that are revoked (RFC 8555, 7.6): by the word of the account that ordered them, or of their own key.

use std::sync::Arc;

use cap_core::certificate::RevocationReason;
use cap_core::order::CaError;
use cap_core::problem::{Class, Problem};
use cap_core::secret::SecretSlice;
use instant_acme::RevocationRequest;
use rustls_pki_types::CertificateDer;

use crate::call::{Action, Answer};
use crate::directory::Directory;
use crate::document::Document;
use crate::http::Http;
use crate::key::SigningKey;
use crate::signed::Signing;

/// Asks the CA to revoke `certificate` (DER) with a request that its own private key signs (`key`, PKCS #8 DER).
pub(crate) async fn by_key(
    http: &Arc<Http>,
    certificate: &[u8],
    key: &SecretSlice<u8>,
    reason: RevocationReason,
) -> Result<(), CaError> {
    let key = SigningKey::of_certificate(key)?;
    let directory = Directory::fetch(http).await?;
    signed_by(&Signing::with(http.clone(), directory, key, None), certificate, reason).await
}

/// Asks the CA to revoke `certificate` (DER) with a request by whoever `signing` signs for.
pub(crate) async fn signed_by(
    signing: &Signing,
    certificate: &[u8],
    reason: RevocationReason,
) -> Result<(), CaError> {
    let Some(endpoint) = signing.directory.revoke_cert.as_deref() else { return Err(not_offered()) };
    let certificate = CertificateDer::from(certificate);
    let payload = RevocationRequest { certificate: &certificate, reason: Some(coded(reason)) };
    let (done, answer) = signing.answered(Action::Revocation, endpoint, &payload).await;
    if is_revoked_already(&answer) { Ok(()) } else { done }
}

/// As `instant-acme` calls it.
fn coded(reason: RevocationReason) -> instant_acme::RevocationReason {
    match reason {
        RevocationReason::Unspecified => instant_acme::RevocationReason::Unspecified,
        RevocationReason::KeyCompromise => instant_acme::RevocationReason::KeyCompromise,
        RevocationReason::AffiliationChanged => instant_acme::RevocationReason::AffiliationChanged,
        RevocationReason::Superseded => instant_acme::RevocationReason::Superseded,
        RevocationReason::CessationOfOperation => instant_acme::RevocationReason::CessationOfOperation,
    }
}

/// Whether a refusal says that it was done before.
fn is_revoked_already(answer: &Answer) -> bool {
    Document::read(&answer.body).is_some_and(|document| document.acme_type() == Some("alreadyRevoked"))
}

fn not_offered() -> CaError {
    let detail = "the CA's directory offers no revocation by ACME; ask the CA how it revokes certificates";
    CaError::Refused(Problem::new(Class::Configuration, "revocation-not-offered", detail))
}
