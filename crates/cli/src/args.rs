// SPDX-License-Identifier: Apache-2.0
//! The command line: options of every command, and the nouns.

use std::path::PathBuf;
use std::time::Duration;

use cap_runtime::args::long_version;
use clap::{Args, Parser, Subcommand};

use crate::output::Form;
use crate::parse;
use crate::verbs::{
    admin, cert, completion, drift, generate, health, instance, issuer, job, kek, leader, notice, project,
    queue, schema, token, top,
};

/// Keeps TLS certificates valid: requests, renews and shows them
#[derive(Debug, Parser)]
#[command(
    name = "certautopilot",
    version = long_version(),
    after_help = "The API is named by CAP_API_URL, the token by CAP_TOKEN or CAP_TOKEN_FILE, a private CA by CAP_CA_FILE.",
    arg_required_else_help = true,
    max_term_width = 120
)]
pub(crate) struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What is asked for; nothing with `--check-config`.
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// How data is written to stdout
    #[arg(short, long, global = true, value_enum, default_value = "table", value_name = "FORM")]
    pub(crate) output: Form,
    /// The project, by id or name; not needed when there is exactly one
    #[arg(short, long, global = true, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// Where the API is; else CAP_API_URL
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api_url: Option<String>,
    /// Do not ask before something is destroyed, overwritten or shown
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// Show what would be done, and change nothing
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// How long --wait waits, as in 30s or 5m
    #[arg(long, global = true, default_value = "2m", value_parser = parse::duration, value_name = "DURATION")]
    pub(crate) timeout: Duration,
    /// Write without colours, as with NO_COLOR
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Read this YAML file; the environment overrides it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Check the configuration, list every fault, and exit (0 or 64) without opening anything
    #[arg(long)]
    pub(crate) check_config: bool,
}

/// The nouns, and the verbs that stand alone.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Whether the API is well (exit 3 when not)
    Health(health::Args),
    /// The system at a glance, live on a terminal: q ends it
    Top(top::Args),
    /// Administrators, from the host that has the database and the KEK
    #[command(subcommand)]
    Admin(admin::Verb),
    /// Projects: the walls between tenants
    #[command(subcommand)]
    Project(project::Verb),
    /// Issuers: accounts at CAs
    #[command(subcommand)]
    Issuer(issuer::Verb),
    /// Certificates
    #[command(subcommand)]
    Cert(cert::Verb),
    /// Drift: what certificates' names serve
    #[command(subcommand)]
    Drift(drift::Verb),
    /// Jobs: work in the background
    #[command(subcommand)]
    Job(job::Verb),
    /// Certificates that were not renewed in time
    #[command(subcommand)]
    Notice(notice::Verb),
    /// The queue of all jobs
    #[command(subcommand)]
    Queue(queue::Verb),
    /// The processes of the cluster
    #[command(subcommand)]
    Instance(instance::Verb),
    /// The scheduler that leads
    #[command(subcommand)]
    Leader(leader::Verb),
    /// API tokens
    #[command(subcommand)]
    Token(token::Verb),
    /// The database's schema
    #[command(subcommand)]
    Schema(schema::Verb),
    /// Key encryption keys
    #[command(subcommand)]
    Kek(kek::Verb),
    /// The version of this program
    Version,
    /// Completions for a shell, on stdout
    Completion(completion::Args),
    /// Reference pages, on stdout
    #[command(subcommand, hide = true)]
    Generate(generate::Verb),
}

#[cfg(test)]
mod tests;
