// SPDX-License-Identifier: Apache-2.0
//! The lookout: connects by TLS to what a name leads to and takes down the certificate that is presented.
//!
//! It says hello, reads the server's certificate and goes. No data of any application is sent, and nothing that the server
//! sends is believed: the certificate is compared, not trusted.

mod recorder;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cap_core::drift::{Look, Lookout, Seen};
use cap_core::limits::{DRIFT_ADDRESSES, DRIFT_LOOK};
use cap_core::outbound::Outbound;
use futures_util::future::join_all;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::outbound::{Filter, SystemResolver};
use recorder::Recorder;

/// How long the goodbye may take: nobody waits for it but the server's log.
const GOODBYE: Duration = Duration::from_millis(200);

/// A lookout over TCP and TLS.
#[derive(Debug)]
pub struct TlsLookout {
    filter: Filter,
    provider: Arc<CryptoProvider>,
    bound: Duration,
}

impl TlsLookout {
    /// A lookout that connects to what `rule` allows, and nowhere else.
    #[must_use]
    pub fn new(rule: Outbound) -> Self {
        let filter = Filter::new(rule, Box::new(SystemResolver::new()));
        Self { filter, provider: Arc::new(aws_lc_rs::default_provider()), bound: DRIFT_LOOK }
    }

    async fn look_at(&self, address: SocketAddr, server_name: &str, deadline: Instant) -> Seen {
        let leaf = self.leaf(address, server_name, deadline).await;
        Seen { address: Some(address), leaf }
    }

    async fn leaf(
        &self,
        address: SocketAddr,
        server_name: &str,
        deadline: Instant,
    ) -> Result<Vec<u8>, String> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| format!("no server can be asked for {server_name}"))?;
        let recorder = Arc::new(Recorder::new(self.provider.signature_verification_algorithms));
        let connector = self.connector(recorder.clone())?;
        let late = |what: &str| format!("{what} within {} s", self.bound.as_secs_f32());
        let connected = timeout_at(deadline, TcpStream::connect(address)).await;
        let stream = connected
            .map_err(|_| late("it took no connection"))?
            .map_err(|error| format!("no connection: {error}"))?;
        let shaken = timeout_at(deadline, connector.connect(name, stream)).await;
        // A server that goes on to ask for a certificate of ours has shown its own by then.
        let recorded = recorder.leaf();
        match (shaken, recorded) {
            (Ok(Ok(mut stream)), Some(leaf)) => {
                let _ = tokio::time::timeout(GOODBYE, stream.shutdown()).await;
                Ok(leaf)
            }
            (_, Some(leaf)) => Ok(leaf),
            (Ok(Ok(_)), None) => Err("it presented no certificate".to_owned()),
            (Ok(Err(error)), None) => Err(format!("the TLS handshake failed: {error}")),
            (Err(_), None) => Err(late("it did not shake hands by TLS")),
        }
    }

    fn connector(&self, recorder: Arc<Recorder>) -> Result<TlsConnector, String> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(recorder).with_no_client_auth();
        // A session that is resumed shows no certificate.
        config.resumption = Resumption::disabled();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

#[async_trait]
impl Lookout for TlsLookout {
    async fn look(&self, look: &Look) -> Vec<Seen> {
        let deadline = Instant::now() + self.bound;
        let addresses = match timeout_at(deadline, self.filter.addresses(&look.host, look.port)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(why)) => return vec![Seen { address: None, leaf: Err(why) }],
            Err(_) => {
                let why = format!("the DNS did not answer within {} s", self.bound.as_secs_f32());
                return vec![Seen { address: None, leaf: Err(why) }];
            }
        };
        let at_once = addresses.into_iter().take(DRIFT_ADDRESSES);
        join_all(at_once.map(|address| self.look_at(address, &look.server_name, deadline))).await
    }
}

#[cfg(test)]
mod tests;
