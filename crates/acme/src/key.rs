// SPDX-License-Identifier: Apache-2.0
//! What signs requests: an account's key (ES256, RFC 7518, 3.4), that of a certificate which is to be revoked (ES256, ES384 or
//! RS256, RFC 7518, 3.3), or the key that a CA handed out for an external account (HS256, RFC 7518, 3.2); and the form that a
//! signed request has (RFC 7515, 7.2.2).

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cap_core::issuer::ExternalAccount;
use cap_core::order::CaError;
use cap_core::secret::{ExposeSecret, SecretSlice};
use instant_acme::Error;
use serde::Serialize;

use crate::fault;

/// A private key that signs requests.
pub(crate) enum SigningKey {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

/// A public key (RFC 7517), its members in the order of RFC 7638.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Jwk {
    Elliptic { crv: &'static str, kty: &'static str, x: String, y: String },
    Rsa { e: String, kty: &'static str, n: String },
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

impl SigningKey {
    /// # Errors
    /// When it is no P-256 key in PKCS #8.
    pub(crate) fn of_account(pkcs8: &SecretSlice<u8>) -> Result<Self, CaError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose_secret());
        pair.map(Self::P256).map_err(|_| fault::unusable_key())
    }

    /// # Errors
    /// When it is none of the keys that certificates have, in PKCS #8.
    pub(crate) fn of_certificate(pkcs8: &SecretSlice<u8>) -> Result<Self, CaError> {
        let pkcs8 = pkcs8.expose_secret();
        let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Self::P256);
        let p384 = |_| EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8).map(Self::P384);
        let rsa = |_| rsa::KeyPair::from_pkcs8(pkcs8).map(Self::Rsa);
        p256.or_else(p384).or_else(rsa).map_err(|_| fault::unusable_certificate_key())
    }

    /// The public key.
    pub(crate) fn jwk(&self) -> Jwk {
        match self {
            Self::P256(pair) => elliptic("P-256", pair),
            Self::P384(pair) => elliptic("P-384", pair),
            Self::Rsa(pair) => Jwk::Rsa {
                e: base64url(pair.public_key().exponent().big_endian_without_leading_zero()),
                kty: "RSA",
                n: base64url(pair.public_key().modulus().big_endian_without_leading_zero()),
            },
        }
    }

    /// Signs `payload` for `url`; without a nonce where the signature travels inside another one's payload.
    pub(crate) fn sign(
        &self,
        signer: Signer<'_>,
        nonce: Option<&str>,
        url: &str,
        payload: &[u8],
    ) -> Result<Jws, Error> {
        let alg = match self {
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Rsa(_) => "RS256",
        };
        Jws::made(&Header { alg, signer, nonce, url }, payload, |input| {
            self.signature(input).map_err(|_| Error::Crypto)
        })
    }

    fn signature(&self, input: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) | Self::P384(pair) => Ok(pair.sign(&random, input)?.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, input, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

/// From the point in its uncompressed form (SEC 1, 2.3.3): a tag and both coordinates.
fn elliptic(crv: &'static str, pair: &EcdsaKeyPair) -> Jwk {
    let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
    let (x, y) = point.split_at(point.len() / 2);
    Jwk::Elliptic { crv, kty: "EC", x: base64url(x), y: base64url(y) }
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
    use cap_core::certificate::{KeyMaterial, KeyType};
    use serde_json::{Value, json};

    use super::*;

    fn key() -> SigningKey {
        SigningKey::of_account(&cap_core::certificate::account_key().unwrap()).unwrap()
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

        let Jwk::Elliptic { x, y, .. } = &jwk else { panic!("an account's key is on a curve") };
        let point = [vec![4], decoded(x), decoded(y)].concat();
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
        let wrong = SigningKey::of_account(&SecretSlice::from(vec![1, 2, 3]));
        assert!(matches!(wrong, Err(CaError::Refused(problem)) if problem.kind == "account-key"));
    }

    /// Whether a signature is good is for the CA of the tests to say; here is what it says of itself.
    #[test]
    fn the_key_of_any_certificate_signs_in_its_own_way_and_no_other_key_does() {
        let names = ["a.example.test".parse().unwrap()];
        for key_type in KeyType::ALL {
            let made = KeyMaterial::generate(key_type, &names).unwrap();
            let key = SigningKey::of_certificate(&made.pkcs8).unwrap();
            let jwk = key.jwk();
            let jws = key.sign(Signer::Jwk(&jwk), Some("n"), "https://ca.test/x", b"{}").unwrap();
            let (alg, kty, octets) = match key_type {
                KeyType::EcdsaP256 => ("ES256", "EC", 64),
                KeyType::EcdsaP384 => ("ES384", "EC", 96),
                KeyType::Rsa2048 => ("RS256", "RSA", 256),
                KeyType::Rsa3072 => ("RS256", "RSA", 384),
                KeyType::Rsa4096 => ("RS256", "RSA", 512),
            };
            let header = header(&jws);
            assert_eq!((&header["alg"], &header["jwk"]["kty"]), (&json!(alg), &json!(kty)));
            assert_eq!(decoded(&jws.signature).len(), octets, "{alg}");
            if let Jwk::Rsa { e, n, .. } = jwk {
                assert_eq!((decoded(&e), decoded(&n).len()), (vec![1, 0, 1], octets));
            }
        }
        let wrong = SigningKey::of_certificate(&SecretSlice::from(vec![1, 2, 3]));
        assert!(matches!(wrong, Err(CaError::Refused(problem)) if problem.kind == "certificate-key"));
    }
}
