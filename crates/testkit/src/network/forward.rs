// SPDX-License-Identifier: Apache-2.0
//! A way from one host's loopback to another's, which no cut touches: to a service's own listeners, and to the CA.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::copy_bidirectional;
use tokio::task::{JoinHandle, JoinSet};

use super::topology::Host;

/// Whoever listens does so on this machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Connections of one way at most: more are not opened by what a drill runs, and would mean a leak.
const CONNECTIONS: usize = 512;

/// Forwards TCP connections until it is dropped.
#[derive(Debug)]
pub struct Forward {
    task: JoinHandle<()>,
}

impl Forward {
    /// Takes connections at `address` on `from` and passes them on to the same address on `to`. It lives on the runtime
    /// on which it was started.
    ///
    /// # Errors
    /// When the address is taken on `from`.
    pub fn start(from: &Arc<Host>, to: &Arc<Host>, address: SocketAddr) -> anyhow::Result<Self> {
        let listener = from.within(|| {
            let listener = TcpListener::bind(address)
                .with_context(|| format!("listening at {address} on {}", from.name()))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(Self { task: tokio::spawn(serve(listener, to.clone(), address)) })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends with its listener; connections end with it.
async fn serve(listener: tokio::net::TcpListener, to: Arc<Host>, address: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if connections.len() < CONNECTIONS {
            connections.spawn(pass(near, to.clone(), address));
        }
    }
}

/// A host where nobody listens shows as a connection that is closed at once.
async fn pass(mut near: tokio::net::TcpStream, to: Arc<Host>, address: SocketAddr) -> anyhow::Result<()> {
    let far = tokio::task::spawn_blocking(move || {
        to.within(|| {
            let far = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
            far.set_nonblocking(true)?;
            Ok(far)
        })
    });
    let mut far = tokio::net::TcpStream::from_std(far.await??)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
