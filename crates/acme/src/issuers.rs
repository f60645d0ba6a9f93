// SPDX-License-Identifier: Apache-2.0
//! What is kept of each issuer from call to call: its connections with their nonces, and its restored account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cap_core::id::IssuerId;
use cap_core::issuer::IssuerSpec;
use cap_core::order::{CaError, CaRequest};
use cap_core::secret::{self, ExposeSecret, SecretSlice};

use crate::account::AcmeAccount;
use crate::http::Http;

/// Issuers kept at most; beyond it the collection starts anew, which costs each issuer a handshake and a directory.
const ISSUERS: usize = 1_000;
/// How long a restored account is used: with it goes the CA's directory, so a CA that moves an endpoint is followed.
const ACCOUNT_LIFE: Duration = Duration::from_secs(3_600);

/// The issuers in use. An issuer whose settings change starts anew.
#[derive(Default)]
pub(crate) struct Issuers(Mutex<HashMap<IssuerId, Issuer>>);

struct Issuer {
    spec: IssuerSpec,
    http: Arc<Http>,
    account: Option<Restored>,
}

struct Restored {
    url: String,
    key: Arc<SecretSlice<u8>>,
    /// On the boot clock.
    at: Duration,
    account: Arc<AcmeAccount>,
}

impl Issuers {
    /// The issuer's connections, opened by `open` unless they are there.
    pub(crate) fn http(
        &self,
        request: &CaRequest,
        open: impl FnOnce() -> Result<Http, CaError>,
    ) -> Result<Arc<Http>, CaError> {
        let mut issuers = self.lock();
        if let Some(issuer) = issuers.get(&request.issuer)
            && issuer.spec == request.spec
        {
            return Ok(issuer.http.clone());
        }
        let issuer = Issuer { spec: request.spec.clone(), http: Arc::new(open()?), account: None };
        let http = issuer.http.clone();
        if issuers.len() >= ISSUERS {
            issuers.clear();
        }
        issuers.insert(request.issuer, issuer);
        Ok(http)
    }

    /// The restored account, if it is the one asked for and young enough at `now` on the boot clock.
    pub(crate) fn account(&self, request: &CaRequest, url: &str, now: Duration) -> Option<Arc<AcmeAccount>> {
        let issuers = self.lock();
        let issuer = issuers.get(&request.issuer)?;
        let kept = issuer.account.as_ref()?;
        let same = issuer.spec == request.spec && kept.url == url && kept.has_key(&request.account_key);
        (same && now.saturating_sub(kept.at) < ACCOUNT_LIFE).then(|| kept.account.clone())
    }

    /// Keeps a restored account, unless the issuer's settings changed meanwhile.
    pub(crate) fn keep(&self, request: &CaRequest, url: &str, at: Duration, account: Arc<AcmeAccount>) {
        if let Some(issuer) = self.lock().get_mut(&request.issuer)
            && issuer.spec == request.spec
        {
            let (url, key) = (url.to_owned(), request.account_key.clone());
            issuer.account = Some(Restored { url, key, at, account });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IssuerId, Issuer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Restored {
    fn has_key(&self, key: &SecretSlice<u8>) -> bool {
        secret::equal(self.key.expose_secret(), key.expose_secret())
    }
}
