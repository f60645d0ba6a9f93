// SPDX-License-Identifier: Apache-2.0
//! Commits whose answers are lost: the transaction happened or did not, and whoever asked cannot know.

use std::time::Duration;

use bson::doc;
use futures_util::future::try_join_all;

use super::sides;
use super::world::PATIENCE;
use super::{Figures, World};
use crate::network::Network;
use crate::stack::ApiClient;
use crate::wait::{self, Pending};

/// How answers get lost.
#[derive(Clone, Copy, Debug)]
enum Lost {
    /// The connection ends before the commit: it did not happen.
    Before,
    /// It happened, and the answer says that this may be lost yet, again and again.
    Doubted,
    /// It happened, and the answer is dropped on its way, for longer than anybody waits.
    Dropped,
}

const KINDS: [Lost; 3] = [Lost::Before, Lost::Doubted, Lost::Dropped];
/// Certificates asked for under each kind.
const MINTED: u32 = 3;
/// Commits that fail: more than one request repeats.
const COMMITS: i32 = 8;
/// Longer than the 5 s that any try of ours waits.
const DROPPED_FOR: Duration = Duration::from_secs(6);
/// `PrimarySteppedDown`: the driver asks for the commit again, once.
const STEPPED_DOWN: i32 = 189;
const CREATED: u16 = 201;

/// What was asked for while answers were lost.
#[derive(Debug, Default)]
pub(super) struct Minted {
    /// Each certificate's id and name.
    certificates: Vec<(String, String)>,
    /// Answers that the database itself kept back.
    lost: usize,
}

/// Loses answers in each way while certificates are asked for and issued.
pub(super) async fn lose(world: &mut World, network: &Network, round: u32) -> anyhow::Result<Minted> {
    let mut minted = Minted::default();
    for (kind, lost) in (0..).zip(KINDS) {
        let primary = sides::primary(world).await?;
        let lost_before = arm(world, primary, network, lost).await?;
        let api = world.api()?;
        let made = (0..MINTED).map(|n| mint(world, &api, format!("minted-{round}-{kind}-{n}.example.test")));
        let made = try_join_all(made);
        let made = match lost {
            Lost::Dropped => {
                let healed = async {
                    tokio::time::sleep(DROPPED_FOR).await;
                    network.heal()
                };
                tokio::try_join!(made, healed)?.0
            }
            Lost::Before | Lost::Doubted => made.await?,
        };
        for (id, _) in &made {
            world.demo.wait_valid(&api, id).await?;
        }
        minted.certificates.extend(made);
        if let Some(before) = lost_before {
            minted.lost += world.replica_set()?.fail_no_commands(primary).await?.saturating_sub(before);
        }
    }
    Ok(minted)
}

/// Has answers get lost; answers how many the database had kept back before, where it does.
async fn arm(
    world: &mut World,
    primary: usize,
    network: &Network,
    lost: Lost,
) -> anyhow::Result<Option<usize>> {
    let fails = match lost {
        Lost::Before => doc! { "closeConnection": true },
        Lost::Doubted => doc! { "writeConcernError": { "code": STEPPED_DOWN, "errmsg": "a drill" } },
        Lost::Dropped => {
            let primary = network.host(&sides::member(primary))?;
            let services = world.services().map(|service| network.host(service.name()));
            let services = services.collect::<anyhow::Result<Vec<_>>>()?;
            network.cut_one_way(services.iter().map(|service| (&*primary, &**service)))?;
            return Ok(None);
        }
    };
    let mut data = doc! { "failCommands": ["commitTransaction"] };
    data.extend(fails);
    Ok(Some(world.replica_set()?.fail_commands(primary, COMMITS, data).await?))
}

/// Asks for a certificate, again under the same key until that is acknowledged; answers its id and name.
async fn mint(world: &World, api: &ApiClient, name: String) -> anyhow::Result<(String, String)> {
    let body = world.demo.request_body(&[&name]);
    let id = wait::until(&name, PATIENCE, || async {
        let answer = api.call("POST", &world.demo.certificates(), Some(&body), Some(&name)).await;
        let answer = answer.map_err(Pending::not_yet)?;
        let id = answer.json()["id"].as_str().filter(|_| answer.status == CREATED).map(str::to_owned);
        id.ok_or_else(|| {
            let seen = anyhow::anyhow!("{}: {}", answer.status, answer.text);
            if answer.may_pass() { Pending::not_yet(seen) } else { Pending::Never(seen) }
        })
    });
    Ok((id.await?, name))
}

/// Adds whether each certificate was made, ordered and issued once.
pub(super) async fn judge(world: &World, minted: &[Minted], figures: &mut Figures) -> anyhow::Result<()> {
    let lost: usize = minted.iter().map(|minted| minted.lost).sum();
    let never_met = minted.iter().filter(|minted| minted.lost == 0).count();
    let (counts, jobs) = (world.stack.ca().counts().await?, world.collection("jobs"));
    let (mut twice_bought, mut twice_queued, mut asked) = (0, 0, 0);
    for (id, name) in minted.iter().flat_map(|minted| &minted.certificates) {
        asked += 1;
        twice_bought += usize::from(counts.of(&[name]).finalized != 1);
        let queued = jobs.count_documents(doc! { "lists": id, "work.kind": "issue" }).await?;
        twice_queued += usize::from(queued != 1);
    }
    figures.count("answers to commits that the database kept back", lost);
    figures.none("rounds in which it kept none back", never_met);
    figures.count("certificates asked for meanwhile", asked);
    figures.none("of these, not bought once", twice_bought);
    figures.none("of these, not queued once", twice_queued);
    Ok(())
}
