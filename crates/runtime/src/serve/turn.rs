// SPDX-License-Identifier: Apache-2.0
//! How long the head of a request may take, told apart from how long a connection idles before it.
//!
//! hyper's own bound runs from the moment when it waits for a head. One number cannot both keep the idle connections of a
//! load balancer and cut off who sends a head octet by octet. So hyper is given the idle time, and a stream below it counts
//! from the first octet of a head. What that cannot see is a piece of a head that came together with the request before
//! it: such a piece counts as idle time, and hyper's bound ends it.
//!
//! The same stream ends when the peer takes no octet of an answer for too long.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Where a connection is.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Nothing has come since the last answer.
    Idle,
    /// A head is coming, or must come.
    Head { until: Instant },
    /// A request is being answered; its body is the handler's to bound.
    Answering,
}

/// Where a connection is: the stream and what answers look at the same one.
#[derive(Debug, Clone)]
pub(super) struct Turn(Arc<Mutex<Phase>>);

/// Until it is dropped, an answer is on its way.
#[derive(Debug)]
pub(super) struct Answer(Turn);

/// A stream on which a head must not dawdle.
#[derive(Debug)]
pub(super) struct Timed<IO> {
    io: IO,
    turn: Turn,
    head: Duration,
    alarm: Pin<Box<Sleep>>,
    stall: Duration,
    /// Runs while octets of ours lie untaken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Turn {
    /// A new connection: who opens one has something to ask, so its first head is due at once.
    pub(super) fn first(head: Duration) -> Self {
        Self(Arc::new(Mutex::new(Phase::Head { until: Instant::now() + head })))
    }

    /// A whole head has come.
    pub(super) fn answering(&self) {
        *self.phase() = Phase::Answering;
    }

    /// The answer is there; when what this gives is dropped, it has been sent.
    pub(super) fn until_dropped(&self) -> Answer {
        Answer(self.clone())
    }

    /// Octets have come.
    fn heard(&self, head: Duration) {
        let mut phase = self.phase();
        match *phase {
            Phase::Idle => *phase = Phase::Head { until: Instant::now() + head },
            Phase::Head { .. } | Phase::Answering => {}
        }
    }

    /// When the head must be there, if one is awaited.
    fn due(&self) -> Option<Instant> {
        match *self.phase() {
            Phase::Head { until } => Some(until),
            Phase::Idle | Phase::Answering => None,
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        *self.0.phase() = Phase::Idle;
    }
}

impl<IO> Timed<IO> {
    pub(super) fn new(io: IO, turn: Turn, head: Duration, stall: Duration) -> Self {
        let alarm = Box::pin(sleep_until(Instant::now() + head));
        Self { io, turn, head, alarm, stall, stalled: None }
    }

    /// What came of trying to hand octets on: an end where the peer has taken none for too long.
    fn taken<T>(&mut self, cx: &mut Context<'_>, handed: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if handed.is_ready() {
            self.stalled = None;
            return handed;
        }
        let stall = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + stall)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nobody takes the answer")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Timed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) {
            if buf.filled().len() > before {
                self.turn.heard(self.head);
            }
            return Poll::Ready(read);
        }
        let Some(due) = self.turn.due() else { return Poll::Pending };
        if self.alarm.deadline() != due {
            self.alarm.as_mut().reset(due);
        }
        ready!(self.alarm.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of a request took too long")))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Timed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let handed = Pin::new(&mut self.io).poll_write(cx, octets);
        self.taken(cx, handed)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let handed = Pin::new(&mut self.io).poll_flush(cx);
        self.taken(cx, handed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let handed = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.taken(cx, handed)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
