// SPDX-License-Identifier: Apache-2.0
//! A driver lives in one crate. What it would mean to change the driver is then the size of that crate.

use super::{Finding, Package};

/// A driver, and the crates that may name it.
const DRIVERS: &[(&str, &[&str])] = &[
    ("mongodb", &["cap-store"]),
    ("bson", &["cap-store"]),
    ("instant-acme", &["cap-acme"]),
    // Walled off before they come.
    ("kube", &[]),
    ("k8s-openapi", &[]),
];

/// They drive faults into the real thing, and compare with it.
const EXEMPT: &[&str] = &["cap-testkit", "xtask"];

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| !EXEMPT.contains(&package.name.as_str())) {
        for (driver, homes) in DRIVERS {
            let names_it = package.dependencies.iter().any(|dependency| dependency.name == *driver);
            if names_it && !homes.contains(&package.name.as_str()) {
                let problem = match homes {
                    [] => format!(
                        "{driver} has no home yet: give it a crate of its own, in xtask/src/tidy/drivers.rs"
                    ),
                    _ => format!("only {} may name {driver}: go through a port", homes.join(", ")),
                };
                findings.push(Finding::new(&package.manifest, problem));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_at_home_are_fine() {
        let packages = [
            Package::with("cap-store", &["mongodb", "bson"]),
            Package::with("cap-acme", &["instant-acme"]),
            Package::with("cap-testkit", &["mongodb", "instant-acme"]),
        ];
        assert_eq!(check(&packages), []);
    }

    #[test]
    fn a_driver_abroad_is_found_also_for_tests() {
        let mut package = Package::with("cap-api", &["mongodb"]);
        package.dependencies[0].dev = true;
        assert_eq!(check(&[package]).len(), 1);
        assert_eq!(check(&[Package::with("cap-worker", &["instant-acme"])]).len(), 1);
        assert_eq!(check(&[Package::with("cap-store", &["kube"])]).len(), 1);
    }
}
