// SPDX-License-Identifier: Apache-2.0
//! The ledger: one live order for the same names, one writer, and each fact once however often it is sent.

use std::time::Duration;

use cap_core::certificate::{Issued, Names, Status};
use cap_core::challenge::{ChallengeAnswer, ChallengeToken};
use cap_core::clock::later;
use cap_core::envelope::Slot;
use cap_core::id::{IssuerId, VersionId};
use cap_core::job::{Claim, Work};
use cap_core::order::{FailedAttempt, IssuedVersion, Ledger, LedgerError, Order, OrderState, Placed};
use cap_core::problem::{Class, Problem};
use cap_store::{CertificateRecord, ChallengeCache, OpenOrder, Opened};

use crate::world::{FUSE, LEASE, World};

pub(crate) async fn begun(world: &World, name: &str, lease: Duration) -> (CertificateRecord, Claim, Order) {
    let certificate = world.certificate(name).await;
    let claim = world.claim("one", lease).await.remove(0);
    let order = world.order(&certificate, &claim).await;
    let opened = world
        .store
        .open_order(&OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() })
        .await
        .unwrap();
    assert_eq!(opened, Opened::Order(Box::new(order.clone())));
    (certificate, claim, order)
}

pub(crate) fn ordered() -> OrderState {
    OrderState::Ordered { placed: Placed { url: "https://ca.example.test/order/1".into(), expires: None } }
}

pub(crate) async fn version(world: &World) -> IssuedVersion {
    let id = VersionId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let now = world.clock.now();
    let slot = Slot::version_key(world.project, id);
    let key = world.keyring.seal(&slot, b"leaf key").await.unwrap();
    let issued = Issued {
        chain_pem: "chain".into(),
        serial: "01".into(),
        fingerprint_sha256: "ff".into(),
        not_before: now,
        not_after: later(now, Duration::from_secs(3_600)),
        ari_id: None,
        chain_issuer: None,
    };
    let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
    IssuedVersion {
        id,
        number: 1,
        issuer: IssuerId::generate(clock, entropy),
        issued,
        key,
        renew_at: later(now, Duration::from_secs(1_800)),
        renewal_info_at: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_sent_again_is_the_same_fact() {
    let world = World::new().await;
    let (_, _, order) = begun(&world, "a.example.test", LEASE).await;
    let first = world.store.advance(&order, ordered(), &[]).await.unwrap();
    let again = world.store.advance(&order, ordered(), &[]).await.unwrap();
    assert_eq!(first, again);
    let other = OrderState::Ordered {
        placed: Placed { url: "https://ca.example.test/order/2".into(), expires: None },
    };
    assert_eq!(
        world.store.advance(&order, other, &[]).await,
        Err(LedgerError::Fenced),
        "the URL was set twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_over_writes_nothing_even_before_the_peer_wrote() {
    let world = World::new().await;
    let (certificate, _, order) = begun(&world, "a.example.test", Duration::ZERO).await;
    let peer = world.claim("two", LEASE).await.remove(0);
    let taken = world.store.take_order(certificate.id, peer.fence).await.unwrap().unwrap();
    assert_eq!(
        (taken.id, taken.state.clone(), taken.fence),
        (order.id, OrderState::Keyed { replaces: None }, peer.fence)
    );
    assert_eq!(world.store.advance(&order, ordered(), &[]).await, Err(LedgerError::Fenced));
    assert!(
        world.store.take_order(certificate.id, order.fence).await.is_err(),
        "a stale claim took the order back"
    );
    world.store.advance(&taken, ordered(), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_names_at_the_same_account_are_bought_one_at_a_time() {
    let world = World::new().await;
    let (certificate, claim, _) = begun(&world, "a.example.test", LEASE).await;
    let mut second = world.order(&certificate, &claim).await;
    second.fence = claim.fence;
    let opened = world
        .store
        .open_order(&OpenOrder { order: second, fuse: FUSE, at: world.clock.now() })
        .await
        .unwrap();
    assert_eq!(opened, Opened::Busy(Some(certificate.id)));
}

/// Two certificates may want the same names: a CA would give both the same order, and one of them the other's key.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_names_in_another_order_are_the_same_and_another_profile_is_not() {
    let world = World::new().await;
    let (first, other) =
        (world.certificate("a.example.test").await, world.certificate("b.example.test").await);
    let claims = world.claim("one", LEASE).await;
    let claim = |certificate: &CertificateRecord| {
        let is_for = |claim: &&Claim| matches!(claim.work, Work::Issue { certificate: id, .. } if id == certificate.id);
        claims.iter().find(is_for).unwrap().clone()
    };
    let names = |names: [&str; 2]| Names::parse(names.map(str::to_owned).into()).unwrap();
    let mut begun = world.order(&first, &claim(&first)).await;
    begun.names = names(["a.example.test", "b.example.test"]);
    let mut second = world.order(&other, &claim(&other)).await;
    (second.names, second.issuer) = (names(["b.example.test", "a.example.test"]), begun.issuer);
    let open = async |order: &Order| {
        let open = OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() };
        world.store.open_order(&open).await.unwrap()
    };
    assert_eq!(open(&begun).await, Opened::Order(Box::new(begun.clone())));
    assert_eq!(open(&second).await, Opened::Busy(Some(first.id)));
    second.profile = Some("shortlived".to_owned().try_into().unwrap());
    assert_eq!(open(&second).await, Opened::Order(Box::new(second.clone())));
}

/// The CA has no order, so nobody goes on with it: what it would hold is free at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_person_before_it_is_placed_frees_the_names_in_the_same_write() {
    let world = World::new().await;
    let (certificate, claim, order) = begun(&world, "a.example.test", LEASE).await;
    let (other, audit) = (world.certificate("b.example.test").await, world.row().await);
    let problem = Problem::new(Class::RateLimited, "rateLimited", "paused");
    for _ in 0..2 {
        world.store.bury(&claim, &order, &problem, &audit).await.unwrap();
    }
    let stored = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.problem, stored.order), (Status::Failing, Some(problem.clone()), None));
    assert!(stored.fence > claim.fence);
    let job = world.store.job(world.project, claim.job).await.unwrap().unwrap();
    assert_eq!(job.state, cap_core::job::JobState::Dead);
    let over = world.store.order(order.id).await.unwrap().unwrap();
    assert_eq!(over.state, OrderState::Failed { placed: None, problem: problem.clone() });
    assert!(over.key.sealed.ct.is_empty(), "the order kept the key");
    // Another certificate of the same names at the same account has its turn.
    let next = world.claim("two", LEASE).await.remove(0);
    let mut second = world.order(&other, &next).await;
    (second.names, second.issuer) = (order.names.clone(), order.issuer);
    let open = OpenOrder { order: second.clone(), fuse: FUSE, at: world.clock.now() };
    assert_eq!(world.store.open_order(&open).await.unwrap(), Opened::Order(Box::new(second.clone())));
    // And who was taken over buries nothing.
    let stale = Claim { attempt: next.attempt + 1, ..next };
    let refused = world.store.bury(&stale, &second, &problem, &world.row().await).await;
    assert_eq!(refused, Err(LedgerError::Fenced));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_stored_once_with_everything_that_belongs_to_it() {
    let world = World::new().await;
    let (certificate, claim, order) = begun(&world, "a.example.test", LEASE).await;
    let order = world.store.advance(&order, ordered(), &[]).await.unwrap();
    let (version, audit) = (version(&world).await, world.row().await);
    for _ in 0..2 {
        world.store.store(&claim, &order, &version, &audit).await.unwrap();
    }
    let stored = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.versions), (Status::Valid, 1));
    assert_eq!(stored.version.as_ref().map(|v| (v.id, v.number)), Some((version.id, 1)));
    assert!(stored.fence > claim.fence);
    let page = cap_core::page::Page { limit: 10, after: None };
    assert_eq!(world.store.versions(certificate.id, &page).await.unwrap().items.len(), 1);
    assert!(world.store.version_material(version.id).await.unwrap().is_some());
    let job = world.store.job(world.project, claim.job).await.unwrap().unwrap();
    assert_eq!(job.state, cap_core::job::JobState::Succeeded);

    // Time alone makes it expired.
    let end = stored.version.unwrap().not_after;
    let page = cap_core::page::Page::parse::<cap_core::id::CertificateId>(None, None).unwrap();
    let before = end - Duration::from_secs(1);
    for (at, status) in [(before, Status::Valid), (end, Status::Expired)] {
        for asked in [Status::Valid, Status::Expired] {
            let found = world.store.certificates(world.project, Some(asked), at, &page).await.unwrap();
            assert_eq!(found.items.len(), usize::from(asked == status), "{asked:?} at {at}");
        }
        assert_eq!(stored.status.at(at, Some(end), false), status);
    }
    let stored = world.store.order(order.id).await.unwrap().unwrap();
    assert!(stored.key.sealed.ct.is_empty(), "the order kept the key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_for_a_certificate_that_moved_on_is_refused_whole() {
    let world = World::new().await;
    let (certificate, claim, order) = begun(&world, "a.example.test", LEASE).await;
    let order = world.store.advance(&order, ordered(), &[]).await.unwrap();
    let audit = world.row().await;
    world
        .store
        .delete_certificate(certificate.id, None, cap_store::Mutation { audit: &audit, request: None })
        .await
        .unwrap();
    let (version, audit) = (version(&world).await, world.row().await);
    assert_eq!(world.store.store(&claim, &order, &version, &audit).await, Err(LedgerError::Fenced));
    assert!(world.store.version_material(version.id).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_shows_its_problem_and_frees_the_names() {
    let world = World::new().await;
    let (certificate, claim, order) = begun(&world, "a.example.test", LEASE).await;
    let problem = Problem::new(Class::Validation, "urn:ietf:params:acme:error:connection", "refused");
    let next_attempt_at = world.clock.now();
    let failed =
        FailedAttempt { problem: problem.clone(), next_attempt_at, needs_new_key: false, is_issued: false };
    let audit = world.row().await;
    for _ in 0..2 {
        world.store.fail(&claim, &order, &failed, &audit).await.unwrap();
    }
    let stored = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.problem), (Status::Failing, Some(problem)));
    assert!(stored.next_attempt_at.is_some());
    let next = world.claim("two", LEASE).await.remove(0);
    assert_eq!((next.job, next.failures), (claim.job, 1));
    let order = world.order(&certificate, &next).await;
    let opened =
        world.store.open_order(&OpenOrder { order, fuse: FUSE, at: world.clock.now() }).await.unwrap();
    assert!(matches!(opened, Opened::Order(_)));
}

/// What the CA refused it would refuse again: the next version has a key of its own, although the certificate keeps its key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_ca_refused_is_not_kept_until_there_is_a_version_with_another() {
    let world = World::new().await;
    let (certificate, claim, order) = begun(&world, "a.example.test", LEASE).await;
    let keeps = async || {
        let mut stored = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
        stored.spec.key_reuse = true;
        stored.keeps_key()
    };
    assert!(keeps().await);
    let problem = Problem::new(Class::Protocol, "urn:ietf:params:acme:error:badPublicKey", "too small");
    let next_attempt_at = world.clock.now();
    let failed = FailedAttempt { problem, next_attempt_at, needs_new_key: true, is_issued: false };
    world.store.fail(&claim, &order, &failed, &world.row().await).await.unwrap();
    assert!(!keeps().await);

    // An order that kept its key does not bring the time back in which it may be kept.
    for kept in [true, false] {
        let claim = match kept {
            true => world.claim("two", LEASE).await.remove(0),
            false => {
                let stored = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
                world.renewing(&stored).await
            }
        };
        let stored = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
        let mut order = world.order(&stored, &claim).await;
        order.key.kept = kept;
        let open = OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() };
        assert!(matches!(world.store.open_order(&open).await.unwrap(), Opened::Order(_)));
        let order = world.store.advance(&order, ordered(), &[]).await.unwrap();
        let version = IssuedVersion { number: stored.versions + 1, ..version(&world).await };
        world.store.store(&claim, &order, &version, &world.row().await).await.unwrap();
        assert_eq!(keeps().await, !kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_challenges_are_found_with_and_without_the_stream() {
    let world = World::new().await;
    let (_, _, order) = begun(&world, "a.example.test", LEASE).await;
    let token = ChallengeToken::try_from("abc-123_".to_owned()).unwrap();
    let answer = ChallengeAnswer {
        token: token.clone(),
        key_authorization: "abc-123_.thumbprint".into(),
        project: world.project,
        order: order.id,
        expires_at: later(world.clock.now(), LEASE),
    };
    world.store.advance(&order, ordered(), std::slice::from_ref(&answer)).await.unwrap();
    // A CA may hand out the same authorization to the next order: its answer takes the place of the last one's.
    let (_, _, next) = begun(&world, "b.example.test", LEASE).await;
    let renewed = ChallengeAnswer { order: next.id, ..answer };
    world.store.advance(&next, ordered(), &[renewed]).await.unwrap();
    let cache = ChallengeCache::new(world.store.clone(), world.clock.clone());
    assert_eq!(cache.find(&token).await.unwrap().as_deref(), Some("abc-123_.thumbprint"));
    let unknown = ChallengeToken::try_from("unknown".to_owned()).unwrap();
    assert_eq!(cache.find(&unknown).await.unwrap(), None);
}
