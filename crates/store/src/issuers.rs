// SPDX-License-Identifier: Apache-2.0
//! Issuers and the registration of their accounts.

mod account;

use bson::{Document, doc};
use cap_core::audit::Row;
use cap_core::certificate::Names;
use cap_core::envelope::Sealed;
use cap_core::id::{CertificateId, IssuerId, ProjectId};
use cap_core::issuer::{Contact, ExternalKeyId, Hold, IssuerSpec, IssuerStatus, TrustRoots};
use cap_core::job::{Claim, JobDraft};
use cap_core::name::Label;
use cap_core::page::{Page, Slice};
use cap_core::problem::Problem;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{as_date, as_date_option, bson, date, document, read};
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::orders::budget;
use crate::transaction::{Transaction, transact};
use crate::{Store, bounded};

pub use account::{HoldRecord, Rolled, RolloverRecord};

/// How many of the certificates that use an issuer are named to whom wants to delete it.
const USERS_NAMED: i64 = 3;

/// An issuer as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRecord {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: IssuerId,
    /// Whose.
    pub project: ProjectId,
    /// Its name.
    pub name: Label,
    /// How to reach the CA.
    pub spec: IssuerSpec,
    /// The account's key, sealed before the account exists.
    pub account_key: Sealed,
    /// What its registration is bound to; nothing in what an earlier version has stored.
    #[serde(default)]
    pub external: Option<ExternalRecord>,
    /// The key that it is to have next.
    #[serde(default)]
    pub rollover: Option<RolloverRecord>,
    /// When it took the key that it has, unless it was registered with it.
    #[serde(default, with = "as_date_option")]
    pub rolled_at: Option<Timestamp>,
    /// Why it is not used for orders.
    #[serde(default)]
    pub hold: Option<HoldRecord>,
    /// The account's URL, once it is registered, and as long as it is not on hold.
    pub account_url: Option<String>,
    /// How far it is.
    pub status: IssuerStatus,
    /// Why it is failing.
    pub problem: Option<Problem>,
    /// When registration is tried again.
    #[serde(with = "as_date_option")]
    pub next_attempt_at: Option<Timestamp>,
    /// The fence that the last job on it left behind.
    pub fence: i64,
    /// When it was made.
    #[serde(with = "as_date")]
    pub created_at: Timestamp,
}

/// An external account (RFC 8555, 7.3.4) as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRecord {
    /// What the CA calls it.
    pub kid: ExternalKeyId,
    /// The key that the CA handed out with it, sealed.
    pub hmac_key: Sealed,
}

/// What may be changed about an issuer; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct IssuerChange {
    /// What the CA's HTTPS server is trusted by; the public roots when it is to be unset.
    pub trust_roots: Option<Option<TrustRoots>>,
    /// Whom the CA may write to.
    pub contacts: Option<Vec<Contact>>,
    /// What its registration is bound to, as long as it is not registered.
    pub external: Option<Option<ExternalRecord>>,
}

impl IssuerChange {
    /// Whether what changes is by what the CA's server is trusted, and nothing else.
    #[must_use]
    pub fn is_of_trust(&self) -> bool {
        self.trust_roots.is_some() && self.contacts.is_none() && self.external.is_none()
    }
}

/// A certificate that uses an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IssuerUser {
    /// Its id.
    #[serde(rename = "_id")]
    pub certificate: CertificateId,
    /// Its names.
    pub names: Names,
}

/// What became of removing an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerDeleted {
    /// It is gone.
    Gone,
    /// It is still there: these certificates, and perhaps others, use it.
    Used(Vec<IssuerUser>),
    /// It is still there: the CA is being asked to deactivate its account.
    BeingDeactivated,
    /// It is still there: its account is taking another key.
    BeingRolled,
}

/// What a registration came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// The account is at this URL.
    Ready(String),
    /// It failed, and is tried again then.
    Failing(Problem, Timestamp),
    /// The account is at this URL, and the CA does not take what it was told of it; that is tried again then.
    Accepted(String, Problem, Timestamp),
    /// The CA does not accept the account, which is on hold from now on; it is asked again then.
    Refused(Problem, Timestamp),
}

impl IssuerChange {
    fn apply(&self, spec: &IssuerSpec) -> IssuerSpec {
        IssuerSpec {
            directory: spec.directory.clone(),
            trust_roots: self.trust_roots.clone().unwrap_or_else(|| spec.trust_roots.clone()),
            contacts: self.contacts.clone().unwrap_or_else(|| spec.contacts.clone()),
        }
    }
}

impl IssuerRecord {
    /// What goes on at the CA for as long as nothing is known to be in its way: what is, is shown until it is overcome.
    fn stands_against_deleting(&self) -> Option<IssuerDeleted> {
        if self.status == IssuerStatus::Failing || self.next_attempt_at.is_some() {
            return None;
        }
        match self.why_held() {
            Some(Hold::Deactivating) => Some(IssuerDeleted::BeingDeactivated),
            Some(Hold::Deactivated) => None,
            Some(Hold::Refused) | None => self.is_rolling().then_some(IssuerDeleted::BeingRolled),
        }
    }
}

impl Store {
    /// Adds an issuer and the job that registers its account.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the project has an issuer of that name.
    pub async fn create_issuer(
        &self,
        issuer: &IssuerRecord,
        job: &JobDraft,
        mutation: Mutation<'_>,
    ) -> Result<(), StoreError> {
        let fact = Fact::new("create an issuer")
            .insert("issuers", document("issuers", issuer)?)
            .queueing(job)?
            .accompanied(&mutation);
        let result = self.write(fact).await;
        self.replayed(&mutation, result).await
    }

    /// A project's issuer with this id or name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn issuer(
        &self,
        project: ProjectId,
        id_or_name: &str,
    ) -> Result<Option<IssuerRecord>, StoreError> {
        const DOING: &str = "read an issuer";
        let found = match (id_or_name.parse::<IssuerId>(), id_or_name.parse::<Label>()) {
            (Ok(id), _) => self.record_of(DOING, "issuers", project, &id.to_string()).await?,
            (_, Ok(name)) => {
                let named = doc! { "name": name.to_string(), "project": project.to_string() };
                bounded(DOING, self.collection::<Document>("issuers").find_one(named)).await?
            }
            _ => None,
        };
        found.map(|document| read("issuers", document)).transpose()
    }

    /// A page of a project's issuers.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn issuers(&self, project: ProjectId, page: &Page) -> Result<Slice<IssuerRecord>, StoreError> {
        let filter = doc! { "project": project.to_string() };
        self.list("issuers", filter, page, |issuer: &IssuerRecord| issuer.id.to_string()).await
    }

    /// Changes an issuer's settings, and registers its account again by `job` unless it is ready and nothing has changed. Answers
    /// whether it is still there.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not as `seen` any more.
    pub async fn update_issuer(
        &self,
        id: IssuerId,
        seen: Option<&IssuerRecord>,
        change: &IssuerChange,
        job: &JobDraft,
        mutation: Mutation<'_>,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "update an issuer";
        let updated = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            let issuers = self.collection::<Document>("issuers");
            let own = doc! { "_id": id.to_string() };
            let found = issuers.find_one(own.clone()).session(&mut transaction.session).await;
            let Some(found) = found.map_err(&failed)? else { return Ok(false) };
            let now: IssuerRecord = read("issuers", found)?;
            if seen.is_some_and(|seen| *seen != now) {
                let what = "the issuer changed in the same moment".to_owned();
                return Err(StoreError::Conflict { doing: DOING, what }.into());
            }
            if change.external.is_some() && now.keeps_binding() {
                let what = "the issuer's account was registered in the same moment".to_owned();
                return Err(StoreError::Conflict { doing: DOING, what }.into());
            }
            let is_leaving = now.why_held() == Some(Hold::Deactivating) && change.is_of_trust();
            if matches!(now.why_held(), Some(Hold::Deactivating | Hold::Deactivated)) && !is_leaving {
                let what = "the issuer was deactivated in the same moment".to_owned();
                return Err(StoreError::Conflict { doing: DOING, what }.into());
            }
            let spec = change.apply(&now.spec);
            let mut set = doc! {
                "spec": bson("issuers", &spec)?, "last_event": mutation.audit.event.to_string(),
            };
            if let Some(external) = &change.external {
                set.insert("external", bson("issuers", external)?);
            }
            let mut facts = vec![Fact::new(DOING).accompanied(&mutation)];
            if is_leaving {
                // The CA can be told now, perhaps.
                if self.hasten_job(&mut transaction, &job.work.key()).await?.is_none() {
                    facts.push(self.replacing(&mut transaction, DOING, now.fence, job).await?);
                }
            } else if now.status != IssuerStatus::Ready || spec != now.spec {
                // An account that the CA has refused is registered anew now: somebody has mended what it was refused for. One
                // that it has not is found, and by that whether the CA can be reached as it is to be now.
                set.extend(doc! {
                    "status": "registering", "problem": null, "next_attempt_at": null, "hold": null,
                });
                facts.push(self.replacing(&mut transaction, DOING, now.fence, job).await?);
            } else {
                // What the CA said of the settings before may be mended now.
                set.insert("problem", bson::Bson::Null);
            }
            let update = issuers.update_one(own, doc! { "$set": set }).session(&mut transaction.session);
            update.await.map_err(&failed)?;
            // Somebody may have had the CA lift them; where it has not, the next order meets them once more.
            let limits = self.collection::<Document>("budgets");
            let lift = limits.delete_many(budget::of(id)).session(&mut transaction.session);
            lift.await.map_err(failed)?;
            self.write_within(&mut transaction, &facts).await?;
            transaction.commit().await?;
            Ok(true)
        });
        self.replayed(&mutation, updated).await
    }

    /// Shows on an issuer whose account is accepted what its CA says against how it is asked, or that nothing is any more. Nothing is
    /// written where `seen` shows it already.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn show_on_issuer(
        &self,
        seen: &IssuerRecord,
        problem: Option<&Problem>,
    ) -> Result<(), StoreError> {
        let is_shown = match (&seen.problem, problem) {
            (Some(shown), Some(problem)) => shown.reads_as(problem),
            (shown, problem) => shown.is_none() && problem.is_none(),
        };
        if is_shown {
            return Ok(());
        }
        let issuers = self.collection::<Document>("issuers");
        let ready = doc! { "_id": seen.id.to_string(), "status": "ready", "hold": null };
        let shown =
            doc! { "$set": { "problem": problem.map(|problem| bson("issuers", problem)).transpose()? } };
        bounded("show a problem on an issuer", issuers.update_one(ready, shown)).await.map(drop)
    }

    /// Removes an issuer that no certificate uses, and its job; but not while its account is being changed at the CA, which nobody
    /// would go on with. Where something is in the way of that it is removed all the same: it may be so for ever.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not as `seen` any more.
    pub async fn delete_issuer(
        &self,
        id: IssuerId,
        seen: Option<&IssuerRecord>,
        mutation: Mutation<'_>,
    ) -> Result<IssuerDeleted, StoreError> {
        const DOING: &str = "delete an issuer";
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            // A certificate added in the same moment is not seen here: it shows that its issuer is gone. Excluding that
            // would make every request for a certificate write to its issuer, and wait for every other one.
            let users = self.issuer_users(&mut transaction, id).await?;
            if !users.is_empty() {
                return Ok(IssuerDeleted::Used(users));
            }
            let issuers = self.collection::<Document>("issuers");
            let own = doc! { "_id": id.to_string() };
            let found = issuers.find_one(own.clone()).session(&mut transaction.session);
            let found = found.await.map_err(&failed)?;
            let now = found.map(|document| read::<IssuerRecord>("issuers", document)).transpose()?;
            if seen.is_some() && seen != now.as_ref() {
                let what = "the issuer changed in the same moment".to_owned();
                return Err(StoreError::Conflict { doing: DOING, what }.into());
            }
            if let Some(busy) = now.as_ref().and_then(IssuerRecord::stands_against_deleting) {
                return Ok(busy);
            }
            issuers.delete_one(own).session(&mut transaction.session).await.map_err(failed)?;
            self.cancel_jobs(&mut transaction, &id.to_string()).await?;
            self.write_within(&mut transaction, &[Fact::new(DOING).accompanied(&mutation)]).await?;
            transaction.commit().await?;
            Ok(IssuerDeleted::Gone)
        })
    }

    /// A few of the certificates that use an issuer.
    async fn issuer_users(
        &self,
        transaction: &mut Transaction,
        id: IssuerId,
    ) -> Result<Vec<IssuerUser>, Failure> {
        let failed = transaction.failed();
        let certificates = self.collection::<Document>("certificates");
        let users = certificates.find(doc! { "issuer": id.to_string() }).limit(USERS_NAMED);
        let users = users.projection(doc! { "names": 1 }).session(&mut transaction.session);
        let mut users = users.await.map_err(&failed)?;
        let mut named = Vec::new();
        while let Some(document) = users.stream(&mut transaction.session).next().await {
            named.push(read("certificates", document.map_err(&failed)?)?);
        }
        Ok(named)
    }

    /// Records what a registration came to: issuer, job and audit row together.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the job is not the claim's any more.
    pub async fn settle_registration(
        &self,
        claim: &Claim,
        seen: &IssuerRecord,
        registration: &Registration,
        now: Timestamp,
        audit: &Row,
    ) -> Result<(), StoreError> {
        let (event, account_url) = (audit.event.to_string(), seen.known_url());
        let change = match registration {
            Registration::Ready(url) => doc! {
                "status": "ready", "account_url": url, "problem": null, "next_attempt_at": null, "hold": null,
                "fence": claim.fence + 1, "last_event": event,
            },
            Registration::Failing(problem, next) => doc! {
                "status": "failing", "problem": bson("issuers", problem)?, "next_attempt_at": date(*next),
                "fence": claim.fence, "last_event": event,
            },
            Registration::Accepted(url, problem, next) => doc! {
                "status": "failing", "account_url": url, "problem": bson("issuers", problem)?,
                "next_attempt_at": date(*next), "hold": null, "fence": claim.fence, "last_event": event,
            },
            Registration::Refused(problem, next) => {
                let mut change = account::refused(account_url, problem, *next)?;
                change.extend(doc! { "fence": claim.fence, "last_event": event });
                change
            }
        };
        let filter = doc! { "_id": seen.id.to_string(), "fence": { "$lte": claim.fence } };
        let fact = Fact::new("record a registration").give("issuers", filter, change, vec![]);
        let fact = match registration {
            Registration::Ready(_) => fact.ending(claim, "succeeded"),
            Registration::Failing(problem, next)
            | Registration::Accepted(_, problem, next)
            | Registration::Refused(problem, next) => fact.postponing(claim, *next, now, problem)?,
        };
        self.write(fact.audited(audit)).await
    }
}
