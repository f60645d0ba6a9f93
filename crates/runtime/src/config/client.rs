// SPDX-License-Identifier: Apache-2.0
//! What a client of the API is told.

use std::path::PathBuf;

use secrecy::SecretString;

use super::{Config, Group, api::base_url};

/// What a client of the API is told; each part may come from elsewhere instead.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The API: a scheme, a host, no slash at the end.
    pub api_url: Option<String>,
    /// The bearer token.
    pub token: Option<SecretString>,
    /// CA certificates to trust beside the built-in ones.
    pub ca_file: Option<PathBuf>,
}

impl Group for ClientConfig {
    fn read(config: &mut Config) -> Option<Self> {
        let api_url = config.parse("CAP_API_URL", "write it like https://certs.example.test", base_url);
        if api_url.is_none() && config.is_given("CAP_API_URL") {
            return None;
        }
        Some(Self { api_url, token: config.secret("CAP_TOKEN"), ca_file: config.path("CAP_CA_FILE") })
    }
}
