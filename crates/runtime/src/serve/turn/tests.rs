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
/// Octets of an answer that no kernel takes in one go.
const LARGE: usize = 64 * 1024 * 1024;
const NEVER: Duration = Duration::from_secs(3600);

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

async fn connect(idle: Duration) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", get(async || "well"))
        .route("/", post(async |body: String| body))
        .route("/large", get(async || vec![b'x'; LARGE]));
    let bounds = Bounds {
        connections: 8,
        head: HEAD,
        idle,
        head_octets: 16 * 1024,
        each: 8,
        stall: Duration::from_secs(1),
    };
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

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_off_and_who_reads_it_has_it_all() {
    let large = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for (takes, whole) in [(true, true), (false, false)] {
        let mut stream = connect(NEVER).await;
        stream.write_all(large).await.unwrap();
        // As long as the peer takes something, it has the time that it needs.
        let wait = if takes { Duration::ZERO } else { 3 * Duration::from_secs(1) };
        sleep(wait).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time");
        assert_eq!(answer.len() > LARGE, whole, "{} octets", answer.len());
    }
}

#[tokio::test]
async fn an_address_with_all_of_its_connections_gets_no_more_and_another_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    let bounds = Bounds {
        connections: 8,
        head: PATIENCE,
        idle: NEVER,
        head_octets: 16 * 1024,
        each: 2,
        stall: PATIENCE,
    };
    let router = Router::new().route("/", get(async || "well"));
    tokio::spawn(serve(listener, router, None, bounds, CancellationToken::new()));
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(GET).await.unwrap();
        answer(&mut stream, "well").await;
        kept.push(stream);
    }
    is_closed(TcpStream::connect(at).await.unwrap()).await;
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(at).await.unwrap();
    other.write_all(GET).await.unwrap();
    answer(&mut other, "well").await;
}
