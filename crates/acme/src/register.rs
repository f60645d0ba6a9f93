// SPDX-License-Identifier: Apache-2.0
//! Accounts that are registered or found (RFC 8555, 7.3), with a key that was stored before the CA hears of it.

use std::sync::Arc;

use cap_core::issuer::{ACCOUNT_CLOSED, Contact};
use cap_core::order::{CaError, CaRequest};
use cap_core::problem::{Class, Problem};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::account::bounded;
use crate::call::{Action, Answer};
use crate::directory::Directory;
use crate::document;
use crate::http::Http;
use crate::key::Jws;
use crate::signed::Signing;

/// Characters of an account's status that are quoted: enough for any of RFC 8555's.
const STATUS_CHARS: usize = 20;

/// A request for an account (RFC 8555, 7.3).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewAccount<'a> {
    #[serde(skip_serializing_if = "<[Contact]>::is_empty")]
    contact: &'a [Contact],
    terms_of_service_agreed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_account_binding: Option<Jws>,
}

/// Asks for the account that has the key, and for no other (RFC 8555, 7.3.1).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Existing {
    only_return_existing: bool,
}

/// Whom the CA may write to from now on (RFC 8555, 7.3.2).
#[derive(Serialize)]
struct Contacts<'a> {
    contact: &'a [Contact],
}

/// What of an account decides whether it can be used (RFC 8555, 7.1.2).
#[derive(Deserialize)]
struct Account {
    status: String,
}

/// Registers the account of this key, or finds it and sets its contacts; answers its URL. There are CAs that take a binding once and
/// refuse it of an account that has one, so that which is to be bound is looked for first.
pub(crate) async fn register(http: &Arc<Http>, request: &CaRequest) -> Result<String, CaError> {
    let directory = Directory::fetch(http).await?;
    let by_key = Signing::new(http.clone(), directory.clone(), request, None)?;
    let contact = request.spec.contacts.as_slice();
    if request.external.is_some() {
        match existing(&by_key).await {
            Ok(Some(url)) => {
                tell_contacts(http, directory, request, &url).await?;
                return Ok(url);
            }
            Err(error @ (CaError::Transient(_) | CaError::Later { .. })) => return Err(error),
            Err(CaError::Account(problem)) if problem.kind == ACCOUNT_CLOSED => {
                return Err(CaError::Account(problem));
            }
            // Whatever it says of a key that it does not know.
            Ok(None) | Err(_) => {}
        }
    }
    let (action, binding) = match &request.external {
        Some(external) => (Action::Binding, Some(by_key.bound_to(external)?)),
        None => (Action::Account, None),
    };
    let asked = NewAccount { contact, terms_of_service_agreed: true, external_account_binding: binding };
    let answer = by_key.post(action, &directory.new_account, &asked).await?;
    let url = location(&answer)?;
    check_valid(&answer)?;
    // An account that was there already (RFC 8555, 7.3.1) may have contacts that are not wanted any more.
    if answer.status == Some(StatusCode::OK) {
        tell_contacts(http, directory, request, &url).await?;
    }
    Ok(url)
}

/// Sets the contacts of the account at `url`.
pub(crate) async fn tell_contacts(
    http: &Arc<Http>,
    directory: Directory,
    request: &CaRequest,
    url: &str,
) -> Result<(), CaError> {
    let by_account = Signing::new(http.clone(), directory, request, Some(url.to_owned()))?;
    let contact = request.spec.contacts.as_slice();
    check_valid(&by_account.post(Action::Account, url, &Contacts { contact }).await?)
}

/// The URL of the account that has the request's key, if the CA knows one.
pub(crate) async fn find(http: &Arc<Http>, request: &CaRequest) -> Result<Option<String>, CaError> {
    let directory = Directory::fetch(http).await?;
    existing(&Signing::new(http.clone(), directory, request, None)?).await
}

/// The same, of whoever signs. A CA that would have a new account bound knows none by this key.
async fn existing(by_key: &Signing) -> Result<Option<String>, CaError> {
    let endpoint = &by_key.directory.new_account;
    match by_key.post(Action::Account, endpoint, &Existing { only_return_existing: true }).await {
        Ok(answer) => check_valid(&answer).and_then(|()| location(&answer)).map(Some),
        Err(CaError::Account(problem) | CaError::Refused(problem))
            if document::is_unknown_account(&problem.kind) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The URL of the account that an answer is about.
fn location(answer: &Answer) -> Result<String, CaError> {
    let Some(url) = &answer.location else {
        let detail = format!("{} named no account URL (RFC 8555, 7.3); it is asked again", answer.url);
        return Err(CaError::Transient(Problem::new(Class::Transient, "ca-answer-unreadable", detail)));
    };
    bounded(url, "account")
}

/// Refuses an account that the CA has closed. One whose status it leaves out is taken for valid: nobody lists those.
fn check_valid(answer: &Answer) -> Result<(), CaError> {
    match serde_json::from_slice(&answer.body) {
        Ok(Account { status }) if status != "valid" => {
            let status: String = status.chars().take(STATUS_CHARS).collect();
            let detail = format!("the CA says that the account is {status}; make a new issuer");
            Err(CaError::Account(Problem::new(Class::Configuration, ACCOUNT_CLOSED, detail)))
        }
        _ => Ok(()),
    }
}
