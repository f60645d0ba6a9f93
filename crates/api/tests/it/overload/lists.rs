// SPDX-License-Identifier: Apache-2.0
//! Lists are read by turns: a caller has a few of them, all callers together so many, and what is no list needs none.

use std::time::Duration;

use cap_testkit::mongo::ReplicaSet;
use futures_util::future::{join, join_all};
use serde_json::json;

use super::{api, retry_after, shed, tokens};
use crate::world::quiet;

/// Turns of all, and of one caller.
const TURNS: usize = 16;
const SHARE: usize = TURNS / 4;
/// With one list each beyond their share, these want more turns than there are.
const CALLERS: usize = 5;
/// How long each list is read: longer than another waits for its turn, and less than the database may take.
const TAKES: Duration = Duration::from_secs(3);

/// Has the list of notices, which no other test reads, take long at the database, or as long as usual.
async fn slow(set: &ReplicaSet, is_slow: bool) {
    let command = json!({
        "configureFailPoint": "failCommand", "mode": if is_slow { "alwaysOn" } else { "off" },
        "data": {
            "failCommands": ["find"], "namespace": "certautopilot.notices", "blockConnection": true,
            "blockTimeMS": u64::try_from(TAKES.as_millis()).unwrap(),
        },
    });
    // The driver's own types go by unnamed: it lives in another crate.
    set.command(0, serde_json::from_value(command).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_caller_has_some_turns_all_together_have_more_and_what_is_no_list_needs_none() {
    let quiet = quiet().await;
    let (service, http) = api(quiet, "api-lists", &[]).await;
    let callers = tokens(quiet, &http, CALLERS).await;
    let set = quiet.stack.infrastructure.replica_set.as_ref().unwrap();
    let (list, one) = (quiet.path("/notices"), quiet.path(""));
    slow(set, true).await;
    let lists = callers.iter().flat_map(|caller| (0..=SHARE).map(|_| http.get(&list, caller)));
    let (answers, project) = join(join_all(lists), http.get(&one, &callers[0])).await;
    slow(set, false).await;
    assert_eq!(project.status, 200, "{project:?}");
    let mut refused = 0;
    for of_caller in answers.chunks(SHARE + 1) {
        let own = of_caller.iter().filter(|answer| answer.status == 429).collect::<Vec<_>>();
        let [own] = own.as_slice() else { panic!("{of_caller:?}") };
        assert!(own.problem(429, "too-many-at-once").contains("lists"), "{own:?}");
        retry_after(own);
        for all in of_caller.iter().filter(|answer| answer.status == 503) {
            assert!(all.problem(503, "overloaded").contains("lists"), "{all:?}");
            retry_after(all);
            refused += 1;
        }
    }
    let read = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((read, refused), (TURNS, CALLERS * SHARE - TURNS));
    assert!(shed(&service, "lists").await >= 9.0);
    assert_eq!(http.get(&list, &callers[0]).await.status, 200, "the turns are free again");
}
