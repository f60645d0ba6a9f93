// SPDX-License-Identifier: Apache-2.0
//! Who of ours may lean on whom. The table is docs/ARCHITECTURE.md's.

use super::{Finding, Package};

const TESTKIT: &str = "cap-testkit";
const OURS: &str = "cap-";
/// These two may use everything of ours.
const UNBOUND: &[&str] = &[TESTKIT, "xtask"];

/// A crate, and what it may use of ours.
const WALL: &[(&str, &[&str])] = &[
    ("cap-core", &[]),
    ("cap-store", &["cap-core"]),
    ("cap-acme", &["cap-core"]),
    ("cap-connectors", &["cap-core"]),
    ("cap-model", &["cap-core"]),
    ("cap-runtime", &["cap-core"]),
    ("cap-client", &["cap-core"]),
    ("cap-boot", &["cap-core", "cap-store", "cap-connectors", "cap-runtime"]),
    ("cap-api", &["cap-boot", "cap-core", "cap-store", "cap-client", "cap-runtime"]),
    ("cap-worker", &["cap-boot", "cap-core", "cap-store", "cap-acme", "cap-connectors", "cap-runtime"]),
    ("cap-scheduler", &["cap-boot", "cap-core", "cap-store", "cap-runtime"]),
    ("cap-cli", &["cap-boot", "cap-client", "cap-core", "cap-store", "cap-connectors", "cap-runtime"]),
];

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().filter(|package| !UNBOUND.contains(&package.name.as_str())).flat_map(check_one).collect()
}

fn check_one(package: &Package) -> Vec<Finding> {
    let Some((_, allowed)) = WALL.iter().find(|(name, _)| *name == package.name) else {
        let problem = "is not in the table of who may lean on whom: add it in xtask/src/tidy/wall.rs and in ARCHITECTURE";
        return vec![Finding::new(&package.manifest, problem)];
    };
    // What only tests use is free: a test may put together what the product keeps apart.
    let shipped = package.dependencies.iter().filter(|dependency| !dependency.dev);
    let ours = shipped.filter(|dependency| dependency.name.starts_with(OURS));
    let refused = ours.filter(|dependency| !allowed.contains(&dependency.name.as_str()));
    refused
        .map(|dependency| {
            let problem = format!(
                "{} may not use {}: move the code to where it belongs, or pass a port of core's",
                package.name, dependency.name
            );
            Finding::new(&package.manifest, problem)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_as_it_should_be() {
        let mut store = Package::with("cap-store", &["cap-core", "mongodb", TESTKIT]);
        store.dependencies[2].dev = true;
        let packages =
            [store, Package::with("cap-client", &["cap-core"]), Package::with("xtask", &[TESTKIT])];
        assert_eq!(check(&packages), []);
    }

    #[test]
    fn a_crate_that_climbs_over_is_found() {
        for (name, over) in [
            ("cap-store", "cap-acme"),
            ("cap-core", "cap-store"),
            ("cap-api", "cap-connectors"),
            ("cap-worker", "cap-client"),
        ] {
            let findings = check(&[Package::with(name, &[over])]);
            assert_eq!(findings.len(), 1, "{name} on {over}");
            assert!(findings[0].problem.contains(over));
        }
    }

    #[test]
    fn testkit_in_a_shipped_crate_is_found() {
        assert_eq!(check(&[Package::with("cap-api", &["cap-boot", TESTKIT])]).len(), 1);
    }

    #[test]
    fn a_crate_that_nobody_placed_is_found() {
        assert_eq!(check(&[Package::with("cap-surprise", &[])]).len(), 1);
    }
}
