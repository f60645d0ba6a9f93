// SPDX-License-Identifier: Apache-2.0
//! A fake API for what the real one cannot be made to do: it plays back answers, octet by octet, one a connection,
//! and keeps the requests that it saw.

use std::sync::{Arc, Mutex};

use cap_client::Client;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A fake API that is listening.
pub(crate) struct FakeApi {
    /// A client of it, without a token unless a test gives it one.
    pub(crate) client: Client,
    seen: Arc<Mutex<Vec<String>>>,
}

impl FakeApi {
    /// Plays `answers` back in order; behind the last one it hangs up on everybody.
    pub(crate) async fn playing(answers: Vec<Vec<u8>>) -> Self {
        Self::playing_to(None, answers).await
    }

    /// The same for a client that has a token.
    pub(crate) async fn playing_to(token: Option<&str>, answers: Vec<Vec<u8>>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = request(&mut stream).await;
                keep.lock().unwrap().push(request);
                // A client that had enough hangs up before a long answer is out.
                let _ = stream.write_all(&answers.next().unwrap_or_default()).await;
                let _ = stream.shutdown().await;
            }
        });
        let token = token.map(|token| SecretString::from(token.to_owned()));
        Self { client: Client::new(&url, token.as_ref(), None).unwrap(), seen }
    }

    /// The requests so far, head and body.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// An answer with a JSON body.
pub(crate) fn json(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}")
        .into_bytes()
}

async fn request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await.unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "the request ended within its head: {text}");
            continue;
        };
        if read == 0
            || body.len() >= header(head, "content-length").map_or(0, |length| length.parse().unwrap())
        {
            return text;
        }
    }
}

/// A header of a request that was seen.
pub(crate) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}
