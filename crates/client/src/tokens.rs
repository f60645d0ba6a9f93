// SPDX-License-Identifier: Apache-2.0
//! Tokens.

use cap_core::id::TokenId;
use cap_core::page::Slice;
use reqwest::Method;

use crate::error::ClientError;
use crate::pages::PageQuery;
use crate::transport::Client;
use crate::wire::{CreateToken, CreatedToken, Token};

impl Client {
    /// Makes a token. The answer is the only time that it is shown: if it is lost on the way the API cannot show it
    /// again, and the call ends in a conflict.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn create_token(&self, body: &CreateToken) -> Result<CreatedToken, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "tokens"])?.json(body);
        self.exchange(request).await?.json()
    }

    /// A page of the tokens' records.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn tokens(&self, query: &PageQuery) -> Result<Slice<Token>, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "tokens"])?.query(query);
        self.exchange(request).await?.json()
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn revoke_token(&self, id: TokenId) -> Result<(), ClientError> {
        let id = id.to_string();
        let request = self.request(Method::DELETE, &["api", "v1", "tokens", &id])?;
        self.exchange(request).await?.success().map(drop)
    }
}
