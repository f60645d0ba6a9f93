// SPDX-License-Identifier: Apache-2.0
//! Accounts that are restored, and the orders placed with them (RFC 8555, 7.4).

use std::sync::Arc;

use async_trait::async_trait;
use cap_core::certificate::{Profile, RevocationReason};
use cap_core::limits;
use cap_core::name::Identifier;
use cap_core::order::{CaAccount, CaError, CaRequest, Found, Placed, RemoteOrder, Reply};
use cap_core::problem::{Class, Problem};
use cap_core::renewal_info::{AriId, RenewalInfo};
use cap_core::secret::ExposeSecret;
use http::StatusCode;
use instant_acme::{Account, AccountBuilder, NewOrder};
use jiff::Timestamp;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::Deserialize;

use crate::call::Action;
use crate::directory::Directory;
use crate::http::{Handle, Http};
use crate::order::AcmeOrder;
use crate::renewal;
use crate::revocation;
use crate::signed::Signing;

/// An account that can sign.
pub(crate) struct AcmeAccount {
    account: Account,
    http: Arc<Http>,
    /// Signs what `account` cannot.
    signing: Arc<Signing>,
}

/// What `instant-acme` leaves out of an order.
#[derive(Default, Deserialize)]
struct Rest {
    expires: Option<String>,
}

impl AcmeAccount {
    /// The account at `url`; this fetches the directory, and does not ask whether the account exists.
    pub(crate) async fn restore(http: Arc<Http>, request: &CaRequest, url: &str) -> Result<Self, CaError> {
        let key = PrivatePkcs8KeyDer::from(request.account_key.expose_secret());
        let restore = builder(&http).from_parts(url.to_owned(), key, http.directory().to_owned());
        let (account, answer) = http.call(Action::Account, restore).await?;
        let (directory, _) = http.call(Action::Directory, async { Directory::read(&answer.body) }).await?;
        let signing = Signing::new(http.clone(), directory, request, Some(url.to_owned()))?;
        Ok(Self { account, http, signing: Arc::new(signing) })
    }

    /// Where a profile is not in the directory, a CA would ignore it and issue something else. One that was not offered when the
    /// account was restored may be by now.
    async fn check_offered(&self, profile: &str) -> Result<(), CaError> {
        if self.signing.directory.profiles().any(|offered| offered == profile) {
            return Ok(());
        }
        let directory = Directory::fetch(&self.http).await?;
        let offered: Vec<&str> = directory.profiles().collect();
        if offered.contains(&profile) {
            return Ok(());
        }
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
    ) -> Result<(Placed, Option<Found>), CaError> {
        let identifiers: Vec<_> = names.iter().map(identifier).collect();
        let profile = profile.cloned().map(String::from);
        let mut new_order = NewOrder::new(&identifiers);
        if let Some(profile) = &profile {
            self.check_offered(profile).await?;
            new_order = new_order.profile(profile);
        }
        if let Some(replaces) = replaces {
            new_order = new_order.replaces(renewal::identifier(replaces));
        }
        let (order, answer) = self.http.answered(Action::NewOrder, self.account.new_order(&new_order)).await;
        let (order, url) = match (order, &answer.location) {
            // It took the order, and says nothing of what that replaces (RFC 9773, 5, wants it to), or nothing that can be read:
            // an order all the same, whose URL nobody will hear again.
            (Err(_), Some(url)) if answer.status == Some(StatusCode::CREATED) => (None, url.clone()),
            (order, _) => {
                let order = order?;
                let url = order.url().to_owned();
                (Some(order), url)
            }
        };
        let rest: Rest = serde_json::from_slice(&answer.body).unwrap_or_default();
        let placed = Placed {
            url: bounded(&url, "order")?,
            expires: rest.expires.and_then(|text| text.parse::<Timestamp>().ok()),
        };
        let found = order.and_then(|order| {
            let mut order = AcmeOrder::new(order, self.http.clone(), self.signing.clone());
            let said = order.word()?;
            Some((Reply { said, retry_at: answer.retry_after }, Box::new(order) as Box<dyn RemoteOrder>))
        });
        Ok((placed, found))
    }

    async fn resume(&self, url: &str) -> Result<Found, CaError> {
        let (order, answer) = self.http.call(Action::Order, self.account.order(url.to_owned())).await?;
        let mut order = AcmeOrder::new(order, self.http.clone(), self.signing.clone());
        Ok((Reply { said: order.seen().await, retry_at: answer.retry_after }, Box::new(order)))
    }

    fn offers_renewal_info(&self) -> bool {
        self.signing.directory.renewal_info().is_some()
    }

    async fn renewal_info(&self, certificate: &AriId) -> Result<RenewalInfo, CaError> {
        renewal::ask(&self.http, self.signing.directory.renewal_info(), certificate).await
    }

    async fn revoke(&self, certificate: &[u8], reason: RevocationReason) -> Result<(), CaError> {
        revocation::signed_by(&self.signing, certificate, reason).await
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
