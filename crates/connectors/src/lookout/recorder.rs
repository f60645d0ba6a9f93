// SPDX-License-Identifier: Apache-2.0
//! A verifier that verifies nothing: it takes down the leaf that a server presents.
//!
//! What is looked for is a certificate that should not be there: one that has expired, that another CA issued, that is for
//! another name. Each of them must be seen, so none is refused. Nothing is sent over such a connection and nothing that
//! comes over it is used, so there is nothing that a false server could gain.

use std::sync::{Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Takes down the leaf of one handshake.
#[derive(Debug)]
pub(super) struct Recorder {
    schemes: WebPkiSupportedAlgorithms,
    leaf: Mutex<Option<Vec<u8>>>,
}

impl Recorder {
    pub(super) fn new(schemes: WebPkiSupportedAlgorithms) -> Self {
        Self { schemes, leaf: Mutex::new(None) }
    }

    /// What was presented, if it came to that.
    pub(super) fn leaf(&self) -> Option<Vec<u8>> {
        self.leaf.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.supported_schemes()
    }
}
