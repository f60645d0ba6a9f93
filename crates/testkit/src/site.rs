// SPDX-License-Identifier: Apache-2.0
//! A TLS server that serves whatever certificate it was told to load, counts who comes, and says nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How long a connection may last: nobody who only looks stays longer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);

/// A TLS server on loopback. It ends when dropped.
#[derive(Debug)]
pub struct Site {
    address: SocketAddr,
    loaded: Arc<Loaded>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Loaded(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Loaded {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Site {
    /// A server that has loaded nothing yet: it accepts, and fails every handshake.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening for a site")?;
        let address = listener.local_addr()?;
        let (loaded, connections) = (Arc::<Loaded>::default(), Arc::<AtomicUsize>::default());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(loaded.clone());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(tokio::time::timeout(CONNECTION_LIMIT, async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                    }
                }));
            }
        });
        Ok(Self { address, loaded, connections, task })
    }

    /// Serves this certificate from now on.
    ///
    /// # Errors
    /// When chain or key cannot be read.
    pub fn load(&self, chain_pem: &str, key_pem: &str) -> anyhow::Result<()> {
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).context("reading the key")?;
        self.put(chain.context("reading the chain")?, &key)
    }

    /// Serves a certificate for this name that nobody issued.
    ///
    /// # Errors
    /// When none can be made.
    pub fn load_foreign(&self, name: &str) -> anyhow::Result<()> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])?.self_signed(&key)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        self.put(vec![certificate.der().clone()], &key)
    }

    fn put(&self, chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> anyhow::Result<()> {
        let key = CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(key)?);
        *self.loaded.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often somebody came.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}
