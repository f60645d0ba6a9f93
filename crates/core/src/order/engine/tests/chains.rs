// SPDX-License-Identifier: Apache-2.0
//! Which chain is taken, of what a CA offers.

use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, Issuer, KeyPair};
use rustls_pki_types::CertificateSigningRequestDer;

use super::super::Outcome;
use super::world::{Answer, World, problem, ready, refused};
use crate::certificate::{ChainName, KeyMaterial, KeyType};
use crate::clock::{Clock, later};
use crate::job::{Setbacks, Settlement, Sort, count_of};
use crate::limits;
use crate::order::{CaError, Seen};

/// The key of the order, and a certificate for it by a CA of this name.
struct Ca {
    material: KeyMaterial,
}

impl Ca {
    fn new() -> Self {
        let names = ["a.example.test".parse().unwrap()];
        Self { material: KeyMaterial::generate(KeyType::EcdsaP256, &names).unwrap() }
    }

    fn chain(&self, root: &str) -> Answer<String> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, root);
        let csr = CertificateSigningRequestDer::from(self.material.csr.clone());
        let mut request = CertificateSigningRequestParams::from_der(&csr).unwrap();
        let at = |second| rcgen::date_time_ymd(second, 1, 1);
        (request.params.not_before, request.params.not_after) = (at(2026), at(2030));
        let issued = request.signed_by(&Issuer::new(params, KeyPair::generate().unwrap()));
        Some(Ok(issued.unwrap().pem()))
    }

    /// An order that is valid, of whose chains `wanted` is preferred.
    fn world(&self, wanted: &str, default: &str, alternates: Vec<Answer<String>>) -> World {
        let mut world = World::new(ready(3_600)).keyed(&self.material).tell(|ca| {
            ca.looks = [Some(Ok(Seen::Valid.into()))].into();
            ca.certificate = self.chain(default);
            let numbered = alternates.into_iter().enumerate();
            ca.alternates =
                numbered.map(|(n, answer)| (format!("https://ca.example.test/{n}"), answer)).collect();
        });
        world.preferred_chain = Some(ChainName::try_from(wanted.to_owned()).unwrap());
        world
    }
}

fn taken(world: &World) -> Option<String> {
    assert_eq!(world.run(), Outcome::Stored);
    world.book.stored.lock().unwrap()[0].issued.chain_issuer.clone()
}

#[test]
fn the_first_chain_of_the_preferred_name_is_taken_and_none_beyond_it_is_asked_for() {
    let ca = Ca::new();
    let world =
        ca.world("Root B", "Root A", vec![ca.chain("Root C"), ca.chain("Root B"), ca.chain("Root B")]);
    assert_eq!(taken(&world).as_deref(), Some("Root B"));
    assert_eq!(world.followed().len(), 2);
    let world = ca.world("Root A", "Root A", vec![ca.chain("Root B")]);
    assert_eq!(taken(&world).as_deref(), Some("Root A"));
    assert!(world.followed().is_empty(), "the default one is it");
}

#[test]
fn where_there_is_none_of_that_name_the_default_is_taken_and_the_version_says_which() {
    let ca = Ca::new();
    for alternates in [vec![], vec![ca.chain("Root B")], vec![refused(), Some(Ok("hello".to_owned()))]] {
        let world = ca.world("Root X", "Root A", alternates);
        assert_eq!(taken(&world).as_deref(), Some("Root A"));
    }
}

#[test]
fn a_chain_for_another_key_is_not_taken_whatever_it_is_called() {
    let (ca, other) = (Ca::new(), Ca::new());
    let world = ca.world("Root B", "Root A", vec![other.chain("Root B")]);
    assert_eq!(taken(&world).as_deref(), Some("Root A"));
}

#[test]
fn no_more_chains_are_asked_for_than_the_bound() {
    let ca = Ca::new();
    let many = (0..limits::CHAIN_ALTERNATES * 2).map(|_| ca.chain("Root B")).collect();
    let world = ca.world("Root X", "Root A", many);
    assert_eq!(taken(&world).as_deref(), Some("Root A"));
    assert_eq!(world.followed().len(), limits::CHAIN_ALTERNATES);
}

#[test]
fn a_chain_is_waited_for_as_long_as_the_ca_asks_unless_that_is_long() {
    let ca = Ca::new();
    for (wait, is_waited) in [(limits::CHAIN_WAIT, true), (limits::CHAIN_WAIT * 2, false)] {
        let world = ca.world("Root B", "Root A", vec![]);
        let at = later(world.clock.now(), wait);
        let busy = Some(Err(CaError::Later { problem: problem(), at }));
        let world = ca.world("Root B", "Root A", vec![busy]);
        if is_waited {
            let outcome = world.run();
            assert!(
                matches!(outcome, Outcome::Settle(Settlement::Again { after, .. }) if after == wait),
                "{outcome:?}"
            );
        } else {
            assert_eq!(taken(&world).as_deref(), Some("Root A"));
        }
    }
}

#[test]
fn a_chain_that_does_not_come_is_waited_for_a_few_times_and_costs_no_certificate() {
    let ca = Ca::new();
    let passing = || Some(Err(CaError::Transient(problem())));
    for count in 0..=limits::CHAIN_FAULTS {
        let mut world = ca.world("Root B", "Root A", vec![passing(), ca.chain("Root C")]);
        let none = Setbacks::none(world.clock.now());
        world.claim.setbacks = Some(Setbacks { count: 9, ..none.times(Sort::Chain, count) });
        if count < limits::CHAIN_FAULTS {
            let outcome = world.run();
            let Outcome::Settle(Settlement::Again { setbacks, .. }) = outcome else { panic!("{outcome:?}") };
            assert_eq!(count_of(setbacks, Sort::Chain), count + 1);
            assert!(world.book.stored.lock().unwrap().is_empty());
        } else {
            assert_eq!(taken(&world).as_deref(), Some("Root A"));
        }
    }
}
