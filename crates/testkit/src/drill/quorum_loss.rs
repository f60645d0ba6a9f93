// SPDX-License-Identifier: Apache-2.0
//! The database loses its majority, and gets it back.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::leadership::settled;
use super::world::PATIENCE;
use super::{Drill, Figures, Form, Load, Run, Timings, World, checks};
use crate::mongo::ReplicaSet;
use crate::stack::{Answer, ApiClient};
use crate::wait::{self, Pending};

pub(super) const DRILL: Drill = Drill {
    name: "quorum-loss",
    injects: "of the database's three members two are lost, killed or paused or one of each, while certificates are requested",
    must_hold: "every mutation and authenticated call is refused (503) within 5 s, /readyz is 503 and /healthz 200; all \
                of it works within 15 s of the members' return, without a restart",
    short: 1,
    soak: 20,
    any_ca: false,
    run: |run| Box::pin(drill(run, None)),
};

/// The same with an API that lets in whoever asks, whether or not a majority confirmed the primary, which goes on for longer
/// than anybody may be let in: the drill must find that.
///
/// # Errors
/// When the drill cannot be run to its end.
pub async fn quorum_loss_without_gate(run: Run) -> anyhow::Result<Figures> {
    drill(run, Some("no-gate")).await
}

/// The API that does without its gate, and for how long a primary goes on without a majority there.
const VICTIM_API: usize = 1;
const PRIMARY_FOR_MS: i64 = 12_000;

/// From the loss until nobody is let in, and until each refusal is answered.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// From the members' return until everything works.
const BACK_WITHIN: Duration = Duration::from_secs(15);
const WRITERS: usize = 2;
const FLOW: usize = 20;
const OK: u16 = 200;
const CREATED: u16 = 201;
const UNAVAILABLE: u16 = 503;
/// What is below it is an acknowledgement.
const REDIRECTS: u16 = 300;

/// What is asked of every API, and sent again until it is refused.
struct Call {
    method: &'static str,
    path: String,
    body: Option<Value>,
}

impl Call {
    /// The same each time in a round: what was not acknowledged may be stored all the same, once.
    async fn send(&self, api: &ApiClient, round: u32) -> anyhow::Result<Answer> {
        let key = self.body.is_some().then(|| format!("quorum-{round}"));
        api.call(self.method, &self.path, self.body.as_ref(), key.as_deref()).await
    }
}

#[derive(Default)]
struct Measured {
    refused: Timings,
    answered: Timings,
    unready: Timings,
    back: Timings,
    let_in: usize,
}

impl Measured {
    fn judge_refusals(&self, figures: &mut Figures) {
        figures.count("calls refused", self.refused.len());
        figures.at_most("refused after (longest)", self.refused.max(), REFUSED_WITHIN);
        figures.at_most("answer of a refusal (longest)", self.answered.max(), REFUSED_WITHIN);
        figures.at_most("unready after (longest)", self.unready.max(), REFUSED_WITHIN);
    }
}

async fn drill(run: Run, mutant: Option<&str>) -> anyhow::Result<Figures> {
    let mut options = run.form.options();
    options.apis = 2;
    if mutant.is_some() {
        options.replica_set.election_timeout_ms = PRIMARY_FOR_MS;
    }
    if run.form == Form::Short {
        options.schedulers = 1;
    }
    let mut world = World::start(run, options).await?;
    if let Some(mutant) = mutant {
        let api = &mut world.stack.apis[VICTIM_API];
        api.set_env("CAP_DRILL_MUTANT", mutant);
        api.restart()?;
        api.wait_ready(PATIENCE).await?;
    }
    let certificate = world.issued(&["quorum.example.test".to_owned()]).await?.remove(0);
    let pids: Vec<i32> = world.services().map(crate::process::Service::pid).collect();
    let mut load = Load::start(&world, WRITERS)?;
    let mut measured = Measured::default();
    for round in 0..run.count {
        world.wait_healthy().await?;
        load.wait_more(FLOW, PATIENCE).await?;
        let lost = lose(&world, round).await?;
        let calls = calls(&world, &certificate, round);
        look_at_refusals(&world, &calls, round, &mut measured).await?;
        give_back(&mut world, &lost).await?;
        if mutant.is_some() {
            // What a primary took that no majority has is in the way of the load from then on.
            let mut figures = Figures::default();
            measured.judge_refusals(&mut figures);
            return Ok(figures);
        }
        look_at_return(&world, &calls, round, &mut measured).await?;
        load.wait_more(FLOW, PATIENCE).await?;
    }
    let report = load.stop().await?;
    let restarted = world
        .services()
        .zip(&pids)
        .filter(|(service, pid)| service.pid() != **pid || !service.process().is_running());
    let mut figures = Figures::default();
    measured.judge_refusals(&mut figures);
    figures.at_most("back after (longest)", measured.back.max(), BACK_WITHIN);
    figures.none("let in after a refusal, or mutations acknowledged", measured.let_in);
    figures.none("services that ended", restarted.count());
    checks::aftermath(&world, &report, &mut figures).await?;
    Ok(figures)
}

/// Every kind of call that asks for a token: reads, and each mutation. Where one could harm the drill itself, it is of
/// something that is not there, or says nothing: who may come in is asked first.
fn calls(world: &World, certificate: &str, round: u32) -> Vec<Call> {
    let (project, name) = (&world.demo.project, format!("without-{round}"));
    let nobody = |kind: &str| format!("{kind}_{:032}", 0);
    let call = |method, path: String, body| Call { method, path, body };
    let get = |path: &str| call("GET", path.to_owned(), None);
    let of = |below: &str| world.path(below);
    vec![
        get("/api/v1/projects"),
        get("/api/v1/tokens"),
        get("/api/v1/cluster"),
        get(&format!("/api/v1/projects/{project}")),
        get(&of("issuers")),
        get(&of("jobs")),
        get(&of("certificates")),
        get(&of(&format!("certificates/{certificate}"))),
        get(&of(&format!("certificates/{certificate}/download?format=key"))),
        get(&of("drift")),
        get(&of("notices")),
        get(&of("attention")),
        get(&of("jobs/totals")),
        call("PATCH", format!("/api/v1/projects/{project}"), Some(json!({ "weight": 0 }))),
        call("POST", "/api/v1/cluster/step-down".to_owned(), Some(json!({ "epoch": 0 }))),
        call("POST", of(&format!("certificates/{certificate}/drift-scan")), None),
        call("POST", "/api/v1/projects".to_owned(), Some(json!({ "name": name }))),
        call(
            "POST",
            "/api/v1/tokens".to_owned(),
            Some(json!({ "name": name, "role": "viewer", "expires_in": "1h" })),
        ),
        call("POST", of("certificates"), Some(world.demo.request_body(&[&format!("{name}.example.test")]))),
        call("POST", of(&format!("certificates/{certificate}/renew")), None),
        call("PATCH", of(&format!("certificates/{certificate}")), Some(json!({ "auto_renew": true }))),
        call("DELETE", of(&format!("certificates/{}", nobody("crt"))), None),
        call("POST", of("issuers"), Some(json!({}))),
        call("PATCH", of(&format!("issuers/{}", nobody("iss"))), Some(json!({}))),
        call("DELETE", of(&format!("issuers/{}", nobody("iss"))), None),
        call("POST", of(&format!("jobs/{}/retry", nobody("job"))), None),
        call("POST", of(&format!("jobs/{}/cancel", nobody("job"))), None),
        call("DELETE", format!("/api/v1/tokens/{}", nobody("tok")), None),
    ]
}

/// A member that was taken away.
struct Lost {
    member: usize,
    /// Killed, or else paused.
    is_killed: bool,
}

/// Takes both secondaries away: one is killed and one paused, then both are paused, then both killed, and so on.
async fn lose(world: &World, round: u32) -> anyhow::Result<Vec<Lost>> {
    let set = set(world)?;
    let primary = set.primary().await?;
    let kills = [[true, false], [false, false], [true, true]][usize::try_from(round % 3)?];
    let secondaries = (0..set.len()).filter(|index| *index != primary);
    let lost: Vec<Lost> =
        secondaries.zip(kills).map(|(member, is_killed)| Lost { member, is_killed }).collect();
    for Lost { member, is_killed } in &lost {
        if *is_killed { set.kill(*member)? } else { set.pause(*member)? }
    }
    Ok(lost)
}

async fn give_back(world: &mut World, lost: &[Lost]) -> anyhow::Result<()> {
    let set = world.replica_set()?;
    for Lost { member, is_killed } in lost {
        if *is_killed { set.restart(*member).await? } else { set.resume(*member)? }
    }
    Ok(())
}

fn set(world: &World) -> anyhow::Result<&ReplicaSet> {
    world.stack.infrastructure.replica_set.as_ref().context("the drill has a replica set of its own")
}

/// Sends each call to each API until it is refused, and again when nobody may be let in any more.
async fn look_at_refusals(
    world: &World,
    calls: &[Call],
    round: u32,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let lost_at = Instant::now();
    let apis = apis(world)?;
    let all = || apis.iter().flat_map(|api| calls.iter().map(move |call| (api, call)));
    let first = all().map(|(api, call)| until_refused(api, call, round, lost_at));
    for (after, acknowledged) in futures_util::future::try_join_all(first).await? {
        measured.refused.push(after);
        measured.let_in += acknowledged;
    }
    for api in &apis {
        status(api, "/readyz", UNAVAILABLE).await?;
        measured.unready.push(lost_at.elapsed());
    }
    tokio::time::sleep_until((lost_at + REFUSED_WITHIN).into()).await;
    let second = all().map(|(api, call)| async move {
        let asked_at = Instant::now();
        let answer = call.send(api, round).await?;
        anyhow::Ok((asked_at.elapsed(), answer.status))
    });
    for (took, status) in futures_util::future::try_join_all(second).await? {
        measured.answered.push(took);
        measured.let_in += usize::from(status != UNAVAILABLE);
    }
    for (api, path) in apis.iter().flat_map(|api| ["/healthz", "/livez"].map(|path| (api, path))) {
        let answer = api.call("GET", path, None, None).await?;
        ensure!(answer.status == OK, "{path} answers {} without a majority", answer.status);
    }
    Ok(())
}

/// Answers when it was refused, and how many mutations were acknowledged before: nothing can be stored by a majority
/// that is not there.
async fn until_refused(
    api: &ApiClient,
    call: &Call,
    round: u32,
    lost_at: Instant,
) -> anyhow::Result<(Duration, usize)> {
    let acknowledged = Cell::new(0);
    wait::until(&format!("{} {} to be refused", call.method, call.path), PATIENCE, || async {
        let answer = call.send(api, round).await.map_err(Pending::not_yet)?;
        if call.method != "GET" && answer.status < REDIRECTS {
            acknowledged.set(acknowledged.get() + 1);
        }
        if answer.status == UNAVAILABLE { Ok(()) } else { Err(Pending::not_yet(answer.status)) }
    })
    .await?;
    Ok((lost_at.elapsed(), acknowledged.get()))
}

fn apis(world: &World) -> anyhow::Result<Vec<ApiClient>> {
    (0..world.stack.apis.len()).map(|index| world.stack.client(index)).collect()
}

/// Waits until each API is ready, answers every read, and acknowledges a write; until every service is ready, and until a
/// scheduler leads.
async fn look_at_return(
    world: &World,
    calls: &[Call],
    round: u32,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let back_at = Instant::now();
    for (index, api) in apis(world)?.iter().enumerate() {
        status(api, "/readyz", OK).await?;
        for read in calls.iter().filter(|call| call.method == "GET") {
            status(api, &read.path, OK).await?;
        }
        let name = format!("back-{round}-{index}");
        wait::until("a write to be acknowledged again", PATIENCE, || async {
            let body = json!({ "name": name });
            let answer = api.call("POST", "/api/v1/projects", Some(&body), Some(&name)).await;
            let answer = answer.map_err(Pending::not_yet)?;
            if answer.status == CREATED { Ok(()) } else { Err(Pending::not_yet(answer.text)) }
        })
        .await?;
        measured.back.push(back_at.elapsed());
    }
    for service in world.services() {
        service.wait_ready(PATIENCE).await?;
        measured.back.push(back_at.elapsed());
    }
    settled(world).await?;
    measured.back.push(back_at.elapsed());
    Ok(())
}

async fn status(api: &ApiClient, path: &str, wanted: u16) -> anyhow::Result<()> {
    wait::until(&format!("{path} to answer {wanted}"), PATIENCE, || async {
        let answer = api.call("GET", path, None, None).await.map_err(Pending::not_yet)?;
        if answer.status == wanted { Ok(()) } else { Err(Pending::not_yet(answer.status)) }
    })
    .await
}
