// SPDX-License-Identifier: Apache-2.0
//! A fake API for moments that the real one cannot be held in: it answers each request by its first line, and keeps those.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::run::Cli;

/// A fake API, and the program that asks it, about the project `demo`.
pub(crate) struct FakeApi {
    pub(crate) cli: Cli,
    seen: Arc<Mutex<Vec<String>>>,
}

impl FakeApi {
    /// Answers with the status and body that `answer` has for a method and a path with its query.
    pub(crate) async fn answering(answer: impl Fn(&str) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(asked) = first_line(&mut stream).await else { continue };
                let (status, body) = answer(&asked);
                keep.lock().unwrap().push(asked);
                let body = body.to_string();
                let kind = if status < 400 { "application/json" } else { "application/problem+json" };
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { cli: Cli::bare().with("CAP_API_URL", url).with("CAP_TOKEN", "none"), seen }
    }

    /// The requests so far that begin so.
    pub(crate) fn seen(&self, begin: &str) -> Vec<String> {
        self.seen.lock().unwrap().iter().filter(|asked| asked.starts_with(begin)).cloned().collect()
    }
}

/// The method and the path of a request, once its head is there; its body is of no interest.
async fn first_line(stream: &mut TcpStream) -> Option<String> {
    let (mut text, mut chunk) = (String::new(), [0; 4096]);
    while !text.contains("\r\n\r\n") {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
    Some(text.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned())
}

/// A refusal.
pub(crate) fn problem(status: u16, detail: &str) -> (u16, Value) {
    (status, json!({ "type": "about:blank", "title": "No", "status": status, "detail": detail }))
}

/// An id of this kind.
pub(crate) fn id(kind: &str, n: u32) -> String {
    format!("{kind}_{n:032x}")
}

/// A certificate that is valid.
pub(crate) fn certificate(n: u32) -> Value {
    let (from, to) = ("2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z");
    json!({
        "id": id("crt", n), "project": id("prj", 1), "names": [format!("n{n}.example.test")],
        "display_names": [format!("n{n}.example.test")], "issuer": id("iss", 1), "key": { "type": "ecdsa-p256" },
        "challenge": "http-01", "auto_renew": true, "status": "valid", "created_at": from, "updated_at": from,
        "version": {
            "id": id("ver", n), "number": 1, "serial": "0a", "fingerprint_sha256": "ff", "not_before": from, "not_after": to,
            "issued_at": from,
        },
    })
}

/// A job for a certificate.
pub(crate) fn job(n: u32, kind: &str, state: &str) -> Value {
    json!({
        "id": id("job", n), "project": id("prj", 1), "kind": kind, "certificate": id("crt", n), "state": state,
        "attempt": 1, "created_at": "2026-01-01T00:00:00Z",
    })
}
