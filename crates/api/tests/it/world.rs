// SPDX-License-Identifier: Apache-2.0
//! Two systems that the tests share. In the quiet one nothing happens but what a test asks for, so that writes can be
//! counted; the whole one issues certificates, and a test that has it has it alone.

use std::sync::OnceLock;

use cap_testkit::process::{Launch, Process, Service, reserve_one};
use cap_testkit::stack::{Demo, Stack, StackOptions};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, RwLock};

use crate::http::Http;

/// An api without workers or schedulers.
pub(crate) struct Quiet {
    pub(crate) stack: Stack,
    /// The project that the tests work in, with the issuer `ca`.
    pub(crate) project: String,
    /// Another one.
    pub(crate) foreign: String,
    /// Held for reading by who writes, and for writing by who counts writes.
    pub(crate) writing: RwLock<()>,
}

/// Three apis, a worker and a scheduler, everything logged, on a replica set of its own.
pub(crate) struct Whole {
    pub(crate) stack: Stack,
    pub(crate) demo: Demo,
}

/// Something built once, on a runtime of its own: that of the test which comes first ends with that test.
async fn once<T, F>(cell: &'static OnceLock<T>, build: fn() -> F) -> &'static T
where
    T: Send + Sync,
    F: Future<Output = T> + 'static,
{
    let get = move || {
        cell.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(build())
        })
    };
    tokio::task::spawn_blocking(get).await.unwrap()
}

pub(crate) async fn quiet() -> &'static Quiet {
    static QUIET: OnceLock<Quiet> = OnceLock::new();
    once(&QUIET, || async {
        let mut options = StackOptions::for_test();
        (options.workers, options.schedulers) = (0, 0);
        // One member: its counters then count everything.
        options.shared_mongo = false;
        options.replica_set.members = 1;
        let stack = Stack::start(options).await.unwrap();
        let api = stack.client(0).unwrap();
        let mut ids = Vec::new();
        for name in ["own", "foreign"] {
            let made = api.post("/api/v1/projects", &json!({ "name": name })).await.unwrap();
            ids.push(made["id"].as_str().unwrap().to_owned());
        }
        let [project, foreign] = <[String; 2]>::try_from(ids).unwrap();
        let issuer = json!({ "name": "ca", "directory_url": stack.ca().directory_url() });
        api.post(&format!("/api/v1/projects/{project}/issuers"), &issuer).await.unwrap();
        Quiet { stack, project, foreign, writing: RwLock::new(()) }
    })
    .await
}

pub(crate) async fn whole() -> MutexGuard<'static, Whole> {
    static WHOLE: OnceLock<Mutex<Whole>> = OnceLock::new();
    let whole = once(&WHOLE, || async {
        let mut options = StackOptions::for_test();
        (options.apis, options.shared_mongo) = (3, false);
        let stack = Stack::start(options.with_all("CAP_LOG", "trace")).await.unwrap();
        let demo = Demo::create(&stack.client(0).unwrap(), stack.ca(), "demo", "pebble").await.unwrap();
        Mutex::new(Whole { stack, demo })
    })
    .await;
    whole.lock().await
}

impl Quiet {
    pub(crate) fn http(&self) -> Http {
        Http::new(self.stack.api_url(0).unwrap())
    }

    pub(crate) fn owner(&self) -> &str {
        self.stack.token()
    }

    /// A path in the project that the tests work in.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/projects/{}{rest}", self.project)
    }

    /// A new token; its record and text.
    pub(crate) async fn token(&self, role: &str, project: Option<&str>) -> Value {
        let body = json!({ "name": "test", "role": role, "project": project, "expires_in": "1h" });
        self.stack.client(0).unwrap().post("/api/v1/tokens", &body).await.unwrap()
    }

    /// Asks for a certificate of this name; nobody will issue it.
    pub(crate) async fn certificate(&self, name: &str) -> Value {
        let body = json!({ "names": [name], "issuer": "ca" });
        self.stack.client(0).unwrap().post(&self.path("/certificates"), &body).await.unwrap()
    }

    /// How often anything was written to any collection of ours since the database started, but for what a process tells
    /// of itself all the time.
    pub(crate) async fn writes(&self) -> u64 {
        let set = self.stack.infrastructure.replica_set.as_ref().unwrap();
        // The driver's own types go by unnamed: it lives in another crate.
        let top = set.command(0, serde_json::from_value(json!({ "top": 1 })).unwrap()).await.unwrap();
        let top = serde_json::to_value(top).unwrap();
        let ours = top["totals"].as_object().unwrap().iter();
        let ours = ours.filter(|(namespace, _)| {
            namespace.starts_with("certautopilot.") && *namespace != "certautopilot.instances"
        });
        ours.flat_map(|(_, counts)| ["insert", "update", "remove"].map(|kind| &counts[kind]["count"]))
            .map(|count| count.as_u64().unwrap())
            .sum()
    }

    /// Another api on the same database, at ports of its own, not started.
    pub(crate) fn another_api(&self, name: &str) -> Launch {
        another_api(&self.stack, name)
    }

    pub(crate) fn start(&self, launch: Launch) -> Service {
        start(&self.stack, launch)
    }

    /// Starts a process that is to end by itself.
    pub(crate) fn spawn(&self, launch: Launch) -> Process {
        self.stack.launcher().spawn(launch).unwrap()
    }
}

/// Another api on the database of `stack`, at ports of its own, not started.
pub(crate) fn another_api(stack: &Stack, name: &str) -> Launch {
    let mut launch = stack.apis[0].process().launch().clone();
    name.clone_into(&mut launch.name);
    for variable in ["CAP_API_LISTEN", "CAP_CHALLENGE_LISTEN", "CAP_ADMIN_LISTEN"] {
        // The lease ends here, and the port is handed out again only after all others.
        let address = format!("127.0.0.1:{}", reserve_one().unwrap().port());
        launch.env.insert(variable.into(), address);
    }
    launch.env.insert("CAP_INSTANCE_NAME".into(), name.into());
    launch
}

pub(crate) fn start(stack: &Stack, launch: Launch) -> Service {
    let ready_url = format!("http://{}/readyz", launch.env["CAP_ADMIN_LISTEN"]);
    Service::start(stack.launcher().clone(), launch, ready_url).unwrap()
}

/// The admin listener of a service.
pub(crate) fn admin(service: &Service) -> Http {
    Http::new(&format!("http://{}", service.process().launch().env["CAP_ADMIN_LISTEN"]))
}
