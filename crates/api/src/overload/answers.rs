// SPDX-License-Identifier: Apache-2.0
//! The memory of answers that are made and not yet taken by who asked.

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::response::Response;

use super::Who;
use super::share::{Full, Share, Shares};

/// Octets of an answer that is not counted, no more than a head has.
const FREE_OCTETS: usize = 32 * 1024;

/// The octets of an answer; dropped when the last of them is with the kernel.
struct Counted {
    octets: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

/// Counts a large answer until its last octet is dropped. What comes in pieces is never in memory as a whole.
pub(super) async fn hold(
    answers: &Shares,
    who: Who,
    may_refuse: bool,
    response: Response,
) -> Result<Result<Response, Full>, axum::Error> {
    let octets = response.body().size_hint().exact().and_then(|octets| usize::try_from(octets).ok());
    let Some(octets) = octets.filter(|octets| *octets > FREE_OCTETS) else { return Ok(Ok(response)) };
    let share = match answers.take(who, octets) {
        Ok(share) => share,
        Err(full) if may_refuse => return Ok(Err(full)),
        Err(_) => answers.take_always(who, octets),
    };
    let (head, body) = response.into_parts();
    let counted = Counted { octets: to_bytes(body, octets).await?, _share: share };
    Ok(Ok(Response::from_parts(head, Body::from(Bytes::from_owner(counted)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_counted_until_its_last_octet_is_gone() {
        let answers = Shares::new(3 * FREE_OCTETS, 2 * FREE_OCTETS);
        let ask = async |who, octets| {
            let response = Response::new(Body::from(vec![b'x'; octets]));
            hold(&answers, Who::Token(who), true, response).await.unwrap()
        };
        let large = 2 * FREE_OCTETS;
        let held = ask(1, large).await.unwrap();
        assert_eq!(ask(1, large).await.unwrap_err(), Full::Own);
        assert_eq!(ask(2, large).await.unwrap_err(), Full::All);
        assert!(ask(1, FREE_OCTETS).await.is_ok(), "a small one is always there");
        let change = Response::new(Body::from(vec![b'x'; large]));
        let change = hold(&answers, Who::Token(1), false, change).await.unwrap();
        drop(change.expect("what was changed is answered for, however full it is"));
        let octets = to_bytes(held.into_body(), large).await.unwrap();
        assert_eq!(octets.len(), large);
        assert!(ask(2, large).await.is_err(), "it was read and is still in memory");
        drop(octets);
        assert!(ask(2, large).await.is_ok());
    }
}
