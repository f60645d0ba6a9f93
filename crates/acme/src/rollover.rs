// SPDX-License-Identifier: Apache-2.0
//! What becomes of an account that is registered: its key is changed (RFC 8555, 7.3.5), it is deactivated (7.3.6).

use std::sync::Arc;

use cap_core::issuer::KEY_IN_USE;
use cap_core::order::{CaError, CaRequest};
use cap_core::problem::{Class, Problem};
use cap_core::secret::SecretSlice;
use http::StatusCode;
use serde::Serialize;

use crate::call::{Action, Answer};
use crate::directory::Directory;
use crate::http::Http;
use crate::key::{Jwk, Signer, SigningKey};
use crate::signed::Signing;

/// What the new key signs (RFC 8555, 7.3.5).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyChange<'a> {
    account: &'a str,
    old_key: &'a Jwk,
}

/// How an account is closed (RFC 8555, 7.3.6).
#[derive(Serialize)]
struct Deactivation {
    status: &'static str,
}

/// Has the account at `url` take `new_key`: the new key signs that it wants the account, the old one that it may.
pub(crate) async fn change_key(
    http: &Arc<Http>,
    request: &CaRequest,
    url: &str,
    new_key: &SecretSlice<u8>,
) -> Result<(), CaError> {
    let directory = Directory::fetch(http).await?;
    let Some(endpoint) = directory.key_change.clone() else { return Err(not_offered()) };
    let old = Signing::new(http.clone(), directory, request, Some(url.to_owned()))?;
    let new = SigningKey::of_account(new_key)?;
    let (new_jwk, change) = (new.jwk(), KeyChange { account: url, old_key: old.jwk() });
    let payload = serde_json::to_vec(&change).map_err(|_| crate::fault::unusable_key())?;
    let signed = new.sign(Signer::Jwk(&new_jwk), None, &endpoint, &payload);
    let signed = signed.map_err(|_| crate::fault::unusable_key())?;
    let (changed, answer) = old.answered(Action::KeyChange, &endpoint, &signed).await;
    judged(changed, &answer, url)
}

/// A CA says that an account has the key with an answer that needs no problem document, and says which one (RFC 8555, 7.3.5): the
/// one at `url` has it where it heard an earlier request.
fn judged(changed: Result<(), CaError>, answer: &Answer, url: &str) -> Result<(), CaError> {
    match (changed, answer.location.as_deref()) {
        (Err(_), Some(holder)) if answer.status == Some(StatusCode::CONFLICT) && holder == url => Ok(()),
        (Err(_), holder) if answer.status == Some(StatusCode::CONFLICT) => Err(in_use(holder)),
        (changed, _) => changed,
    }
}

/// Deactivates the account at `url`.
pub(crate) async fn deactivate(http: &Arc<Http>, request: &CaRequest, url: &str) -> Result<(), CaError> {
    let directory = Directory::fetch(http).await?;
    let account = Signing::new(http.clone(), directory, request, Some(url.to_owned()))?;
    account.post(Action::Deactivation, url, &Deactivation { status: "deactivated" }).await.map(drop)
}

fn not_offered() -> CaError {
    let detail = "the CA's directory offers no change of keys, so the account keeps the key that it has";
    CaError::Refused(Problem::new(Class::Configuration, "key-change-not-offered", detail))
}

fn in_use(account: Option<&str>) -> CaError {
    let which = account.map(|url| format!(", {url},")).unwrap_or_default();
    let detail =
        format!("the CA has another account{which} with the next key; the account keeps the key that it has");
    CaError::Refused(Problem::new(Class::Protocol, KEY_IN_USE, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "https://ca.test/account/1";

    #[test]
    fn a_conflict_names_the_account_that_has_the_key_and_nothing_else_is_one() {
        let refused = || Err(CaError::Transient(Problem::new(Class::Transient, "ca-error", "")));
        let location = Some("https://ca.test/account/2".to_owned());
        let answer =
            |status| Answer { status: Some(status), location: location.clone(), ..Answer::default() };
        let Err(CaError::Refused(problem)) = judged(refused(), &answer(StatusCode::CONFLICT), OURS) else {
            panic!("a conflict is not refused");
        };
        assert_eq!(problem.kind, KEY_IN_USE);
        assert!(problem.detail.contains("https://ca.test/account/2"), "{problem}");
        let other = judged(refused(), &answer(StatusCode::BAD_GATEWAY), OURS);
        assert!(matches!(other, Err(CaError::Transient(_))), "{other:?}");
        assert!(judged(Ok(()), &answer(StatusCode::OK), OURS).is_ok());
        let holder = location.as_deref().unwrap();
        assert!(judged(refused(), &answer(StatusCode::CONFLICT), holder).is_ok(), "ours has it already");
    }
}
