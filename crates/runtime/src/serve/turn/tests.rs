// SPDX-License-Identifier: Apache-2.0
//! Claims about one connection that is used again and again.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::serve::{Bounds, serve};

const PATIENCE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(1);
/// Longer than a head may take.
const LONGER: Duration = Duration::from_millis(1_500);
const NEVER: Duration = Duration::from_secs(3600);

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

async fn connect(idle: Duration) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async || "well")).route("/", post(async |body: String| body));
    let bounds = Bounds { connections: 8, head: HEAD, idle, head_octets: 16 * 1024 };
    tokio::spawn(serve(listener, router, None, bounds, CancellationToken::new()));
    TcpStream::connect(at).await.unwrap()
}

/// Reads one answer, whose body ends with `end`; the connection stays open.
async fn answer(stream: &mut TcpStream, end: &str) {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut octets = [0; 1024];
        let read = timeout(PATIENCE, stream.read(&mut octets)).await.expect("an answer in time").unwrap();
        assert!(read > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&octets[..read]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}

/// The connection is closed without another answer.
async fn is_closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_connection_may_idle_for_longer_than_a_head_may_take() {
    let mut stream = connect(NEVER).await;
    for _ in 0..2 {
        stream.write_all(GET).await.unwrap();
        answer(&mut stream, "well").await;
        sleep(LONGER).await;
    }
    stream.write_all(GET).await.unwrap();
    answer(&mut stream, "well").await;
}

#[tokio::test]
async fn a_head_that_dawdles_on_a_used_connection_is_cut_off() {
    let mut stream = connect(NEVER).await;
    stream.write_all(GET).await.unwrap();
    answer(&mut stream, "well").await;
    stream.write_all(b"G").await.unwrap();
    is_closed(stream).await;
}

#[tokio::test]
async fn a_connection_that_asks_nothing_at_all_is_cut_off() {
    is_closed(connect(NEVER).await).await;
}

#[tokio::test]
async fn a_connection_idles_no_longer_than_it_may() {
    let mut stream = connect(HEAD).await;
    stream.write_all(GET).await.unwrap();
    answer(&mut stream, "well").await;
    is_closed(stream).await;
}

#[tokio::test]
async fn a_body_may_take_longer_than_a_head() {
    let mut stream = connect(NEVER).await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nsl").await.unwrap();
    sleep(LONGER).await;
    stream.write_all(b"ow").await.unwrap();
    answer(&mut stream, "slow").await;
}
