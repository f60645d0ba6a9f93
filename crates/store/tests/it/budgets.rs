// SPDX-License-Identifier: Apache-2.0
//! Rate limits of CAs: what one worker met, every worker keeps, for as long as the database's clock says.

use std::time::Duration;

use cap_core::certificate::Names;
use cap_core::id::{IssuerId, OrderId};
use cap_core::job::{Claim, JobState, Settlement};
use cap_core::order::{Bucket, Park, buckets};
use cap_core::problem::{Class, Problem};
use cap_core::secret::SecretString;
use cap_store::{Store, StoreError};
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::wait::{self, Pending};

use crate::explain::{asked_of, explain};
use crate::queue::raw;
use crate::world::{LEASE, World};

const HOUR: Duration = Duration::from_secs(3_600);

fn problem(detail: &str) -> Problem {
    Problem::new(Class::RateLimited, "urn:ietf:params:acme:error:rateLimited", detail)
}

fn names(name: &str) -> Vec<Bucket> {
    buckets(&Names::parse(vec![name.to_owned()]).unwrap())
}

/// A claim on some certificate, and its issuer.
async fn claimed(world: &World, name: &str) -> (Claim, IssuerId) {
    let certificate = world.certificate(name).await;
    (world.claim("one", LEASE).await.remove(0), certificate.issuer)
}

async fn park(world: &World, claim: &Claim, park: &Park) -> Result<(), StoreError> {
    let problem = Some(park.problem.clone());
    let again = Settlement::Again { after: park.time, problem, setbacks: None };
    world.store.settle_parked(claim, &again, park, world.clock.now()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_worker_met_every_worker_keeps() {
    let world = World::new().await;
    let (claim, issuer) = claimed(&world, "a.example.test").await;
    let bucket = Bucket::Domain("example.test".into());
    let limit = Park { issuer, bucket, time: HOUR, own: None, problem: problem("too many") };
    park(&world, &claim, &limit).await.unwrap();
    let job = world.store.job(world.project, claim.job).await.unwrap().unwrap();
    assert_eq!((job.state, job.problem), (JobState::Queued, Some(problem("too many"))));

    let peer = Store::connect(&SecretString::from(world.uri.clone()), None, "peer").await.unwrap();
    let kept = peer.parked(issuer, &names("b.example.test")).await.unwrap().unwrap();
    assert_eq!(kept.problem, problem("too many"));
    assert!(kept.left <= HOUR && kept.left > HOUR - Duration::from_secs(60), "{:?}", kept.left);
    // Nobody else's, and nothing else.
    assert_eq!(peer.parked(issuer, &names("b.example.org")).await.unwrap(), None);
    let other = IssuerId::generate(world.clock.as_ref(), world.entropy.as_ref());
    assert_eq!(peer.parked(other, &names("b.example.test")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_never_made_shorter_and_ends_by_itself() {
    let world = World::new().await;
    let account = [Bucket::Account];
    let mut issuer = None;
    for (name, time, detail, kept) in [
        ("a.example.test", HOUR, "long", "long"),
        ("b.example.test", HOUR / 2, "short", "long"),
        ("c.example.test", HOUR * 2, "longer", "longer"),
    ] {
        let (claim, of) = claimed(&world, name).await;
        let issuer = *issuer.get_or_insert(of);
        let limit = Park { issuer, bucket: Bucket::Account, time, own: None, problem: problem(detail) };
        park(&world, &claim, &limit).await.unwrap();
        let found = world.store.parked(issuer, &account).await.unwrap().unwrap();
        assert_eq!(found.problem, problem(kept), "after {detail}");
        assert!(found.left > HOUR - Duration::from_secs(60), "{:?} after {detail}", found.left);
    }
    let (claim, issuer) = claimed(&world, "d.example.test").await;
    let moment = Duration::from_millis(300);
    let limit =
        Park { issuer, bucket: Bucket::Account, time: moment, own: None, problem: problem("a moment") };
    park(&world, &claim, &limit).await.unwrap();
    wait::until("the limit to end", Duration::from_secs(30), async || {
        match world.store.parked(issuer, &account).await.unwrap() {
            None => Ok(()),
            Some(kept) => Err(Pending::not_yet(format_args!("{:?} left", kept.left))),
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_a_clock_stamped_days_ahead_holds_nobody_up_and_hides_no_other() {
    let world = World::new().await;
    let (claim, issuer) = claimed(&world, "a.example.test").await;
    let limit = Park { issuer, bucket: Bucket::Account, time: HOUR, own: None, problem: problem("too many") };
    park(&world, &claim, &limit).await.unwrap();
    let account = [Bucket::Account];
    let budgets = raw(&world).await.collection::<Document>("budgets");
    let own = doc! { "_id": Bucket::Account.key(issuer) };
    let ahead = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "day", "amount": 10 } };
    budgets.update_one(own, vec![doc! { "$set": { "until": ahead } }]).await.unwrap();
    assert_eq!(world.store.parked(issuer, &account).await.unwrap(), None);

    let (claim, _) = claimed(&world, "b.example.test").await;
    park(&world, &claim, &limit).await.unwrap();
    let kept = world.store.parked(issuer, &account).await.unwrap().unwrap();
    assert!(kept.left <= HOUR, "{:?}", kept.left);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_over_parks_nothing() {
    let world = World::new().await;
    let (claim, issuer) = claimed(&world, "a.example.test").await;
    let limit = Park { issuer, bucket: Bucket::Account, time: HOUR, own: None, problem: problem("too many") };
    let stale = Claim { attempt: claim.attempt + 1, ..claim };
    let refused = park(&world, &stale, &limit).await;
    assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    assert_eq!(world.store.parked(issuer, &[Bucket::Account]).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_meet_a_limit_in_the_same_moment_both_keep_it() {
    let world = World::new().await;
    let mut met = Vec::new();
    for n in 0..8 {
        met.push(claimed(&world, &format!("h{n}.example.test")).await);
    }
    let issuer = met[0].1;
    let limit = Park { issuer, bucket: Bucket::Account, time: HOUR, own: None, problem: problem("too many") };
    let parked = met.iter().map(|(claim, _)| park(&world, claim, &limit));
    for result in futures_util::future::join_all(parked).await {
        result.unwrap();
    }
    assert!(world.store.parked(issuer, &[Bucket::Account]).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_looked_for_by_their_ids() {
    let world = World::new().await;
    let issuer = IssuerId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let database = raw(&world).await;
    let commands = asked_of(&database, "budgets", async {
        world.store.parked(issuer, &names("a.example.test")).await.unwrap();
    })
    .await;
    let [command] = commands.as_slice() else { panic!("{commands:#?}") };
    explain(&database, command).await.goes_by_an_index(command);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_keeps_what_it_was_told_itself_beside_what_others_were() {
    let world = World::new().await;
    let (claim, issuer) = claimed(&world, "a.example.test").await;
    let order = OrderId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let limit = Park {
        issuer,
        bucket: Bucket::Account,
        time: HOUR * 2,
        own: Some((order, HOUR)),
        problem: problem("too many"),
    };
    park(&world, &claim, &limit).await.unwrap();
    for (bucket, most) in [(Bucket::Account, HOUR * 2), (Bucket::Order(order), HOUR)] {
        let kept = world.store.parked(issuer, &[bucket]).await.unwrap().unwrap();
        assert!(kept.left <= most && kept.left > most - Duration::from_secs(60), "{:?}", kept.left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_ca_says_of_an_issuers_settings_is_shown_on_it_as_long_as_it_is_ready() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let issuer = async || {
        let found = world.store.issuer(world.project, &certificate.issuer.to_string()).await;
        found.unwrap().unwrap()
    };
    let issuers = raw(&world).await.collection::<Document>("issuers");
    let status = async |status: &str| {
        let own = doc! { "_id": certificate.issuer.to_string() };
        issuers.update_one(own, doc! { "$set": { "status": status } }).await.unwrap();
    };
    let settings = problem("choose other settings");
    status("failing").await;
    world.store.show_on_issuer(&issuer().await, Some(&settings)).await.unwrap();
    assert_eq!(issuer().await.problem, None, "it says itself why it fails");
    status("ready").await;
    world.store.show_on_issuer(&issuer().await, Some(&settings)).await.unwrap();
    assert_eq!(issuer().await.problem, Some(settings));
    world.store.show_on_issuer(&issuer().await, None).await.unwrap();
    assert_eq!(issuer().await.problem, None);
}
