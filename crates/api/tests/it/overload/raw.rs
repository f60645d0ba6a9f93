// SPDX-License-Identifier: Apache-2.0
//! Requests whose body waits until it is wanted, octet by octet: `Expect: 100-continue` tells when the api has taken it on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Beyond every bound of the api's on one request.
const PATIENCE: Duration = Duration::from_secs(60);
const WANTED: &str = "HTTP/1.1 100 ";

/// A request whose head is sent.
pub(super) struct Begun {
    stream: TcpStream,
    octets: usize,
}

/// An answer, as it came.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) status: u16,
    pub(super) text: String,
}

impl Begun {
    /// Says that a body of so many octets will come; answers what the api says against it.
    pub(super) async fn new(at: &str, token: &str, octets: usize) -> Result<Self, Raw> {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let head = format!(
            "POST /api/v1/tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\n\
             connection: close\r\ncontent-type: application/json\r\ncontent-length: {octets}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            let octet = timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time").unwrap();
            text.push(octet.into());
        }
        let mut begun = Self { stream, octets };
        if text.starts_with(WANTED) { Ok(begun) } else { Err(begun.rest(text).await) }
    }

    /// Sends the body up to its last octet.
    pub(super) async fn send(&mut self) {
        let body = vec![b' '; self.octets - 1];
        self.stream.write_all(&body).await.unwrap();
        self.octets = 1;
    }

    /// Sends the rest of the body; answers the answer.
    pub(super) async fn finish(mut self) -> Raw {
        let rest = vec![b' '; self.octets];
        self.stream.write_all(&rest).await.unwrap();
        self.answer().await
    }

    /// The answer, without another octet of the body.
    pub(super) async fn answer(&mut self) -> Raw {
        self.rest(String::new()).await
    }

    async fn rest(&mut self, mut text: String) -> Raw {
        let mut rest = Vec::new();
        // Where a body was not wanted its end may be a reset.
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("an end in time");
        text.push_str(&String::from_utf8_lossy(&rest));
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        Raw { status: status.unwrap_or_else(|| panic!("no answer: {text:?}")), text }
    }
}

impl Raw {
    /// It must be of this status and name, and say when to come back.
    #[track_caller]
    pub(super) fn is(&self, status: u16, name: &str) {
        let kind = format!("\"urn:certautopilot:problem:{name}\"");
        assert!(self.status == status && self.text.contains(&kind), "wanted {status} {name}, got {self:?}");
        assert!(self.text.to_lowercase().contains("\r\nretry-after: "), "{self:?}");
    }
}
