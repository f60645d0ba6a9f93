// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask tidy`: what the compiler does not check. Each check is a pure function of what was read, and its
//! tests break it on purpose.

mod drivers;
mod metrics;
mod migrations;
mod purity;
mod sources;
mod wall;

use std::process::ExitCode;

use cargo_metadata::{DependencyKind, Metadata};

use crate::workspace;

/// One thing that is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    place: String,
    problem: String,
}

impl Finding {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

/// A workspace package, as far as the checks look at it.
#[derive(Clone, Debug)]
struct Package {
    name: String,
    manifest: String,
    dependencies: Vec<Dependency>,
}

/// A direct dependency.
#[derive(Clone, Debug)]
struct Dependency {
    name: String,
    dev: bool,
    features: Vec<String>,
}

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let root = workspace::root()?;
    let packages = packages_of(&workspace::metadata()?);
    let files = sources::read(&root)?;
    let mut findings = wall::check(&packages);
    findings.extend(drivers::check(&packages));
    findings.extend(purity::check(&packages));
    findings.extend(sources::check(&files));
    findings.extend(migrations::check(&files));
    findings.extend(metrics::check(&files));
    for finding in &findings {
        eprintln!("{}: {}", finding.place, finding.problem);
    }
    if findings.is_empty() {
        println!("tidy: {} packages and {} files are in order", packages.len(), files.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} findings", findings.len());
    Ok(ExitCode::FAILURE)
}

fn packages_of(metadata: &Metadata) -> Vec<Package> {
    let root = metadata.workspace_root.as_str();
    let packages = metadata.workspace_packages().into_iter().map(|package| Package {
        name: package.name.to_string(),
        manifest: package.manifest_path.as_str().trim_start_matches(root).trim_start_matches('/').to_owned(),
        dependencies: package
            .dependencies
            .iter()
            .map(|dependency| Dependency {
                name: dependency.name.clone(),
                dev: dependency.kind == DependencyKind::Development,
                features: dependency.features.clone(),
            })
            .collect(),
    });
    packages.collect()
}

#[cfg(test)]
impl Package {
    fn with(name: &str, dependencies: &[&str]) -> Self {
        let dependency =
            |name: &&str| Dependency { name: (*name).to_owned(), dev: false, features: Vec::new() };
        Self {
            name: name.into(),
            manifest: format!("{name}/Cargo.toml"),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }
}
