// SPDX-License-Identifier: Apache-2.0
//! `drift scan`: one certificate, or every one; what cannot be scanned keeps no other from it.

use std::time::Duration;

use cap_client::wire::{Certificate, Job};
use cap_client::{CertificateQuery, Client, ClientError};
use cap_core::id::CertificateId;
use cap_core::job::JobState;

use super::Drifting;
use crate::app::{App, every};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{resolve, wait};

/// Certificates that the last line names; each was told before.
const NAMED: usize = 20;

/// What `drift scan` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id or one of its names; --all for every one
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "CERTIFICATE or --all")]
    certificate: Option<String>,
    /// Every certificate of the project that has a version; ends with 8 where some could not be scanned
    #[arg(long)]
    all: bool,
    /// Wait until it is looked at, and show what was seen
    #[arg(long)]
    wait: bool,
}

/// What became of scans so far.
#[derive(Debug, Default)]
struct Scans {
    queued: Vec<(CertificateId, Job)>,
    /// What was not scanned; why is told already.
    missed: Vec<CertificateId>,
    /// Why the first of them was not.
    first: Option<Failure>,
}

pub(super) async fn run(app: &mut App, client: &Client, project: &str, args: Args) -> Result<(), Failure> {
    if let Some(certificate) = &args.certificate {
        let id = resolve::certificate(client, project, certificate).await?;
        return one(app, client, project, id, args.wait).await;
    }
    let ids = with_version(app, client, project).await?;
    if app.global.dry_run {
        return ids.iter().try_for_each(|id| rehearse(app, project, *id).map(drop));
    }
    let mut scans = ask(app, client, project, &ids).await?;
    if scans.queued.is_empty()
        && let Some(first) = scans.first.take()
    {
        return Err(first);
    }
    if args.wait {
        scans.show_seen(app, client, project).await?;
    } else {
        let jobs: Vec<Job> = scans.queued.into_iter().map(|(_, job)| job).collect();
        app.output.list(&jobs, app.clock.now())?;
    }
    if scans.missed.is_empty() { Ok(()) } else { Err(partly(&scans.missed, ids.len())) }
}

async fn one(
    app: &mut App,
    client: &Client,
    project: &str,
    id: CertificateId,
    wait: bool,
) -> Result<(), Failure> {
    if rehearse(app, project, id)? {
        return Ok(());
    }
    let job = client.scan_drift(project, id).await?;
    if !wait {
        return app.output.show(&job, app.clock.now());
    }
    let deadline = app.clock.boottime() + app.global.timeout;
    let seen = Drifting(see(app, client, project, id, &job, deadline).await?);
    app.output.show(&seen, app.clock.now())
}

fn rehearse(app: &mut App, project: &str, id: CertificateId) -> Result<bool, Failure> {
    app.rehearse::<()>("POST", &["projects", project, "certificates", &id.to_string(), "drift-scan"], None)
}

/// Every certificate that has a version; those that have none are told.
async fn with_version(app: &mut App, client: &Client, project: &str) -> Result<Vec<CertificateId>, Failure> {
    let found = client.project(project).await?;
    if !found.drift.enabled {
        // Every certificate would be refused for it.
        let what = format!("drift scans are off in project {}", found.name);
        let hint =
            format!("an admin turns them on with `certautopilot project update {} --drift on`", found.name);
        return Err(Failure::new(Exit::Conflict, what, "nothing is connected to").hint(hint));
    }
    let all =
        every(async |page| client.certificates(project, &CertificateQuery { page, status: None }).await)
            .await?;
    if !all.complete {
        let what = "the project has too many certificates to scan them by one command";
        return Err(Failure::new(Exit::Error, what, "only a part of them was read, and none was scanned")
            .hint("name each, or let them be scanned at their interval"));
    }
    let (issued, other): (Vec<_>, Vec<_>) = all.items.iter().partition(|found| found.version.is_some());
    if !other.is_empty() {
        let some = other.len();
        app.output.say(&format!("{some} have no version yet, so there is nothing to look for."))?;
    }
    Ok(issued.into_iter().map(|found| found.id).collect())
}

/// Asks for the scan of each, as long as a refusal is about that one alone.
async fn ask(app: &mut App, client: &Client, project: &str, ids: &[CertificateId]) -> Result<Scans, Failure> {
    let mut scans = Scans::default();
    for (at, id) in ids.iter().enumerate() {
        match client.scan_drift(project, *id).await {
            Ok(job) => scans.queued.push((*id, job)),
            Err(error) => {
                let others_too = is_about_every(&error);
                scans.miss(app, *id, error.into())?;
                let further = &ids[at + 1..];
                if others_too && !further.is_empty() {
                    app.output.say(&format!("{} more are not asked for.", further.len()))?;
                    scans.missed.extend(further);
                    break;
                }
            }
        }
    }
    Ok(scans)
}

/// Whether the next one would fare no better: the API is away, or does not let us.
fn is_about_every(error: &ClientError) -> bool {
    let refused = match error {
        ClientError::Api(problem) => matches!(problem.status, 401 | 403),
        ClientError::Settings { .. }
        | ClientError::NoName { .. }
        | ClientError::Unreachable { .. }
        | ClientError::Protocol { .. } => true,
    };
    refused || error.is_passing()
}

/// Waits for a job; answers the certificate with what it saw.
async fn see(
    app: &mut App,
    client: &Client,
    project: &str,
    id: CertificateId,
    job: &Job,
    deadline: Duration,
) -> Result<Certificate, Failure> {
    let look = async || client.job(project, job.id).await;
    let what = format!("the scan of {id}");
    if wait::until_then(app, &what, deadline, look, wait::job).await?.state == JobState::Cancelled {
        return Err(wait::cancelled(
            &what,
            job.id,
            format!("`certautopilot drift scan {id}` queues another job"),
        ));
    }
    Ok(client.certificate(project, id).await?)
}

impl Scans {
    fn miss(&mut self, app: &mut App, id: CertificateId, why: Failure) -> Result<(), Failure> {
        app.output.say(&format!("{id} is not scanned: {why}"))?;
        self.missed.push(id);
        self.first.get_or_insert(why);
        Ok(())
    }

    /// Waits for the jobs and shows what they saw; once one is late, for no further one.
    async fn show_seen(&mut self, app: &mut App, client: &Client, project: &str) -> Result<(), Failure> {
        let (mut seen, mut late) = (Vec::with_capacity(self.queued.len()), None);
        let deadline = app.clock.boottime() + app.global.timeout;
        for (id, job) in std::mem::take(&mut self.queued) {
            match see(app, client, project, id, &job, deadline).await {
                Ok(certificate) => seen.push(Drifting(certificate)),
                Err(failure) if failure.exit() == Exit::Timeout => {
                    late = Some(failure);
                    break;
                }
                Err(failure) => self.miss(app, id, failure)?,
            }
        }
        app.output.list(&seen, app.clock.now())?;
        late.map_or(Ok(()), Err)
    }
}

/// What the command ends with where it was done for some only.
fn partly(missed: &[CertificateId], all: usize) -> Failure {
    let mut named: Vec<String> = missed.iter().take(NAMED).map(ToString::to_string).collect();
    if missed.len() > NAMED {
        named.push(format!("and {} more", missed.len() - NAMED));
    }
    let what = format!("{} of {all} certificates were not scanned", missed.len());
    Failure::new(Exit::Partly, what, named.join(", "))
        .hint("above is why; scan each by its id once that is mended, or all of them again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_all_and_names_so_many() {
        let ids = |count: u32| -> Vec<CertificateId> {
            (0..count).map(|n| format!("crt_{n:032x}").parse().unwrap()).collect()
        };
        let failure = partly(&ids(2), 3);
        assert_eq!(failure.exit(), Exit::Partly);
        let named = format!("2 of 3 certificates were not scanned: crt_{:032x}, crt_{:032x}\n", 0, 1);
        assert!(failure.to_string().starts_with(&named), "{failure}");
        let text = partly(&ids(25), 30).to_string();
        assert!(text.contains(&format!("crt_{:032x}, and 5 more\n", 19)), "{text}");
    }
}
