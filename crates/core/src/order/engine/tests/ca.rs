// SPDX-License-Identifier: Apache-2.0
//! A CA with one order, which answers what it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::certificate::{Profile, RevocationReason};
use crate::name::Identifier;
use crate::order::{Authorization, CaAccount, CaError, Chain, Found, Placed, RemoteOrder, Reply, Seen};
use crate::renewal_info::{AriId, RenewalInfo};

/// What the CA answers to an act; none: nothing, for ever.
pub(super) type Answer<T> = Option<Result<T, CaError>>;

/// A CA with one order. Looks at it, and at its authorizations, are answered one after the other, and from then on by the last.
#[derive(Clone)]
pub(super) struct Ca(pub(super) Arc<Mutex<Answers>>);

pub(super) struct Answers {
    pub(super) offers_renewal_info: bool,
    pub(super) places: VecDeque<Answer<(Placed, Option<Seen>)>>,
    /// What the orders that were placed were said to replace.
    pub(super) replaced: Vec<Option<AriId>>,
    pub(super) looks: VecDeque<Answer<Reply<Seen>>>,
    pub(super) authorizations: VecDeque<Answer<Reply<Vec<Authorization>>>>,
    pub(super) submit: Answer<Reply<()>>,
    pub(super) withdraw: Answer<usize>,
    pub(super) finalize: Answer<Reply<Seen>>,
    /// Signing requests that were sent.
    pub(super) finalized: u32,
    pub(super) certificate: Answer<String>,
    /// Other chains, by where they are said to be.
    pub(super) alternates: Vec<(String, Answer<String>)>,
    /// Those that were asked for.
    pub(super) followed: Vec<String>,
}

async fn say<T>(answer: Answer<T>) -> Result<T, CaError> {
    match answer {
        Some(result) => result,
        None => std::future::pending().await,
    }
}

impl Ca {
    /// One that answers nothing until it is told what.
    pub(super) fn silent() -> Self {
        Self(Arc::new(Mutex::new(Answers {
            offers_renewal_info: true,
            places: VecDeque::new(),
            replaced: Vec::new(),
            looks: [None].into(),
            authorizations: [None].into(),
            submit: Some(Ok(().into())),
            withdraw: None,
            finalize: None,
            finalized: 0,
            certificate: None,
            alternates: Vec::new(),
            followed: Vec::new(),
        })))
    }

    fn next_look(&self) -> Answer<Reply<Seen>> {
        next(&mut self.0.lock().unwrap().looks)
    }
}

/// One after the other, and from then on the last.
fn next<T: Clone>(answers: &mut VecDeque<T>) -> T {
    if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
}

#[async_trait]
impl CaAccount for Ca {
    async fn place(
        &self,
        _names: &[Identifier],
        _profile: Option<&Profile>,
        replaces: Option<&AriId>,
    ) -> Result<(Placed, Option<Found>), CaError> {
        let answer = {
            let mut answers = self.0.lock().unwrap();
            answers.replaced.push(replaces.cloned());
            answers.places.pop_front().expect("no order is to be placed any more")
        };
        let (placed, seen) = say(answer).await?;
        let found = |seen: Seen| -> Found { (seen.into(), Box::new(self.clone())) };
        Ok((placed, seen.map(found)))
    }

    async fn resume(&self, _url: &str) -> Result<Found, CaError> {
        let seen = say(self.next_look()).await?;
        Ok((seen, Box::new(self.clone())))
    }

    fn offers_renewal_info(&self) -> bool {
        self.0.lock().unwrap().offers_renewal_info
    }

    async fn renewal_info(&self, _: &AriId) -> Result<RenewalInfo, CaError> {
        panic!("the engine asks for no renewal information")
    }

    async fn revoke(&self, _: &[u8], _: RevocationReason) -> Result<(), CaError> {
        panic!("the engine revokes nothing")
    }
}

#[async_trait]
impl RemoteOrder for Ca {
    async fn look(&mut self) -> Result<Reply<Seen>, CaError> {
        say(self.next_look()).await
    }

    async fn authorizations(&mut self) -> Result<Reply<Vec<Authorization>>, CaError> {
        let answer = next(&mut self.0.lock().unwrap().authorizations);
        say(answer).await
    }

    async fn submit(&mut self) -> Result<Reply<()>, CaError> {
        let answer = self.0.lock().unwrap().submit.clone();
        say(answer).await
    }

    async fn withdraw(&mut self) -> Result<usize, CaError> {
        let answer = self.0.lock().unwrap().withdraw.clone();
        say(answer).await
    }

    async fn finalize(&mut self, _csr: &[u8]) -> Result<Reply<Seen>, CaError> {
        let answer = {
            let mut answers = self.0.lock().unwrap();
            answers.finalized += 1;
            answers.finalize.clone()
        };
        say(answer).await
    }

    async fn certificate(&mut self) -> Result<Chain, CaError> {
        let (answer, alternates) = {
            let answers = self.0.lock().unwrap();
            let alternates = answers.alternates.iter().map(|(url, _)| url.clone()).collect();
            (answers.certificate.clone(), alternates)
        };
        Ok(Chain { pem: say(answer).await?, alternates })
    }

    async fn alternate(&mut self, url: &str) -> Result<String, CaError> {
        let answer = {
            let mut answers = self.0.lock().unwrap();
            answers.followed.push(url.to_owned());
            answers.alternates.iter().find(|(at, _)| at == url).and_then(|(_, answer)| answer.clone())
        };
        say(answer).await
    }
}

/// What a CA issues for this request.
pub(super) fn certificate(csr: &[u8]) -> String {
    let ca = rcgen::Issuer::new(rcgen::CertificateParams::default(), rcgen::KeyPair::generate().unwrap());
    let csr = rustls_pki_types::CertificateSigningRequestDer::from(csr.to_vec());
    let mut request = rcgen::CertificateSigningRequestParams::from_der(&csr).unwrap();
    (request.params.not_before, request.params.not_after) =
        (rcgen::date_time_ymd(2026, 9, 1), rcgen::date_time_ymd(2026, 12, 1));
    request.signed_by(&ca).unwrap().pem()
}
