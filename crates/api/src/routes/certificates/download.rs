// SPDX-License-Identifier: Apache-2.0
//! `GET .../certificates/{c}/download?format=`: the current version, as PEM.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::envelope::Slot;
use cap_core::secret::ExposeSecret;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Params};
use crate::problem::{ApiError, CONFLICT};

/// What is wanted of the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// The leaf and what leads to the root.
    #[default]
    Fullchain,
    /// What leads to the root, without the leaf.
    Chain,
    /// The leaf alone.
    Leaf,
    /// The private key, PKCS #8.
    Key,
}

/// The query parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Download {
    #[serde(default)]
    format: Format,
}

pub(super) async fn download(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, id)): At<(String, String)>,
    Params(Download { format }): Params<Download>,
) -> Result<Response, ApiError> {
    let action = if format == Format::Key { Action::OperateProject } else { Action::ReadProject };
    let project = app.project(&caller, &project, action).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    let not_yet =
        || ApiError::new(CONFLICT, "nothing was issued for it yet; its status and problem say how far it is");
    let version = certificate.version.ok_or_else(not_yet)?;
    let material = app.store.version_material(version.id).await?;
    let (chain, sealed) =
        material.ok_or_else(|| ApiError::internal(format!("version {} is gone", version.id)))?;
    let body = match format {
        Format::Fullchain => chain,
        Format::Leaf => split(&chain)?.0,
        Format::Chain => split(&chain)?.1,
        Format::Key => {
            let slot = Slot::version_key(project, version.id);
            let key = app.keyring.open(&slot, &sealed).await?;
            let draft = Draft::new(audit::Action::CertificateKeyExported, Some(project), certificate.id)
                .detail("version", version.id.to_string());
            // Recorded before the key leaves: no entry, no key.
            app.store.record(&app.audit(&caller, &draft).await?).await?;
            pem::encode_config(&pem::Pem::new("PRIVATE KEY", key.expose_secret()), lines())
        }
    };
    let headers = [(header::CONTENT_TYPE, "application/x-pem-file"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// The leaf, and the rest of the chain.
fn split(chain: &str) -> Result<(String, String), ApiError> {
    let blocks = pem::parse_many(chain).map_err(ApiError::internal)?;
    let (leaf, rest) = blocks.split_first().ok_or_else(|| ApiError::internal("a stored chain is empty"))?;
    Ok((pem::encode_config(leaf, lines()), pem::encode_many_config(rest, lines())))
}

/// Line ends as the CA sends them, so that leaf and chain together are the full chain, byte for byte.
fn lines() -> pem::EncodeConfig {
    pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF)
}
