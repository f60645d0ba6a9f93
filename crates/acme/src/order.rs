// SPDX-License-Identifier: Apache-2.0
//! An order at the CA (RFC 8555, 7.4 and 7.5).

use std::sync::Arc;

use async_trait::async_trait;
use cap_core::challenge::ChallengeToken;
use cap_core::order::{Authorization, CaError, Chain, RemoteOrder, Reply, Seen};
use cap_core::problem::{Class, Problem};
use instant_acme::{
    AuthorizationHandle, AuthorizationState, AuthorizationStatus, ChallengeStatus, ChallengeType, Order,
    OrderStatus,
};

use crate::call::Action;
use crate::document::Document;
use crate::http::Http;
use crate::signed::Signing;

/// An order, and what was last seen of it.
pub(crate) struct AcmeOrder {
    order: Order,
    http: Arc<Http>,
    signing: Arc<Signing>,
}

impl AcmeOrder {
    pub(crate) fn new(order: Order, http: Arc<Http>, signing: Arc<Signing>) -> Self {
        Self { order, http, signing }
    }

    /// What the last answer said of it, where that is all there is to say; nothing where it is invalid, and has to be asked why.
    pub(crate) fn word(&mut self) -> Option<Seen> {
        match self.order.state().status {
            OrderStatus::Pending => Some(Seen::Pending),
            OrderStatus::Ready => Some(Seen::Ready),
            OrderStatus::Processing => Some(Seen::Processing),
            OrderStatus::Valid => Some(Seen::Valid),
            OrderStatus::Invalid => None,
        }
    }

    /// What the last answer said of it; why it is invalid is asked for.
    pub(crate) async fn seen(&mut self) -> Seen {
        match self.word() {
            Some(seen) => seen,
            None => Seen::Invalid(self.why_invalid().await),
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
            let problem = match authorization.status {
                // A challenge keeps the error of a try that came before the one which succeeded (RFC 8555, 8.2).
                AuthorizationStatus::Valid => None,
                AuthorizationStatus::Pending | AuthorizationStatus::Invalid => {
                    failed_challenge(&authorization)
                }
                status => Some(ended(&authorization, status)),
            };
            if problem.is_some() {
                return problem;
            }
        }
    }
}

#[async_trait]
impl RemoteOrder for AcmeOrder {
    async fn look(&mut self) -> Result<Reply<Seen>, CaError> {
        let refresh = async { self.order.refresh().await.map(drop) };
        let ((), answer) = self.http.call(Action::Order, refresh).await?;
        Ok(Reply { said: self.seen().await, retry_at: answer.retry_after })
    }

    async fn authorizations(&mut self) -> Result<Reply<Vec<Authorization>>, CaError> {
        let mut read = Reply::from(Vec::new());
        let mut authorizations = self.order.authorizations();
        loop {
            let next = authorizations.next();
            let next = self.http.call(Action::Authorization, async { next.await.transpose() });
            let (Some(authorization), answer) = next.await? else {
                return Ok(read);
            };
            read.retry_at = read.retry_at.max(answer.retry_after);
            read.said.push(interpret(authorization));
        }
    }

    /// RFC 8555, 7.5.1. An authorization that this handle has read is not read again; whoever resumed an order has a
    /// handle that has read none.
    async fn submit(&mut self) -> Result<Reply<()>, CaError> {
        let mut submitted = Reply::from(());
        let mut authorizations = self.order.authorizations();
        loop {
            let next = authorizations.next();
            let next = self.http.call(Action::Authorization, async { next.await.transpose() });
            let (Some(mut authorization), answer) = next.await? else {
                return Ok(submitted);
            };
            submitted.retry_at = submitted.retry_at.max(answer.retry_after);
            let pending = authorization.status == AuthorizationStatus::Pending;
            let challenge = authorization.challenge(ChallengeType::Http01).filter(|_| pending);
            if let Some(mut challenge) = challenge
                && challenge.status == ChallengeStatus::Pending
            {
                let (_, answer) = self.http.call(Action::Challenge, challenge.set_ready()).await?;
                submitted.retry_at = submitted.retry_at.max(answer.retry_after);
            }
        }
    }

    async fn withdraw(&mut self) -> Result<usize, CaError> {
        let (mut authorizations, mut withdrawn) = (self.order.authorizations(), 0);
        loop {
            let next = authorizations.next();
            let next = self.http.call(Action::Authorization, async { next.await.transpose() });
            let (Some(mut authorization), _) = next.await? else {
                return Ok(withdrawn);
            };
            if authorization.status == AuthorizationStatus::Pending {
                let deactivate = async { authorization.deactivate().await.map(drop) };
                self.http.call(Action::Withdrawal, deactivate).await?;
                withdrawn += 1;
            }
        }
    }

    async fn finalize(&mut self, csr: &[u8]) -> Result<Reply<Seen>, CaError> {
        let ((), answer) = self.http.call(Action::Finalize, self.order.finalize_csr(csr)).await?;
        Ok(Reply { said: self.seen().await, retry_at: answer.retry_after })
    }

    async fn certificate(&mut self) -> Result<Chain, CaError> {
        if self.order.state().status != OrderStatus::Valid {
            self.look().await?;
        }
        if self.order.state().status != OrderStatus::Valid {
            return Err(not_issued());
        }
        let (chain, answer) = self.http.call(Action::Certificate, self.order.certificate()).await?;
        Ok(Chain { pem: chain.ok_or_else(not_issued)?, alternates: answer.alternates })
    }

    async fn alternate(&mut self, url: &str) -> Result<String, CaError> {
        let answer = self.signing.post_as_get(Action::Certificate, url).await?;
        // What is no text is no chain either, and is judged as one that is not wanted.
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
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
            return Authorization::Unusable(ended(&authorization, status));
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

/// Why an authorization of this status cannot be completed.
fn ended(authorization: &AuthorizationState, status: AuthorizationStatus) -> Problem {
    let name = || authorization.identifier().to_string();
    failed_challenge(authorization).unwrap_or_else(|| unusable(&name(), status))
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
