// SPDX-License-Identifier: Apache-2.0
//! The key of a certificate's next version: the current one's where that is wanted and may be, else a new one. RSA keys are
//! made in threads of their own, few at once: a worker that makes them still answers, extends its leases and talks to CAs.

use cap_core::certificate::{CannotMakeKey, KeyMaterial, KeyType, Names};
use cap_core::envelope::Slot;
use cap_core::limits;
use cap_core::secret::SecretSlice;
use cap_store::CertificateRecord;
use tokio::sync::Semaphore;

use super::{Trouble, World};

/// The turns of those whose keys take long to make.
static SLOW: Semaphore = Semaphore::const_new(limits::SLOW_KEYS);

/// A key and what goes to the CA.
pub(super) struct Made {
    pub(super) material: KeyMaterial,
    /// Whether it is the key of the version before.
    pub(super) kept: bool,
}

/// The key for the next version of a certificate. May be given up at any moment.
pub(super) async fn make(world: &World, certificate: &CertificateRecord) -> Result<Made, Trouble> {
    let (key_type, names) = (certificate.spec.key_type, certificate.spec.names.clone());
    let current = current(world, certificate).await?;
    if !key_type.is_slow() {
        return Ok(made(key_type, current.as_ref(), &names)?);
    }
    // Never closed, so that there is always a turn; it goes along into the thread, which nobody can stop.
    let turn = SLOW.acquire().await.ok();
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        made(key_type, current.as_ref(), &names)
    });
    match made.await {
        Ok(made) => Ok(made?),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        // The runtime ends, and this task with it.
        Err(_) => std::future::pending().await,
    }
}

fn made(key_type: KeyType, current: Option<&SecretSlice<u8>>, names: &Names) -> Result<Made, CannotMakeKey> {
    let names = names.identifiers();
    let kept = current.map(|key| KeyMaterial::keeping(key, key_type, names)).transpose()?.flatten();
    if let Some(material) = kept {
        return Ok(Made { material, kept: true });
    }
    Ok(Made { material: KeyMaterial::generate(key_type, names)?, kept: false })
}

/// The current version's key, where the next one shall have it.
async fn current(world: &World, certificate: &CertificateRecord) -> Result<Option<SecretSlice<u8>>, Trouble> {
    let Some(version) = &certificate.version else { return Ok(None) };
    if !certificate.keeps_key() {
        return Ok(None);
    }
    let Some((_, sealed)) = world.store.version_material(version.id).await? else { return Ok(None) };
    let slot = Slot::version_key(certificate.project, version.id);
    let key = world.keyring.open(&slot, &sealed).await?;
    Ok(Some(key))
}
