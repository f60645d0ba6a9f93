// SPDX-License-Identifier: Apache-2.0
//! What signs requests: an account's key (ES256, RFC 7518, 3.4), or the key that a CA handed out for an external account
//! (HS256, RFC 7518, 3.2); and the form that a signed request has (RFC 7515, 7.2.2).

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cap_core::issuer::ExternalAccount;
use cap_core::order::CaError;
use cap_core::secret::{ExposeSecret, SecretSlice};
use instant_acme::Error;
use serde::Serialize;

use crate::fault;

/// Octets of a coordinate on P-256.
const COORDINATE: usize = 32;

/// An account's private key.
pub(crate) struct AccountKey(EcdsaKeyPair);

/// An account's public key (RFC 7517), its members in the order of RFC 7638.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Jwk {
    crv: &'static str,
    kty: &'static str,
    x: String,
    y: String,
}

/// What a signature is over, beside the payload (RFC 8555, 6.2).
#[derive(Debug, Serialize)]
pub(crate) struct Header<'a> {
    alg: &'static str,
    #[serde(flatten)]
    signer: Signer<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    url: &'a str,
}

/// Whose signature it is.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signer<'a> {
    /// That of an account, by its URL; or of an external account, by what its CA calls it.
    Kid(&'a str),
    /// That of a key which the CA may not know.
    Jwk(&'a Jwk),
}

/// A flattened JWS.
#[derive(Debug, Serialize)]
pub(crate) struct Jws {
    protected: String,
    payload: String,
    signature: String,
}

impl AccountKey {
    /// # Errors
    /// When it is no P-256 key in PKCS #8.
    pub(crate) fn read(pkcs8: &SecretSlice<u8>) -> Result<Self, CaError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose_secret());
        pair.map(Self).map_err(|_| fault::unusable_key())
    }

    /// The public key, from the point in its uncompressed form (SEC 1, 2.3.3): a tag and both coordinates.
    pub(crate) fn jwk(&self) -> Jwk {
        let point = self.0.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(COORDINATE.min(point.len()));
        Jwk { crv: "P-256", kty: "EC", x: base64url(x), y: base64url(y) }
    }

    /// Signs `payload` for `url`; without a nonce where the signature travels inside another one's payload.
    pub(crate) fn sign(
        &self,
        signer: Signer<'_>,
        nonce: Option<&str>,
        url: &str,
        payload: &[u8],
    ) -> Result<Jws, Error> {
        Jws::made(&Header { alg: "ES256", signer, nonce, url }, payload, |input| {
            let signature = self.0.sign(&SystemRandom::new(), input).map_err(|_| Error::Crypto)?;
            Ok(signature.as_ref().to_vec())
        })
    }
}

/// Signs `payload` for `url` in the name of an external account (RFC 8555, 7.3.4).
pub(crate) fn sign_externally(external: &ExternalAccount, url: &str, payload: &[u8]) -> Result<Jws, Error> {
    let kid = external.kid.to_string();
    let header = Header { alg: "HS256", signer: Signer::Kid(&kid), nonce: None, url };
    let key = hmac::Key::new(hmac::HMAC_SHA256, external.hmac_key.expose_secret());
    Jws::made(&header, payload, |input| Ok(hmac::sign(&key, input).as_ref().to_vec()))
}

impl Jws {
    fn made(
        header: &Header<'_>,
        payload: &[u8],
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Error>,
    ) -> Result<Self, Error> {
        let (protected, payload) = (base64url(&serde_json::to_vec(header)?), base64url(payload));
        let signature = base64url(&sign(format!("{protected}.{payload}").as_bytes())?);
        Ok(Self { protected, payload, signature })
    }
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::{Value, json};

    use super::*;

    fn key() -> AccountKey {
        AccountKey::read(&cap_core::certificate::account_key().unwrap()).unwrap()
    }

    fn decoded(text: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn header(jws: &Jws) -> Value {
        serde_json::from_slice(&decoded(&jws.protected)).unwrap()
    }

    #[test]
    fn a_request_names_its_account_or_carries_its_key_and_is_signed_over_both_parts() {
        let key = key();
        let jwk = key.jwk();
        let by_account = key.sign(Signer::Kid("https://ca.test/a/1"), Some("n"), "https://ca.test/x", b"{}");
        let by_account = by_account.unwrap();
        let expected =
            json!({ "alg": "ES256", "kid": "https://ca.test/a/1", "nonce": "n", "url": "https://ca.test/x" });
        assert_eq!(header(&by_account), expected);
        let by_key = key.sign(Signer::Jwk(&jwk), None, "https://ca.test/x", b"").unwrap();
        assert_eq!(header(&by_key), json!({ "alg": "ES256", "jwk": jwk, "url": "https://ca.test/x" }));
        assert_eq!(by_key.payload, "", "what only reads has an empty payload (RFC 8555, 6.3)");

        let point = [vec![4], decoded(&jwk.x), decoded(&jwk.y)].concat();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        for jws in [by_account, by_key] {
            let input = format!("{}.{}", jws.protected, jws.payload);
            public.verify(input.as_bytes(), &decoded(&jws.signature)).unwrap();
            assert!(public.verify(format!("{input}x").as_bytes(), &decoded(&jws.signature)).is_err());
        }
    }

    #[test]
    fn an_external_account_vouches_with_the_key_that_its_ca_gave_it() {
        let hmac_key = std::sync::Arc::new(SecretSlice::from(vec![7_u8; 32]));
        let external = ExternalAccount { kid: "kid-1".parse().unwrap(), hmac_key };
        let jws = sign_externally(&external, "https://ca.test/new-account", b"{}").unwrap();
        let expected = json!({ "alg": "HS256", "kid": "kid-1", "url": "https://ca.test/new-account" });
        assert_eq!(header(&jws), expected);
        let input = format!("{}.{}", jws.protected, jws.payload);
        let mac = cap_core::secret::authenticate(&cap_core::secret::secret_key([7; 32]), input.as_bytes());
        assert_eq!(decoded(&jws.signature), mac);
    }

    #[test]
    fn what_is_no_account_key_is_a_matter_of_configuration() {
        let wrong = AccountKey::read(&SecretSlice::from(vec![1, 2, 3]));
        assert!(matches!(wrong, Err(CaError::Refused(problem)) if problem.kind == "account-key"));
    }
}
