// SPDX-License-Identifier: Apache-2.0
//! Users of a replica set that asks for passwords.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use bson::{Document, doc};
use mongodb::options::Credential;
use url::form_urlencoded::byte_serialize;

use super::replica_set::ReplicaSet;
use crate::process::Launcher;

/// Any text of base64's characters will do: the members listen at loopback and live as long as a test.
const KEY: &str = "membersOfATestSetKnowThisKey0123";
/// `mongod` refuses a key that others may read.
const KEY_MODE: u32 = 0o600;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MongoUser {
    /// Its name.
    pub name: String,
    /// Its password; any characters.
    pub password: String,
    /// The database that it is defined in.
    pub database: String,
}

impl MongoUser {
    pub(super) fn administrator() -> Self {
        let owned = str::to_owned;
        Self { name: owned("administrator"), password: owned("of-this-test"), database: owned("admin") }
    }

    /// The command that makes this user with a role of its database.
    pub(super) fn create_with_role(&self, role: &str) -> Document {
        let majority = doc! { "w": "majority" };
        doc! { "createUser": &self.name, "pwd": &self.password, "roles": [role], "writeConcern": majority }
    }

    pub(super) fn credential(&self) -> Credential {
        Credential::builder()
            .username(self.name.clone())
            .password(self.password.clone())
            .source(self.database.clone())
            .build()
    }

    /// What stands before the hosts of a connection string, and behind its options.
    pub(super) fn in_uri(&self) -> (String, String) {
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        let login = format!("{}:{}@", encoded(&self.name), encoded(&self.password));
        (login, format!("&authSource={}", encoded(&self.database)))
    }
}

/// What an operator pastes.
const OPERATIONS: &str = include_str!("../../../../docs/operations.md");
/// What asks for a password there.
const PROMPT: &str = "passwordPrompt()";

impl ReplicaSet {
    /// Does what `docs/operations.md` says to an operator: makes the role and the user of our services in this
    /// database.
    ///
    /// # Errors
    /// When the set refuses a command of that page.
    pub async fn create_documented_user(&self, database: &str, password: &str) -> anyhow::Result<MongoUser> {
        let commands = documented_commands(database, password)?;
        for command in &commands {
            self.command_in(database, command.clone()).await.context("a command of docs/operations.md")?;
        }
        let name = commands.iter().find_map(|command| command.get_str("createUser").ok());
        let name = name.context("docs/operations.md makes no user")?.to_owned();
        Ok(MongoUser { name, password: password.to_owned(), database: database.to_owned() })
    }
}

fn documented_commands(database: &str, password: &str) -> anyhow::Result<Vec<Document>> {
    let page = OPERATIONS.split("```javascript").nth(1).and_then(|rest| rest.split("```").next());
    let commands =
        page.context("docs/operations.md has no commands for mongosh")?.split("db.runCommand(").skip(1);
    let read = |command: &str| -> anyhow::Result<Document> {
        let json = command.trim().strip_suffix(')').context("a command does not end with its line")?;
        let json = json.replace(PROMPT, &serde_json::to_string(password)?);
        Ok(serde_json::from_str(
            &json.replace("\"db\": \"certautopilot\"", &format!("\"db\": \"{database}\"")),
        )?)
    };
    commands.map(|command| read(command).with_context(|| format!("reading {command}"))).collect()
}

/// The file with which the members of a set prove themselves to each other.
pub(super) fn write_key_file(launcher: &Launcher) -> anyhow::Result<PathBuf> {
    let path = launcher.data_dir("mongod-key")?.join("key");
    let mut file = fs::File::options().create(true).write(true).truncate(true).mode(KEY_MODE).open(&path)?;
    file.write_all(KEY.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_any_characters_is_one_part_of_the_uri() {
        let user =
            MongoUser { name: "a".into(), password: "p@ss:/w%rd ?&+".into(), database: "certs".into() };
        let (login, source) = user.in_uri();
        assert_eq!(login, "a:p%40ss%3A%2Fw%25rd%20%3F%26%2B@");
        assert_eq!(source, "&authSource=certs");
    }

    #[test]
    fn the_documented_role_is_for_the_database_that_is_asked_for_and_for_no_other() {
        let commands = documented_commands("another", "\"secret\"").unwrap();
        let [role, user] = commands.as_slice() else { panic!("{commands:?}") };
        assert!(
            role.to_string().contains("another") && user.get_str("pwd").unwrap() == "\"secret\"",
            "{commands:?}"
        );
        let resources = role.get_array("privileges").unwrap().iter().map(|privilege| {
            privilege.as_document().unwrap().get_document("resource").unwrap().get_str("db").unwrap()
        });
        assert!(resources.into_iter().all(|database| database == "another"), "{role}");
    }
}
