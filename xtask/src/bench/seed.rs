// SPDX-License-Identifier: Apache-2.0
//! What a bench works on. A job has the shape that the store gives it: the store makes one, which the others copy.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cap_core::certificate::{ChallengeType, KeyType, Names, Spec, Status};
use cap_core::clock::later;
use cap_core::envelope::Slot;
use cap_core::id::{CertificateId, IssuerId, JobId, ProjectId, VersionId};
use cap_core::issuer::{IssuerSpec, IssuerStatus};
use cap_core::job::{JobDraft, Work, partition};
use cap_store::{CertificateRecord, IssuerRecord, Mutation, VersionRecord};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc, serialize_to_document};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::ground::World;

/// Records of one command: the driver splits no further, and a secondary keeps up.
const BATCH: usize = 1_000;
/// Commands under way at once.
const LOADERS: usize = 4;
/// Between two lines about a load that takes long.
const SAID_EVERY: usize = 1_000_000;
/// Jobs fell due over so long.
const DAY_MS: i64 = 86_400_000;
/// What waits for its release: no run of a bench takes as long.
const HELD_BACK: Duration = Duration::from_secs(86_400);
/// How long a certificate of a short life lives, and when it is renewed.
const LIFE: Duration = Duration::from_secs(45 * 86_400);

/// A job to copy, and the issuer that it works on.
pub(crate) struct Template {
    pub(crate) job: Document,
    issuer: IssuerRecord,
}

impl World {
    /// A new issuer whose account is not registered yet; its key opens in its own place only.
    pub(crate) async fn issuer(&self) -> anyhow::Result<IssuerRecord> {
        let id = IssuerId::generate(self.clock.as_ref(), self.entropy.as_ref());
        let slot = Slot::account_key(self.project, id);
        let keyring = &self.cluster.keyring;
        Ok(IssuerRecord {
            id,
            project: self.project,
            name: id.to_string().replace('_', "-").parse()?,
            spec: IssuerSpec::new("https://ca.bench.invalid/directory".parse()?, None, vec![])?,
            account_key: keyring.seal(&slot, &[7; 138]).await?,
            external: None,
            rollover: None,
            rolled_at: None,
            hold: None,
            account_url: None,
            status: IssuerStatus::Registering,
            problem: None,
            next_attempt_at: None,
            fence: 0,
            created_at: self.clock.now(),
        })
    }

    /// Queues the registration of an issuer as the api does.
    pub(crate) async fn enqueue(&self, issuer: &IssuerRecord, after: Duration) -> anyhow::Result<()> {
        let work = Work::RegisterIssuer { issuer: issuer.id };
        let mut job = JobDraft::now(self.project, work, 0, self.clock.as_ref(), self.entropy.as_ref());
        job.after = after;
        let audit = self.row().await?;
        let mutation = Mutation { audit: &audit, request: None };
        Ok(self.cluster.store.create_issuer(issuer, &job, mutation).await?)
    }

    /// The shape of a job that waits; nothing of it stays in the database.
    pub(crate) async fn template(&self) -> anyhow::Result<Template> {
        let issuer = self.issuer().await?;
        self.enqueue(&issuer, HELD_BACK).await?;
        let own = doc! { "subject": issuer.id.to_string() };
        let job = self.collection("jobs").find_one_and_delete(own).await?.context("the job is not there")?;
        self.collection("issuers").delete_one(doc! { "_id": issuer.id.to_string() }).await?;
        Ok(Template { job, issuer })
    }

    /// Queues so many jobs of a project of their own, each on an issuer of its own, held back until they are released.
    pub(crate) async fn hold_back(&self, template: &Template, count: usize) -> anyhow::Result<ProjectId> {
        let project = ProjectId::generate(self.clock.as_ref(), self.entropy.as_ref());
        let (mut issuers, mut jobs) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..count {
            let id = IssuerId::generate(self.clock.as_ref(), self.entropy.as_ref());
            let slot = Slot::account_key(project, id);
            let keyring = &self.cluster.keyring;
            let account_key = keyring.seal(&slot, &[7; 138]).await?;
            let name = id.to_string().replace('_', "-").parse()?;
            let issuer = IssuerRecord { id, project, name, account_key, ..template.issuer.clone() };
            issuers.push(serialize_to_document(&issuer)?);
            jobs.push(self.copy(&template.job, project, id));
        }
        self.load("issuers", issuers.len(), move |n| issuers[n].clone()).await?;
        self.load("jobs", jobs.len(), move |n| jobs[n].clone()).await?;
        Ok(project)
    }

    /// A copy of a job, of another project and on another issuer.
    pub(crate) fn copy(&self, job: &Document, project: ProjectId, issuer: IssuerId) -> Document {
        let id = JobId::generate(self.clock.as_ref(), self.entropy.as_ref());
        let mut copy = job.clone();
        copy.insert("_id", id.to_string());
        copy.insert("project", project.to_string());
        copy.insert("lists", lists(&project, &issuer, copy.get_str("state").unwrap_or_default()));
        copy.insert("subject", issuer.to_string());
        copy.insert("key", Work::RegisterIssuer { issuer }.key());
        copy.insert("p", i32::from(partition(id)));
        copy.insert("work", doc! { "kind": "register-issuer", "issuer": issuer.to_string() });
        copy
    }

    /// A copy of a job on an issuer that nobody made.
    pub(crate) fn copy_alone(&self, job: &Document) -> Document {
        let issuer = IssuerId::generate(self.clock.as_ref(), self.entropy.as_ref());
        self.copy(job, self.project, issuer)
    }

    /// Makes a project's jobs due, longer than any other: at some time of the day before the last one.
    pub(crate) async fn release(&self, project: ProjectId) -> anyhow::Result<()> {
        let ago = doc! { "$multiply": [{ "$add": [1, { "$rand": {} }] }, DAY_MS] };
        let since = doc! { "$subtract": ["$$NOW", { "$toLong": ago }] };
        let own = doc! { "lists": living(project), "state": "queued" };
        self.collection("jobs").update_many(own, vec![doc! { "$set": { "claim_at": since } }]).await?;
        Ok(())
    }

    /// Puts records into a collection, many at a time, and says how far it is where that takes long.
    pub(crate) async fn load(
        &self,
        collection: &str,
        count: usize,
        record: impl Fn(usize) -> Document,
    ) -> anyhow::Result<()> {
        let records = self.collection(collection);
        let batches = (0..count).step_by(BATCH).map(|from| {
            let batch: Vec<Document> = (from..count.min(from + BATCH)).map(&record).collect();
            let records = records.clone();
            async move {
                records.insert_many(batch).ordered(false).await?;
                if (from + BATCH).is_multiple_of(SAID_EVERY) {
                    cap_testkit::progress::say(format_args!("{} of {count} are there", from + BATCH));
                }
                anyhow::Ok(())
            }
        });
        stream::iter(batches).buffer_unordered(LOADERS).try_collect::<()>().await.context("loading")?;
        Ok(())
    }

    /// A certificate that is due at `renew_at`.
    pub(crate) fn certificate(&self, n: usize, renew_at: Timestamp) -> anyhow::Result<Document> {
        let (clock, entropy) = (self.clock.as_ref(), self.entropy.as_ref());
        let number = i32::try_from(n)?;
        let issued_at =
            later(renew_at, Duration::ZERO).checked_sub(jiff::SignedDuration::try_from(LIFE)? * 2 / 3)?;
        let spec = Spec {
            names: Names::parse(vec![format!("host-{number}.bench.test")])?,
            key_type: KeyType::EcdsaP256,
            key_reuse: false,
            challenge: ChallengeType::Http01,
            profile: None,
            preferred_chain: None,
            auto_renew: true,
        };
        let version = VersionRecord {
            id: VersionId::generate(clock, entropy),
            number: 1,
            serial: format!("{number:032x}"),
            fingerprint_sha256: format!("{number:064x}"),
            spki_sha256: None,
            not_before: issued_at,
            not_after: later(issued_at, LIFE),
            issued_at,
            issuer: None,
            ari_id: None,
            chain_issuer: None,
            revocation: None,
        };
        let certificate = CertificateRecord {
            id: CertificateId::generate(clock, entropy),
            project: self.project,
            issuer: IssuerId::generate(clock, entropy),
            spec,
            status: Status::Valid,
            problem: None,
            next_attempt_at: None,
            version: Some(version),
            renew_at: Some(renew_at),
            versions: 1,
            order: None,
            watched: vec![],
            new_key: false,
            fence: 1,
            drift: cap_store::DriftRecord::default(),
            renewal_info: cap_store::RenewalInfoRecord::default(),
            created_at: issued_at,
            updated_at: issued_at,
        };
        ensure!(renew_at > issued_at, "a certificate is issued before it is due");
        let mut certificate = serialize_to_document(&certificate)?;
        certificate.insert("plan_at", DateTime::from_millis(renew_at.as_millisecond()));
        Ok(certificate)
    }
}

/// The lists of a job that registers an issuer, as the store keeps them.
fn lists(project: &ProjectId, issuer: &IssuerId, state: &str) -> [String; 4] {
    let in_state = if state == "queued" { living(*project) } else { format!("{project}/{state}") };
    [project.to_string(), in_state, format!("{project}/register-issuer"), issuer.to_string()]
}

/// The list of a project's jobs that are not over.
pub(crate) fn living(project: ProjectId) -> String {
    format!("{project}/living")
}
