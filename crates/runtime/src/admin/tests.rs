// SPDX-License-Identifier: Apache-2.0
//! Claims about the admin listener, over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;

use cap_core::health::Check;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::SystemClock;
use crate::role::Role;
use crate::serve::serve;

struct Shop {
    at: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

async fn open(bounds: Bounds) -> Shop {
    let readiness = Readiness::new(Arc::new(SystemClock));
    let shown = router(Metrics::new(Role::Api).unwrap(), readiness.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, shown, None, bounds, stop.clone()));
    Shop { at, readiness, stop, served }
}

/// The whole answer; the connection is closed after it.
async fn ask(at: SocketAddr, target: &str) -> String {
    say(at, &format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

async fn say(at: SocketAddr, words: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(words.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
    // A reset after the last word is an end, too.
    let _ = read.await.expect("an answer within 10 s");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_contracts_paths_answer() {
    let shop = open(BOUNDS).await;
    let metrics = ask(shop.at, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("# TYPE certautopilot_build_info gauge"));
    assert!(ask(shop.at, "/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(ask(shop.at, "/readyz").await.ends_with("\r\n\r\nok\n"));
    assert!(ask(shop.at, "/healthz").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn readiness_tells_reasons_and_takes_exclusions() {
    let shop = open(BOUNDS).await;
    shop.readiness.expect(Check::Kek);
    let answer = ask(shop.at, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("[-]kek failed: not known yet\n[+]shutdown ok\n"), "{answer}");
    let without = ask(shop.at, "/readyz?verbose&exclude=kek").await;
    assert!(without.starts_with("HTTP/1.1 200 ") && without.contains("[+]shutdown ok\n"), "{without}");
    assert!(ask(shop.at, "/readyz?exclude=keks").await.starts_with("HTTP/1.1 400 "));
    assert!(ask(shop.at, "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_head_that_dawdles_or_is_too_long_is_cut_off() {
    let head = Duration::from_millis(100);
    let shop = open(Bounds { head, ..BOUNDS }).await;
    let slow = say(shop.at, "GET /livez HTTP/1.1\r\nhost:").await;
    assert!(!slow.contains("200 OK"), "{slow}");
    let long = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(BOUNDS.head_octets));
    assert!(say(shop.at, &long).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_full_listener_lets_others_wait_and_serves_them_later() {
    let shop = open(Bounds { connections: 1, head: Duration::from_millis(200), ..BOUNDS }).await;
    let idle = TcpStream::connect(shop.at).await.unwrap();
    // Served once the idle connection has run into its bound.
    assert!(ask(shop.at, "/livez").await.starts_with("HTTP/1.1 200 "));
    drop(idle);
}

#[tokio::test]
async fn a_stop_closes_the_listener_and_idle_connections() {
    let shop = open(BOUNDS).await;
    let mut idle = TcpStream::connect(shop.at).await.unwrap();
    assert!(ask(shop.at, "/livez").await.starts_with("HTTP/1.1 200 "));
    shop.stop.cancel();
    timeout(Duration::from_secs(5), shop.served).await.expect("an end within 5 s").unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "closed");
    assert!(TcpStream::connect(shop.at).await.is_err());
}
