// SPDX-License-Identifier: Apache-2.0
//! A CA that answers what it is told to: what no real one says when it is asked to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cap_acme::Acme;
use cap_core::order::{CaAccount, CaRequest, CertificateAuthority};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::bench::{acme, request};

/// What is answered to a POST: status, headers, body.
pub(crate) type Said = (u16, Vec<(&'static str, String)>, String);
/// Decides it, by the path.
pub(crate) type Script = fn(base: &str, path: &str) -> Said;

/// What a directory offers from the second time on that it is asked for.
pub(crate) const LATE_PROFILE: &str = "late";

/// The CA, and what was posted to it.
pub(crate) struct Stub {
    pub(crate) acme: Acme,
    pub(crate) request: CaRequest,
    pub(crate) account: Arc<dyn CaAccount>,
    pub(crate) base: String,
    asked: Arc<Asked>,
}

#[derive(Default)]
struct Asked {
    /// Paths and bodies.
    posts: Mutex<Vec<(String, Vec<u8>)>>,
    directories: AtomicUsize,
}

impl Stub {
    pub(crate) async fn start(script: Script) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let (acme, _) = acme();
        let chain = vec![certified.cert.der().clone()];
        let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Asked::default());
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), base.clone(), script, asked.clone()));
        let request = request(&format!("{base}/dir"), Some(&certified.cert.pem()));
        let account = acme.account(&request, &format!("{base}/account/1")).await.unwrap();
        Self { acme, request, account, base, asked }
    }

    /// What was posted to since the last time.
    pub(crate) fn posted(&self) -> Vec<String> {
        self.payloads().into_iter().map(|(path, _)| path).collect()
    }

    /// The same, with what was said.
    pub(crate) fn payloads(&self) -> Vec<(String, Value)> {
        let payload = |body: &[u8]| {
            let jws: Value = serde_json::from_slice(body).unwrap();
            let payload = BASE64_URL_SAFE_NO_PAD.decode(jws["payload"].as_str().unwrap()).unwrap();
            serde_json::from_slice(&payload).unwrap_or(Value::Null)
        };
        let posts = std::mem::take(&mut *self.asked.posts.lock().unwrap());
        posts.into_iter().map(|(path, body)| (path, payload(&body))).collect()
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    base: String,
    script: Script,
    asked: Arc<Asked>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, acceptor.clone(), base.clone(), script, asked.clone()));
    }
}

/// Answers one request after the other until the client leaves.
async fn converse(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    base: String,
    script: Script,
    asked: Arc<Asked>,
) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut read = Vec::new();
    loop {
        let end = loop {
            match read.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => more(&mut stream, &mut read).await?,
            }
        };
        let head = String::from_utf8(read[..end].to_vec()).ok()?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while read.len() < end + length {
            more(&mut stream, &mut read).await?;
        }
        let body = read[end..end + length].to_vec();
        read.drain(..end + length);
        let mut words = head.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let (status, headers, body) = match method {
            "head" => (200, vec![], String::new()),
            "get" => {
                let is_first = asked.directories.fetch_add(1, Ordering::Relaxed) == 0;
                (200, vec![], directory(&base, is_first))
            }
            _ => {
                asked.posts.lock().unwrap().push((path.to_owned(), body));
                script(&base, path)
            }
        };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} So\r\nreplay-nonce: bm9uY2U\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn more(stream: &mut (impl AsyncReadExt + Unpin), read: &mut Vec<u8>) -> Option<()> {
    (stream.read_buf(read).await.ok()? > 0).then_some(())
}

fn directory(base: &str, is_first: bool) -> String {
    let profiles = if is_first { String::new() } else { format!(r#""{LATE_PROFILE}":"new""#) };
    format!(
        r#"{{"newNonce":"{base}/nonce","newAccount":"{base}/new-account","newOrder":"{base}/new-order","renewalInfo":"{base}/info",
            "meta":{{"profiles":{{{profiles}}}}}}}"#
    )
}
