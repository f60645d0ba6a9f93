// SPDX-License-Identifier: Apache-2.0
//! The system that the tests share, and a migrated database without services for those that need only that.

use std::path::Path;
use std::sync::OnceLock;

use cap_testkit::mongo::ReplicaSet;
use cap_testkit::scratch::Scratch;
use cap_testkit::stack::{Demo, Role, Stack, StackOptions};
use tokio::sync::RwLock;

use crate::run::Cli;

/// As `cargo xtask up` leaves it: one project, `demo`, one issuer, `local-ca`, two of each service.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) root_pem: String,
}

/// For reading by a test that asks the system for something, for writing by one that kills parts of it.
pub(crate) async fn world() -> &'static RwLock<World> {
    static WORLD: OnceLock<RwLock<World>> = OnceLock::new();
    let get = || {
        WORLD.get_or_init(|| {
            // On a runtime of its own: that of the test which comes first ends with that test.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            RwLock::new(runtime.block_on(World::start()))
        })
    };
    tokio::task::spawn_blocking(get).await.unwrap()
}

impl World {
    pub(crate) async fn start() -> Self {
        let mut options = StackOptions::for_test().with(Role::Worker, "CAP_OUTBOUND_PRIVATE", "127.0.0.0/8");
        (options.apis, options.workers, options.schedulers) = (2, 2, 2);
        let stack = Stack::start(options).await.unwrap();
        Demo::create(&stack.client(0).unwrap(), stack.ca(), "demo", "local-ca").await.unwrap();
        let root_pem = stack.ca().issuance_root_pem().await.unwrap();
        Self { stack, root_pem }
    }

    /// The program with all that an owner has.
    pub(crate) fn cli(&self) -> Cli {
        Cli::bare()
            .with("CAP_API_URL", self.stack.api_url(0).unwrap())
            .with("CAP_TOKEN", self.stack.token())
            .with("CAP_MONGO_URI", self.stack.mongo_uri())
            .with("CAP_KEK_DIR", self.stack.kek_dir().display())
    }

    /// Asks for a certificate of this name, waits, and answers its id.
    pub(crate) async fn issued(&self, name: &str) -> String {
        let args = ["cert", "request", name, "--issuer", "local-ca", "--wait", "-o", "name"];
        self.cli().run(&args).await.ends(0).data.trim_end().to_owned()
    }
}

/// A database of one's own, the KEK for it, and a folder.
pub(crate) struct Bench {
    pub(crate) cli: Cli,
    pub(crate) scratch: Scratch,
}

impl Bench {
    /// The database empty, the KEK made.
    pub(crate) async fn new() -> Self {
        let (scratch, database) = (Scratch::create().unwrap(), ReplicaSet::fresh_database().await.unwrap());
        let kek = scratch.path().join("kek");
        let cli = Cli::bare().with("CAP_MONGO_URI", database.uri).with("CAP_KEK_DIR", kek.display());
        cli.run(&["kek", "generate", "--dir", text(&kek)]).await.ends(0);
        Self { cli, scratch }
    }

    /// The database migrated too.
    pub(crate) async fn migrated() -> Self {
        let bench = Self::new().await;
        bench.cli.run(&["schema", "migrate"]).await.ends(0);
        bench
    }
}

/// A path of ours as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
