// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask drill`: breaks a running system on purpose, again and again, and judges what was promised.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use cap_testkit::ca::CaKind;
use cap_testkit::drill::{self, Drill, Figures, Form, Run};
use cap_testkit::progress::say;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::cargo;

/// Runs every drill.
const ALL: &str = "all";
/// What a shell says of a command that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;
/// The longest that one injection takes with everything around it; a drill that takes longer hangs.
const INJECTION_LIMIT: Duration = Duration::from_secs(600);

/// That of this program, beside which the binaries are looked for: those of another have no failpoints.
const OWN_PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// What to break, and how often.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// Which drill, or `all`.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// How often the fault is injected; else as often as `--list` says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
    /// As in the tests: short leases, few injections, judged by what is promised alone.
    #[arg(long)]
    short: bool,
    /// Against which CA: pebble, or step-ca where the drill can.
    #[arg(long, default_value = "pebble")]
    ca: CaKind,
    /// Show every drill, what it does, and how often in the tests and in a soak.
    #[arg(long, conflicts_with_all = ["name", "count", "short"])]
    list: bool,
}

pub(crate) async fn run(args: DrillArgs) -> anyhow::Result<ExitCode> {
    let Some(name) = args.name.as_deref().filter(|_| !args.list) else {
        list();
        return Ok(ExitCode::SUCCESS);
    };
    let chosen = chosen(name)?;
    if let Some(bound) = chosen.iter().find(|drill| args.ca != CaKind::Pebble && !drill.any_ca) {
        let can: Vec<&str> = drill::ALL.iter().filter(|drill| drill.any_ca).map(|drill| drill.name).collect();
        bail!(
            "{} runs against Pebble alone; against {} run {}",
            bound.name,
            args.ca.name(),
            can.join(" or ")
        );
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Whichever ends first: what was started is dropped with the future that did not, and dies with it.
    tokio::select! {
        done = each(&chosen, &args) => done,
        _ = interrupt.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
    }
}

fn chosen(name: &str) -> anyhow::Result<Vec<&'static Drill>> {
    if name == ALL {
        return Ok(drill::ALL.iter().collect());
    }
    let Some(drill) = drill::find(name) else {
        let names: Vec<&str> = drill::ALL.iter().map(|drill| drill.name).collect();
        bail!("there is no drill {name:?}; there are {}, and {ALL}", names.join(", "));
    };
    Ok(vec![drill])
}

fn list() {
    for drill in drill::ALL {
        println!("{}  (test {}, soak {})", drill.name, drill.short, drill.soak);
        println!("    injects: {}", drill.injects);
        println!("    must hold: {}", drill.must_hold);
    }
}

async fn each(chosen: &[&Drill], args: &DrillArgs) -> anyhow::Result<ExitCode> {
    say("building the binaries, with the drills' failpoints");
    cargo::run(&["build", "--workspace", "--bins", "--all-features", "--profile", OWN_PROFILE]).await?;
    let mut verdicts = Vec::new();
    for drill in chosen {
        let form = if args.short { Form::Short } else { Form::Soak };
        let mut run = drill.usual(form);
        run.ca = args.ca;
        run.count = args.count.unwrap_or(run.count);
        say(format_args!("drill {}: {} times: {}", drill.name, run.count, drill.injects));
        let began = Instant::now();
        let verdict = one(drill, run).await;
        show(drill.name, &verdict, began.elapsed());
        verdicts.push((drill.name, verdict));
    }
    let met = |verdict: &anyhow::Result<Figures>| verdict.as_ref().is_ok_and(Figures::are_met);
    let failed: Vec<&str> = verdicts.iter().filter(|(_, v)| !met(v)).map(|(name, _)| *name).collect();
    match verdicts.as_slice() {
        [(name, Ok(figures))] => println!("drill {name}: {figures}"),
        [(name, Err(error))] => println!("drill {name}: MISSED: {error:#}"),
        _ if failed.is_empty() => println!("drill {ALL}: met: {} of {}", verdicts.len(), verdicts.len()),
        _ => println!("drill {ALL}: MISSED: {} of {}: {}", failed.len(), verdicts.len(), failed.join(", ")),
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn one(drill: &Drill, run: Run) -> anyhow::Result<Figures> {
    let limit = INJECTION_LIMIT * run.count.saturating_add(1);
    let done = tokio::time::timeout(limit, (drill.run)(run)).await;
    done.with_context(|| format!("it was not done after {limit:?}"))?
}

fn show(name: &str, verdict: &anyhow::Result<Figures>, took: Duration) {
    println!("\ndrill {name}, {:.0} s", took.as_secs_f64());
    match verdict {
        Ok(figures) => figures.iter().for_each(|figure| println!("  {figure}")),
        Err(error) => println!("  it could not be run to its end: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_drill_or_all_of_them_or_an_error_that_names_them() {
        assert_eq!(chosen(ALL).unwrap().len(), drill::ALL.len());
        assert_eq!(chosen("leader").unwrap()[0].name, "leader");
        assert!(chosen("reader").unwrap_err().to_string().contains("leader"));
    }
}
