// SPDX-License-Identifier: Apache-2.0
//! Accounts (RFC 8555, 7.3) and the orders placed with them.

use std::sync::Arc;

use async_trait::async_trait;
use cap_core::certificate::Profile;
use cap_core::limits;
use cap_core::name::Identifier;
use cap_core::order::{CaAccount, CaError, CaRequest, Placed, RemoteOrder, Seen};
use cap_core::problem::{Class, Problem};
use cap_core::renewal_info::{AriId, RenewalInfo};
use cap_core::secret::ExposeSecret;
use http::StatusCode;
use instant_acme::{Account, AccountBuilder, Key, NewOrder};
use jiff::Timestamp;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;

use crate::call::Action;
use crate::http::{Handle, Http};
use crate::order::AcmeOrder;
use crate::renewal;

/// An account that can sign.
pub(crate) struct AcmeAccount {
    account: Account,
    http: Arc<Http>,
    /// Where renewal information is, as the directory says; nothing at a CA that offers none.
    renewal_info: Option<String>,
}

/// What `instant-acme` leaves out of an order.
#[derive(Default, Deserialize)]
struct Rest {
    expires: Option<String>,
}

/// Registers the account of this key, or finds it, then sets its contacts; answers its URL.
pub(crate) async fn register(http: &Arc<Http>, request: &CaRequest) -> Result<String, CaError> {
    let register = async {
        let key = Key::from_pkcs8_der(PrivatePkcs8KeyDer::from(request.account_key.expose_secret()))?;
        // The encoded key is only wanted for the credentials that come back, which nobody needs: it stays here.
        let unneeded = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(Vec::new()));
        builder(http).create_from_key((key, unneeded), http.directory().to_owned()).await
    };
    let ((account, _), answer) = http.call(Action::Account, register).await?;
    let url = bounded(account.id(), "account")?;
    let contacts: Vec<String> = request.spec.contacts.iter().map(ToString::to_string).collect();
    // An account that was there already (RFC 8555, 7.3.1) may have contacts that are not wanted any more.
    if !contacts.is_empty() || answer.status == Some(StatusCode::OK) {
        let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
        http.call(Action::Account, account.update_contacts(&contacts)).await?;
    }
    Ok(url)
}

impl AcmeAccount {
    /// The account at `url`; this fetches the directory, and does not ask whether the account exists.
    pub(crate) async fn restore(http: Arc<Http>, request: &CaRequest, url: &str) -> Result<Self, CaError> {
        let key = PrivatePkcs8KeyDer::from(request.account_key.expose_secret());
        let restore = builder(&http).from_parts(url.to_owned(), key, http.directory().to_owned());
        let (account, answer) = http.call(Action::Account, restore).await?;
        Ok(Self { account, http, renewal_info: renewal::endpoint(&answer.body) })
    }

    /// Where a profile is not in the directory, a CA would ignore it and issue something else.
    fn check_offered(&self, profile: &str) -> Result<(), CaError> {
        let mut offered: Vec<&str> = self.account.profiles().map(|profile| profile.name).collect();
        if offered.contains(&profile) {
            return Ok(());
        }
        offered.sort_unstable();
        let detail = match offered.as_slice() {
            [] => format!("the CA offers no profiles, so it has no {profile:?}; remove the profile"),
            _ => format!("the CA has no profile {profile:?}; choose one of {}", offered.join(", ")),
        };
        Err(CaError::Refused(Problem::new(Class::Configuration, "profile-not-offered", detail)))
    }
}

#[async_trait]
impl CaAccount for AcmeAccount {
    /// RFC 8555, 7.4.
    async fn place(
        &self,
        names: &[Identifier],
        profile: Option<&Profile>,
        replaces: Option<&AriId>,
    ) -> Result<(Placed, Seen, Box<dyn RemoteOrder>), CaError> {
        let identifiers: Vec<_> = names.iter().map(identifier).collect();
        let profile = profile.cloned().map(String::from);
        let mut new_order = NewOrder::new(&identifiers);
        if let Some(profile) = &profile {
            self.check_offered(profile)?;
            new_order = new_order.profile(profile);
        }
        if let Some(replaces) = replaces {
            new_order = new_order.replaces(renewal::identifier(replaces));
        }
        let (order, answer) = self.http.answered(Action::NewOrder, self.account.new_order(&new_order)).await;
        let order = match (order, &answer.location) {
            // It took the order, and says nothing of what the order replaces (RFC 9773, 5, wants it to): an order all the same.
            (Err(_), Some(url)) if answer.status == Some(StatusCode::CREATED) => {
                self.http.call(Action::Order, self.account.order(url.clone())).await?.0
            }
            (order, _) => order?,
        };
        let rest: Rest = serde_json::from_slice(&answer.body).unwrap_or_default();
        let placed = Placed {
            url: bounded(order.url(), "order")?,
            expires: rest.expires.and_then(|text| text.parse::<Timestamp>().ok()),
        };
        let mut order = AcmeOrder::new(order, self.http.clone());
        Ok((placed, order.seen().await, Box::new(order)))
    }

    async fn resume(&self, url: &str) -> Result<(Seen, Box<dyn RemoteOrder>), CaError> {
        let (order, _) = self.http.call(Action::Order, self.account.order(url.to_owned())).await?;
        let mut order = AcmeOrder::new(order, self.http.clone());
        Ok((order.seen().await, Box::new(order)))
    }

    fn offers_renewal_info(&self) -> bool {
        self.renewal_info.is_some()
    }

    async fn renewal_info(&self, certificate: &AriId) -> Result<RenewalInfo, CaError> {
        renewal::ask(&self.http, self.renewal_info.as_deref(), certificate).await
    }
}

fn builder(http: &Arc<Http>) -> AccountBuilder {
    Account::builder_with_http(Box::new(Handle(http.clone())))
}

fn identifier(name: &Identifier) -> instant_acme::Identifier {
    match name {
        Identifier::Dns(name) => instant_acme::Identifier::Dns(name.clone()),
        Identifier::Ip(address) => instant_acme::Identifier::Ip(*address),
    }
}

/// A URL of the CA's that will be stored.
pub(crate) fn bounded(url: &str, of: &str) -> Result<String, CaError> {
    if url.len() <= limits::URL_OCTETS {
        return Ok(url.to_owned());
    }
    let detail =
        format!("the URL of the {of} is longer than {} octets; it cannot be used", limits::URL_OCTETS);
    Err(CaError::Refused(Problem::new(Class::Protocol, "url-too-long", detail)))
}
