// SPDX-License-Identifier: Apache-2.0
//! External account bindings: read as CAs hand them out, sealed, and never shown again.

use cap_client::wire::SecretText;
use cap_core::envelope::Slot;
use cap_core::id::{IssuerId, ProjectId};
use cap_core::issuer::{BadIssuer, hmac_key};
use cap_core::secret::ExposeSecret;
use cap_store::{ExternalRecord, IssuerRecord};

use crate::app::App;
use crate::problem::{ApiError, CONFLICT};

/// The binding of a new issuer: both parts of it, or neither.
pub(super) async fn read(
    app: &App,
    issuer: (ProjectId, IssuerId),
    kid: Option<String>,
    key: Option<SecretText>,
) -> Result<Option<ExternalRecord>, ApiError> {
    match (kid, key) {
        (None, None) => Ok(None),
        (Some(kid), Some(key)) => sealed(app, issuer, &kid, &key).await.map(Some),
        _ => Err(ApiError::invalid(BadIssuer::HalfABinding)),
    }
}

/// What a change makes of it: nothing where it is not spoken of, and null in either place clears both.
pub(super) async fn change(
    app: &App,
    issuer: &IssuerRecord,
    kid: Option<Option<String>>,
    key: Option<Option<SecretText>>,
) -> Result<Option<Option<ExternalRecord>>, ApiError> {
    let change = match (kid, key) {
        (None, None) => return Ok(None),
        (Some(Some(kid)), Some(Some(key))) => {
            Some(sealed(app, (issuer.project, issuer.id), &kid, &key).await?)
        }
        (Some(None) | None, Some(None)) | (Some(None), None) => None,
        _ => return Err(ApiError::invalid(BadIssuer::HalfABinding)),
    };
    if issuer.keeps_binding() {
        let detail = format!(
            "the account of issuer {} is registered, and a binding is made when it is (RFC 8555, 7.3.4); make a new issuer \
             for another one",
            issuer.name
        );
        return Err(ApiError::new(CONFLICT, detail));
    }
    Ok(Some(change))
}

async fn sealed(
    app: &App,
    (project, issuer): (ProjectId, IssuerId),
    kid: &str,
    key: &SecretText,
) -> Result<ExternalRecord, ApiError> {
    let kid = kid.parse().map_err(ApiError::invalid)?;
    let key = hmac_key(key.secret()).map_err(ApiError::invalid)?;
    let slot = Slot::eab_hmac_key(project, issuer);
    let hmac_key = app.keyring.seal(&slot, key.expose_secret()).await?;
    Ok(ExternalRecord { kid, hmac_key })
}
