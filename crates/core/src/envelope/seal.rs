// SPDX-License-Identifier: Apache-2.0
//! Seal and open: AES-256-GCM under keys derived for one write each, with a commitment to the key.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use hkdf::Hkdf;
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy};
use crate::secret::{self, SecretKey};

/// Sets the keys that seal secrets apart from those derived for any other use.
const SECRET_LABEL: &[u8] = b"cap/secret/v1";
/// Sets the keys that wrap other keys apart.
const WRAP_LABEL: &[u8] = b"cap/wrap/v1";
/// The version of the format below.
const FORMAT: u8 = 1;

/// A sealed secret as it is stored: 80 bytes longer than what it hides, and the name of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The version of this format.
    pub v: u8,
    /// Which key; the version of it.
    pub pk_id: String,
    /// The version of the key.
    pub pk_ver: u32,
    /// What the write's own key was derived with: 32 random bytes.
    #[serde(with = "serde_bytes")]
    pub info: Vec<u8>,
    /// A commitment to the derived key: 32 bytes.
    #[serde(with = "serde_bytes")]
    pub commit: Vec<u8>,
    /// The ciphertext and its tag.
    #[serde(with = "serde_bytes")]
    pub ct: Vec<u8>,
}

/// A ciphertext that does not open: the wrong key, the wrong place, or changed bytes. It does not say which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not open under its key: it was changed, moved, or sealed under another key")]
pub struct CannotOpen;

/// What one write derives from its project key.
struct Derived {
    cipher: Aes256Gcm,
    nonce: [u8; 12],
    commitment: [u8; 32],
}

/// Seals `secret` under `key`, named `pk_id` and `pk_ver`, bound to `associated_data`.
pub fn seal(
    key: &SecretKey,
    (pk_id, pk_ver): (String, u32),
    associated_data: &[u8],
    secret: &[u8],
    entropy: &dyn Entropy,
) -> Sealed {
    let info = entropy::bytes::<32>(entropy);
    let derived = derive(key, SECRET_LABEL, &info);
    let ct = derived.encrypt(associated_data, secret);
    Sealed { v: FORMAT, pk_id, pk_ver, info: info.to_vec(), commit: derived.commitment.to_vec(), ct }
}

/// Opens what [`seal`] sealed; the commitment is compared first, in constant time.
///
/// # Errors
/// When the key, the associated data or any byte is not what it was.
pub fn open(key: &SecretKey, associated_data: &[u8], sealed: &Sealed) -> Result<SecretSlice<u8>, CannotOpen> {
    if sealed.v != FORMAT {
        return Err(CannotOpen);
    }
    let derived = derive(key, SECRET_LABEL, &sealed.info);
    Ok(SecretSlice::from(derived.decrypt(associated_data, &sealed.commit, &sealed.ct)?))
}

/// Wraps one key under another, for KEK providers that hold their key in memory: info, commitment and ciphertext
/// in one string of 112 bytes.
pub fn wrap_key(kek: &SecretKey, associated_data: &[u8], key: &SecretKey, entropy: &dyn Entropy) -> Vec<u8> {
    let info = entropy::bytes::<32>(entropy);
    let derived = derive(kek, WRAP_LABEL, &info);
    let ct = derived.encrypt(associated_data, key.expose_secret());
    [info.as_slice(), &derived.commitment, &ct].concat()
}

/// Unwraps what [`wrap_key`] wrapped.
///
/// # Errors
/// When the KEK, the associated data or any byte is not what it was.
pub fn unwrap_key(kek: &SecretKey, associated_data: &[u8], wrapped: &[u8]) -> Result<SecretKey, CannotOpen> {
    let (info, rest) = wrapped.split_at_checked(32).ok_or(CannotOpen)?;
    let (commitment, ct) = rest.split_at_checked(32).ok_or(CannotOpen)?;
    let key = Zeroizing::new(derive(kek, WRAP_LABEL, info).decrypt(associated_data, commitment, ct)?);
    let key: [u8; 32] = key.as_slice().try_into().map_err(|_| CannotOpen)?;
    Ok(secret::secret_key(key))
}

impl Derived {
    fn encrypt(&self, associated_data: &[u8], secret: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: secret, aad: associated_data };
        #[expect(
            clippy::expect_used,
            reason = "AES-GCM only fails beyond 64 GiB; what we seal is bounded far below"
        )]
        self.cipher.encrypt(&self.nonce.into(), payload).expect("the secret is shorter than 64 GiB")
    }

    fn decrypt(&self, associated_data: &[u8], commitment: &[u8], ct: &[u8]) -> Result<Vec<u8>, CannotOpen> {
        if !secret::equal(&self.commitment, commitment) {
            return Err(CannotOpen);
        }
        let payload = Payload { msg: ct, aad: associated_data };
        self.cipher.decrypt(&self.nonce.into(), payload).map_err(|_| CannotOpen)
    }
}

/// HKDF-SHA256-Expand (RFC 5869, 2.3) of the key, which is uniform already, to 76 bytes: key, nonce, commitment.
fn derive(key: &SecretKey, label: &[u8], info: &[u8]) -> Derived {
    let mut okm = Zeroizing::new([0_u8; 76]);
    #[expect(
        clippy::expect_used,
        reason = "a 32-byte PRK and 76 bytes of output are within the bounds of HKDF-SHA256"
    )]
    Hkdf::<Sha256>::from_prk(key.expose_secret())
        .expect("32 bytes are a PRK")
        .expand_multi_info(&[label, info], okm.as_mut_slice())
        .expect("76 bytes are within HKDF's reach");
    let (mut nonce, mut commitment) = ([0; 12], [0; 32]);
    nonce.copy_from_slice(&okm[32..44]);
    commitment.copy_from_slice(&okm[44..]);
    #[expect(clippy::expect_used, reason = "the slice is 32 bytes long")]
    let cipher = Aes256Gcm::new_from_slice(&okm[..32]).expect("32 bytes are an AES-256 key");
    Derived { cipher, nonce, commitment }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::tests::Seeded;
    use crate::secret::secret_key;

    const PLACE: &[u8] = b"this field of this record";

    fn sealed(secret: &[u8]) -> Sealed {
        seal(&secret_key([7; 32]), ("prj_x/secrets".into(), 1), PLACE, secret, &Seeded::new(1))
    }

    #[test]
    fn what_is_sealed_opens_and_is_eighty_bytes_longer() {
        for length in [0, 1, 32, 4096] {
            let secret = vec![5; length];
            let sealed = sealed(&secret);
            assert_eq!(sealed.info.len() + sealed.commit.len() + sealed.ct.len(), length + 80);
            assert_eq!(open(&secret_key([7; 32]), PLACE, &sealed).unwrap().expose_secret(), secret);
        }
    }

    #[test]
    fn another_key_another_place_or_one_changed_bit_does_not_open() {
        let good = sealed(b"secret");
        assert!(open(&secret_key([8; 32]), PLACE, &good).is_err());
        assert!(open(&secret_key([7; 32]), b"elsewhere", &good).is_err());
        let parts: [fn(&mut Sealed) -> &mut Vec<u8>; 3] = [|s| &mut s.info, |s| &mut s.commit, |s| &mut s.ct];
        for part in parts {
            for at in 0..part(&mut good.clone()).len() {
                let mut changed = good.clone();
                part(&mut changed)[at] ^= 1;
                assert!(open(&secret_key([7; 32]), PLACE, &changed).is_err());
            }
        }
        assert!(open(&secret_key([7; 32]), PLACE, &Sealed { v: 2, ..good }).is_err());
    }

    #[test]
    fn a_wrapped_key_unwraps_under_its_kek_and_in_its_place_only() {
        let (kek, luck) = (secret_key([1; 32]), Seeded::new(2));
        let wrapped = wrap_key(&kek, PLACE, &secret_key([9; 32]), &luck);
        assert_eq!(unwrap_key(&kek, PLACE, &wrapped).unwrap().expose_secret(), &[9; 32]);
        assert!(unwrap_key(&secret_key([2; 32]), PLACE, &wrapped).is_err());
        assert!(unwrap_key(&kek, b"elsewhere", &wrapped).is_err());
        for cut in 0..wrapped.len() {
            assert!(unwrap_key(&kek, PLACE, &wrapped[..cut]).is_err());
        }
    }

    #[test]
    fn two_writes_of_one_secret_share_nothing() {
        let luck = Seeded::new(3);
        let key = secret_key([7; 32]);
        let one = seal(&key, ("k".into(), 1), PLACE, b"secret", &luck);
        let two = seal(&key, ("k".into(), 1), PLACE, b"secret", &luck);
        assert_ne!(one.info, two.info);
        assert_ne!(one.commit, two.commit);
        assert_ne!(one.ct, two.ct);
    }
}
