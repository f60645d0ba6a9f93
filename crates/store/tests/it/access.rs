// SPDX-License-Identifier: Apache-2.0
//! A replica set that asks for passwords: what the documented role is enough for, and what a wrong password says.

use std::time::Duration;

use bson::{Bson, Document, doc};
use cap_core::secret::SecretString;
use cap_store::{SchemaStatus, Store, StoreError, TRY_BOUND};
use cap_testkit::mongo::driver::options::ClientOptions;
use cap_testkit::mongo::driver::{Client, ClientSession};
use cap_testkit::mongo::{MongoUser, ReplicaSet, ReplicaSetOptions};
use cap_testkit::wait::{self, Pending};

use crate::world::World;

const DATABASE: &str = "certautopilot";
/// One that means something else in a URI where it is not percent-encoded.
const PASSWORD: &str = "p@ss:/w%rd?&+";

async fn set() -> ReplicaSet {
    let options = ReplicaSetOptions { members: 1, asks_for_passwords: true, ..ReplicaSetOptions::default() };
    ReplicaSet::start_with(options).await.unwrap()
}

fn user(name: &str, password: &str) -> MongoUser {
    MongoUser { name: name.into(), password: password.into(), database: DATABASE.into() }
}

async fn store(uri: String) -> Store {
    Store::connect(&SecretString::from(uri), None, "certautopilot-test").await.unwrap()
}

#[tokio::test]
async fn the_documented_role_is_enough_and_ends_its_own_abandoned_transactions_only() {
    let set = set().await;
    let ours = set.create_documented_user(DATABASE, PASSWORD).await.unwrap();
    let stranger = user("stranger", PASSWORD);
    let create = doc! { "createUser": "stranger", "pwd": PASSWORD, "roles": ["readWrite"] };
    set.command_in(DATABASE, create).await.unwrap();
    // As the guide writes it: the user is looked for in the URI's database.
    let documented = set.uri_as(&ours, DATABASE).replace("&authSource=certautopilot", "");
    let world = World::at(documented).await;
    assert!(matches!(world.store.schema_status().await.unwrap(), SchemaStatus::Current(_)));

    let instance = cap_core::id::InstanceId::generate(world.clock.as_ref(), world.entropy.as_ref());
    crate::instances::Process::new(&world, "api-0").beat(&world, cap_core::instance::Doing::Api).await;
    world.store.forget_replaced(instance, "api", "api-0", world.clock.now()).await.unwrap();
    world.store.roll().await.unwrap();
    assert_eq!(world.store.replica_set().await.unwrap().members.len(), 1);
    world.store.watch_step_down(cap_store::SCHEDULER_LEASE).await.unwrap();
    assert!(!world.store.ask_step_down(cap_store::SCHEDULER_LEASE, 1).await.unwrap());

    let mut left = Vec::new();
    for (who, id) in [(&ours, "left-by-us"), (&stranger, "left-by-another")] {
        left.push(leave_open(&set.uri_as(who, DATABASE), id).await);
    }
    assert_eq!(world.store.end_abandoned_transactions().await.unwrap(), 0, "they are not abandoned yet");
    let ended = wait::until("a transaction to be abandoned", TRY_BOUND * 4, || async {
        match world.store.end_abandoned_transactions().await.map_err(|error| Pending::Never(error.into()))? {
            0 => Err(Pending::not_yet("none")),
            ended => Ok(ended),
        }
    });
    assert_eq!(ended.await.unwrap(), 1);
    assert_eq!(world.store.end_abandoned_transactions().await.unwrap(), 0);
    assert!(left[0].commit_transaction().await.is_err(), "it goes on although it was ended");
    left[1].commit_transaction().await.unwrap();
}

/// A transaction with a write in it that nobody commits, by a process of ours as its name says.
async fn leave_open(uri: &str, id: &str) -> ClientSession {
    let mut options = ClientOptions::parse(uri).await.unwrap();
    options.app_name = Some("certautopilot-worker".to_owned());
    let client = Client::with_options(options).unwrap();
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let leases = client.database(DATABASE).collection::<Document>("leases");
    leases.insert_one(doc! { "_id": id }).session(&mut session).await.unwrap();
    session
}

#[tokio::test]
async fn a_wrong_password_or_a_role_that_is_missing_is_refused_for_good_with_what_to_do() {
    const ANSWERS: Duration = Duration::from_secs(5);
    let set = set().await;
    let ours = set.create_documented_user(DATABASE, PASSWORD).await.unwrap();
    set.command_in(DATABASE, doc! { "createUser": "bare", "pwd": PASSWORD, "roles": [] }).await.unwrap();
    let right = set.uri_as(&ours, DATABASE);
    let elsewhere = right.replace("authSource=certautopilot", "authSource=admin");
    assert_ne!(right, elsewhere);
    let nobody = right.replace(&right[right.find("//").unwrap() + 2..=right.find('@').unwrap()], "");
    for (uri, told) in [
        (set.uri_as(&user(&ours.name, "hunter2"), DATABASE), "authSource"),
        (elsewhere, "authSource"),
        (set.uri_as(&user(&ours.name, "hunter2"), DATABASE).replace(":hunter2@", "@"), "authSource"),
        (set.uri_as(&user("bare", PASSWORD), DATABASE), "role"),
        (nobody, "CAP_MONGO_URI"),
    ] {
        let asked = std::time::Instant::now();
        let error = store(uri.clone()).await.schema_status().await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        assert!(text.contains("MongoDB refused to read the schema") && text.contains(told), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("p@ss") && !text.contains("p%40ss"), "{text}");
        assert!(asked.elapsed() < ANSWERS, "{text}: {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn a_login_that_a_shutdown_interrupted_is_no_refusal() {
    const INTERRUPTED_AT_SHUTDOWN: i32 = 11_600;
    let set = set().await;
    let ours = set.create_documented_user(DATABASE, PASSWORD).await.unwrap();
    let fail = |mode: Bson| {
        let commands = ["saslStart", "saslContinue"];
        let data = doc! {
            "failCommands": commands, "errorCode": INTERRUPTED_AT_SHUTDOWN, "appName": "certautopilot-test",
        };
        set.command(0, doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data })
    };
    fail("alwaysOn".into()).await.unwrap();
    let store = store(set.uri_as(&ours, DATABASE)).await;
    let error = store.schema_status().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    fail("off".into()).await.unwrap();
    store.schema_status().await.unwrap();
}
