// SPDX-License-Identifier: Apache-2.0
//! A whole body in memory: room for it is taken before any of it is read, it comes in time, and it does not unfold into
//! many times its size.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use cap_runtime::config::format_duration;
use http_body_util::BodyExt;

use crate::app::App;
use crate::overload::{Asker, Reason, Share};
use crate::problem::{ApiError, BODY_TOO_LARGE, BODY_TOO_SLOW, MALFORMED_REQUEST};

/// Octets of a body.
const BODY_OCTETS: usize = 1024 * 1024;
/// Commas in a body, and so values: an empty text takes 3 octets of JSON and 24 of memory. Ours have some hundred.
const COMMAS: usize = 10_000;

/// A body, and the room that it takes.
pub(crate) struct Whole {
    pub(crate) octets: Bytes,
    pub(crate) held: Share,
}

/// Reads the body of a request.
pub(crate) async fn read(request: Request, app: &Arc<App>) -> Result<Whole, ApiError> {
    let asker = request.extensions().get::<Asker>();
    let who = asker.ok_or_else(|| ApiError::internal("nobody is said to ask"))?.who;
    let body = request.into_body();
    // One that does not say how long it is may become as long as any.
    let announced = body.size_hint().exact().map_or(Ok(BODY_OCTETS), usize::try_from).unwrap_or(usize::MAX);
    if announced > BODY_OCTETS {
        return Err(too_large());
    }
    let held = app.room_for_body(who, announced)?;
    let octets = tokio::select! {
        biased;
        octets = collect(body, announced) => octets?,
        () = app.clock.sleep(app.overload.body) => {
            let detail = format!("the body was not there {} after its head; send it faster", format_duration(app.overload.body));
            return Err(app.shed(Reason::SlowBody, BODY_TOO_SLOW, detail, Duration::ZERO));
        }
    };
    if octets.iter().filter(|octet| **octet == b',').count() > COMMAS {
        let detail =
            format!("the body has more than {COMMAS} commas; no request of this API has as many values");
        return Err(ApiError::new(BODY_TOO_LARGE, detail));
    }
    Ok(Whole { octets, held })
}

async fn collect(mut body: Body, announced: usize) -> Result<Bytes, ApiError> {
    let mut octets = BytesMut::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        let broken =
            |_| ApiError::new(MALFORMED_REQUEST, "the body ended early or could not be read; send it again");
        let Ok(piece) = frame.map_err(broken)?.into_data() else { continue };
        if octets.len() + piece.len() > BODY_OCTETS {
            return Err(too_large());
        }
        octets.extend_from_slice(&piece);
    }
    Ok(octets.freeze())
}

fn too_large() -> ApiError {
    ApiError::new(BODY_TOO_LARGE, "the body has more than 1 MiB; send less")
}
