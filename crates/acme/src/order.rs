// SPDX-License-Identifier: Apache-2.0
//! An order at the CA (RFC 8555, 7.4 and 7.5).

use std::sync::Arc;

use async_trait::async_trait;
use cap_core::challenge::ChallengeToken;
use cap_core::order::{Authorization, CaError, RemoteOrder, Seen};
use cap_core::problem::{Class, Problem};
use instant_acme::{
    AuthorizationHandle, AuthorizationState, AuthorizationStatus, ChallengeStatus, ChallengeType, Order,
    OrderStatus,
};

use crate::call::Action;
use crate::document::Document;
use crate::http::Http;

/// An order, and what was last seen of it.
pub(crate) struct AcmeOrder {
    order: Order,
    http: Arc<Http>,
}

impl AcmeOrder {
    pub(crate) fn new(order: Order, http: Arc<Http>) -> Self {
        Self { order, http }
    }

    /// What the last answer said of it; why it is invalid is asked for.
    pub(crate) async fn seen(&mut self) -> Seen {
        match self.order.state().status {
            OrderStatus::Pending => Seen::Pending,
            OrderStatus::Ready => Seen::Ready,
            OrderStatus::Processing => Seen::Processing,
            OrderStatus::Valid => Seen::Valid,
            OrderStatus::Invalid => Seen::Invalid(self.why_invalid().await),
        }
    }

    /// The first failed challenge says most; most CAs give the order itself no error then. When the authorizations
    /// cannot be read, or not within the time of a request, what the order says must do: the verdict must not be lost.
    async fn why_invalid(&mut self) -> Problem {
        let own = self.order.state().error.as_ref().map(Document::from);
        let failed = tokio::time::timeout(self.http.request_timeout(), self.first_failed()).await;
        failed.ok().flatten().unwrap_or_else(|| own.unwrap_or_default().of_object(None, Class::Protocol))
    }

    async fn first_failed(&mut self) -> Option<Problem> {
        let mut authorizations = self.order.authorizations();
        loop {
            let next = authorizations.next();
            let next = self.http.call(Action::Authorization, async { next.await.transpose() });
            let authorization = next.await.ok()?.0?;
            if let Some(problem) = failed_challenge(&authorization) {
                return Some(problem);
            }
        }
    }
}

#[async_trait]
impl RemoteOrder for AcmeOrder {
    async fn look(&mut self) -> Result<Seen, CaError> {
        let refresh = async { self.order.refresh().await.map(drop) };
        self.http.call(Action::Order, refresh).await?;
        Ok(self.seen().await)
    }

    async fn authorizations(&mut self) -> Result<Vec<Authorization>, CaError> {
        let mut read = Vec::new();
        let mut authorizations = self.order.authorizations();
        loop {
            let next = authorizations.next();
            let next = self.http.call(Action::Authorization, async { next.await.transpose() });
            let (Some(authorization), _) = next.await? else {
                return Ok(read);
            };
            read.push(interpret(authorization));
        }
    }

    /// RFC 8555, 7.5.1. An authorization that this handle has read is not read again; whoever resumed an order has a
    /// handle that has read none.
    async fn submit(&mut self) -> Result<(), CaError> {
        let mut authorizations = self.order.authorizations();
        loop {
            let next = authorizations.next();
            let next = self.http.call(Action::Authorization, async { next.await.transpose() });
            let (Some(mut authorization), _) = next.await? else {
                return Ok(());
            };
            let pending = authorization.status == AuthorizationStatus::Pending;
            let challenge = authorization.challenge(ChallengeType::Http01).filter(|_| pending);
            if let Some(mut challenge) = challenge
                && challenge.status == ChallengeStatus::Pending
            {
                self.http.call(Action::Challenge, challenge.set_ready()).await?;
            }
        }
    }

    async fn finalize(&mut self, csr: &[u8]) -> Result<Seen, CaError> {
        self.http.call(Action::Finalize, self.order.finalize_csr(csr)).await?;
        Ok(self.seen().await)
    }

    async fn certificate(&mut self) -> Result<String, CaError> {
        if self.order.state().status != OrderStatus::Valid {
            self.look().await?;
        }
        if self.order.state().status != OrderStatus::Valid {
            return Err(not_issued());
        }
        let (chain, _) = self.http.call(Action::Certificate, self.order.certificate()).await?;
        chain.ok_or_else(not_issued)
    }
}

/// What there is to do for an authorization.
fn interpret(authorization: AuthorizationHandle<'_>) -> Authorization {
    let mut authorization = authorization;
    let name = authorization.identifier().to_string();
    match authorization.status {
        AuthorizationStatus::Valid => return Authorization::Valid,
        AuthorizationStatus::Pending => {}
        status @ (AuthorizationStatus::Invalid
        | AuthorizationStatus::Revoked
        | AuthorizationStatus::Expired
        | AuthorizationStatus::Deactivated) => {
            let problem = failed_challenge(&authorization).unwrap_or_else(|| unusable(&name, status));
            return Authorization::Unusable(problem);
        }
    }
    let failed = failed_challenge(&authorization);
    let offered: Vec<String> = authorization.challenges.iter().map(|c| label(&c.r#type).to_owned()).collect();
    let Some(challenge) = authorization.challenge(ChallengeType::Http01) else {
        return Authorization::Unusable(no_http_01(&name, &offered));
    };
    if challenge.status == ChallengeStatus::Invalid {
        let problem = failed.unwrap_or_else(|| unusable(&name, AuthorizationStatus::Invalid));
        return Authorization::Unusable(problem);
    }
    let Ok(token) = ChallengeToken::try_from(challenge.token.clone()) else {
        let detail =
            format!("{name}: the CA's challenge token is not base64url (RFC 8555, 8.3); it is not answered");
        let problem = Problem::new(Class::Protocol, "bad-challenge-token", detail);
        return Authorization::Unusable(problem);
    };
    let key_authorization = challenge.key_authorization().as_str().to_owned();
    Authorization::Pending { token, key_authorization }
}

/// The first error among the challenges, with the name that it is about.
fn failed_challenge(authorization: &AuthorizationState) -> Option<Problem> {
    let error = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref())?;
    let name = authorization.identifier().to_string();
    Some(Document::from(error).of_object(Some(&name), Class::Validation))
}

fn unusable(name: &str, status: AuthorizationStatus) -> Problem {
    let status = match status {
        AuthorizationStatus::Pending => "pending",
        AuthorizationStatus::Valid => "valid",
        AuthorizationStatus::Invalid => "invalid",
        AuthorizationStatus::Revoked => "revoked",
        AuthorizationStatus::Expired => "expired",
        AuthorizationStatus::Deactivated => "deactivated",
    };
    let detail =
        format!("{name}: its authorization is {status}, and the CA does not say why; a new order is placed");
    Problem::new(Class::Validation, "authorization-unusable", detail)
}

fn no_http_01(name: &str, offered: &[String]) -> Problem {
    let why = if name.starts_with("*.") {
        "wildcard names cannot be validated by http-01; list the names themselves"
    } else {
        "use a CA that offers it for this name"
    };
    let detail = format!("{name}: the CA offers no http-01 challenge, only {}; {why}", offered.join(", "));
    Problem::new(Class::Validation, "no-http-01", detail)
}

fn label(kind: &ChallengeType) -> &str {
    match kind {
        ChallengeType::Http01 => "http-01",
        ChallengeType::Dns01 => "dns-01",
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        ChallengeType::DeviceAttest01 => "device-attest-01",
        ChallengeType::Unknown(other) => other,
        _ => "others",
    }
}

fn not_issued() -> CaError {
    let detail = "the order has no certificate yet; it is looked at again";
    CaError::OutOfStep(Problem::new(Class::Transient, "not-issued", detail))
}
