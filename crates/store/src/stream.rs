// SPDX-License-Identifier: Apache-2.0
//! Change streams that notice when they hang.
//!
//! The database answers a stream every so often, with news or without. Where a host vanishes without a word, no answer comes
//! and no error: the driver has no socket time-out, so without a bound whoever watches would wait for ever.

use std::pin::pin;
use std::time::Duration;

use bson::Document;
use futures_util::future::poll_immediate;
use mongodb::Collection;
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::{StoreError, classify, timed_out};
use crate::{TRY_BOUND, bounded};

/// Tells that something changed in a collection, however often it did meanwhile.
pub(crate) struct Changes {
    told: mpsc::Receiver<Result<(), StoreError>>,
    /// The stream is read by a task: the driver's question is never dropped in the middle, while whoever waits may be.
    reader: JoinHandle<()>,
    doing: &'static str,
}

impl Changes {
    /// A stream of what passes `stages`. The database keeps each question for `quiet` before it answers that nothing
    /// happened; what does happen is answered at once. The next question waits for the `pause` that there is then: what happened
    /// meanwhile comes together.
    pub(crate) async fn open(
        collection: &Collection<Document>,
        stages: Vec<Document>,
        quiet: Duration,
        pause: impl Fn() -> Duration + Send + 'static,
        doing: &'static str,
    ) -> Result<Self, StoreError> {
        let watch = collection.watch().pipeline(stages).max_await_time(quiet);
        let stream = bounded(doing, watch).await?;
        let (teller, told) = mpsc::channel(1);
        let reader = tokio::spawn(async move {
            let error = read(stream, &teller, quiet + TRY_BOUND, pause, doing).await;
            // Nobody listens any more, or it is heard once what was told before has been.
            let _ = teller.send(Err(error)).await;
        });
        Ok(Self { told, reader, doing })
    }

    /// Waits for the next change. Dropping it in the middle loses none.
    ///
    /// # Errors
    /// When the stream broke or hangs; a new one must be opened.
    pub(crate) async fn next(&mut self) -> Result<(), StoreError> {
        self.told.recv().await.unwrap_or_else(|| Err(ended(self.doing)))
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Reads until the stream breaks, or its database says nothing for `silence`.
async fn read(
    mut stream: ChangeStream<ChangeStreamEvent<Document>>,
    teller: &mpsc::Sender<Result<(), StoreError>>,
    silence: Duration,
    pause: impl Fn() -> Duration,
    doing: &'static str,
) -> StoreError {
    loop {
        let (is_asked, answer) = {
            let mut next = pin!(stream.next_if_any());
            // What is there at once came with the answer before.
            match poll_immediate(&mut next).await {
                Some(answer) => (false, Ok(answer)),
                None => (true, tokio::time::timeout(silence, next).await),
            }
        };
        match answer {
            Ok(Ok(Some(_))) => {
                // Where the last change was not heard of yet, this one is heard of with it.
                let _ = teller.try_send(Ok(()));
                let pause = pause();
                if is_asked && !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            Ok(Ok(None)) if stream.is_alive() => {}
            Ok(Ok(None)) => return ended(doing),
            Ok(Err(error)) => return classify(doing, &error).error,
            Err(_) => return timed_out(doing, silence),
        }
    }
}

fn ended(doing: &'static str) -> StoreError {
    StoreError::Unavailable { doing, cause: "the stream ended".to_owned() }
}
