// SPDX-License-Identifier: Apache-2.0
//! A database, a KEK and schedulers: for what needs no CA, no API and no worker.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use cap_testkit::mongo::driver::Database;
use cap_testkit::process::{Binaries, Launch, Launcher, Lifetime, Service, reserve_one};
use cap_testkit::scratch::Scratch;

/// One database and what runs against it. The processes end with their handles, the files with this.
pub(crate) struct Bench {
    pub(crate) mongo_uri: String,
    binaries: Binaries,
    launcher: Arc<Launcher>,
    scratch: Scratch,
}

impl Bench {
    pub(crate) fn new(mongo_uri: String) -> Self {
        let scratch = Scratch::create().unwrap();
        let launcher = Arc::new(Launcher::new(scratch.path(), Lifetime::WithUs).unwrap());
        Self { mongo_uri, binaries: Binaries::find().unwrap(), launcher, scratch }
    }

    /// A folder with a KEK of its own.
    pub(crate) async fn kek(&self, name: &str) -> PathBuf {
        let dir = self.scratch.path().join(name);
        self.cli(&["kek", "generate", "--dir", dir.to_str().unwrap()], &dir).await;
        dir
    }

    pub(crate) async fn migrate(&self, kek: &std::path::Path) {
        self.cli(&["schema", "migrate"], kek).await;
    }

    /// Starts a scheduler, and answers while it is still on its way.
    pub(crate) fn scheduler(&self, kek: &std::path::Path, name: &str, lease: &str) -> Service {
        self.scheduler_with(kek, name, lease, &[])
    }

    /// The same, with further variables.
    pub(crate) fn scheduler_with(
        &self,
        kek: &std::path::Path,
        name: &str,
        lease: &str,
        variables: &[(&str, &str)],
    ) -> Service {
        let port = reserve_one().unwrap();
        let address = format!("127.0.0.1:{}", port.port());
        let mut env = BTreeMap::from([
            ("CAP_MONGO_URI".to_owned(), self.mongo_uri.clone()),
            ("CAP_KEK_DIR".to_owned(), kek.display().to_string()),
            ("CAP_ADMIN_LISTEN".to_owned(), address.clone()),
            ("CAP_INSTANCE_NAME".to_owned(), name.to_owned()),
            ("CAP_SCHEDULER_LEASE".to_owned(), lease.to_owned()),
            ("CAP_LOG_FORMAT".to_owned(), "json".to_owned()),
        ]);
        env.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let ready = format!("http://{address}/readyz");
        let program = self.binaries.path("certautopilot-scheduler").unwrap();
        let launch = Launch { name: name.into(), program, args: vec![], env, address };
        Service::start(self.launcher.clone(), launch, ready).unwrap()
    }

    async fn cli(&self, args: &[&str], kek: &std::path::Path) {
        let mut command = tokio::process::Command::new(self.binaries.path("certautopilot").unwrap());
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        command.env("CAP_MONGO_URI", &self.mongo_uri).env("CAP_KEK_DIR", kek);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The database itself, past every interface of ours.
pub(crate) async fn raw(uri: &str) -> Database {
    cap_testkit::mongo::driver::Client::with_uri_str(uri).await.unwrap().default_database().unwrap()
}
