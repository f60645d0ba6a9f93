// SPDX-License-Identifier: Apache-2.0
//! What every service is told: its name, how it shows itself, how long it may take to stop.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::{Config, Fault, Group};

/// Characters of an instance's name: it is a Kubernetes label and a column of tables.
const INSTANCE_NAME_CHARS: usize = 63;
/// The longest delay: a load balancer that needs more to notice is misconfigured.
const SHUTDOWN_DELAY_MAX: Duration = Duration::from_secs(5 * 60);
/// The longest drain: beyond it nobody waits.
const SHUTDOWN_GRACE_MAX: Duration = Duration::from_secs(3_600);
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for collectors.
    Json,
    /// For people.
    Text,
}

/// What every service is told.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The name of this process in the cluster.
    pub instance_name: String,
    /// Where operators find metrics and health.
    pub admin_listen: SocketAddr,
    /// Log directives, known to parse.
    pub log: String,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// How long listeners stay open after readiness is gone (the api only).
    pub shutdown_delay: Duration,
    /// How long a drain may take after that.
    pub shutdown_grace: Duration,
}

impl LogFormat {
    /// Text on a terminal, else JSON.
    #[must_use]
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

impl Group for ServiceConfig {
    fn read(config: &mut Config) -> Option<Self> {
        let instance_name = instance_name(config);
        let admin_listen = config.socket_addr("CAP_ADMIN_LISTEN");
        let remedy = "write off, error, warn, info, debug or trace, or directives like info,cap_store=debug";
        let log = config.parse("CAP_LOG", remedy, directives);
        let log_format = config.parse("CAP_LOG_FORMAT", "write json or text", |text| match text {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            _ => Err("not a log format".to_owned()),
        });
        let format_is_wrong = log_format.is_none() && config.is_given("CAP_LOG_FORMAT");
        let shutdown_delay = config.duration("CAP_SHUTDOWN_DELAY", Duration::ZERO..=SHUTDOWN_DELAY_MAX);
        let shutdown_grace = config.duration("CAP_SHUTDOWN_GRACE", Duration::ZERO..=SHUTDOWN_GRACE_MAX);
        if format_is_wrong {
            return None;
        }
        Some(Self {
            instance_name: instance_name?,
            admin_listen: admin_listen?,
            log: log?,
            log_format: log_format.unwrap_or_else(LogFormat::of_stderr),
            shutdown_delay: shutdown_delay?,
            shutdown_grace: shutdown_grace?,
        })
    }
}

fn directives(text: &str) -> Result<String, String> {
    // A bare word is a target to the filter: `verbose` would silence everything else.
    let is_lone_word = |part: &str| !part.contains(['=', '[']) && !LEVELS.contains(&part);
    if let Some(part) = text.split(',').map(str::trim).find(|part| is_lone_word(part)) {
        return Err(format!("`{part}` is not a level"));
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn instance_name(config: &mut Config) -> Option<String> {
    let remedy = "write letters, digits, dots, dashes and underscores, at most 63";
    if config.is_given("CAP_INSTANCE_NAME") {
        return config.parse("CAP_INSTANCE_NAME", remedy, |text| {
            is_instance_name(text).then(|| text.to_owned()).ok_or_else(|| "not an instance name".to_owned())
        });
    }
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    if is_instance_name(&host) {
        return Some(host);
    }
    let why = format!("it is not given, and the host's name `{host}` cannot stand in");
    config.fault(Fault::new("CAP_INSTANCE_NAME", why, remedy));
    None
}

fn is_instance_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=INSTANCE_NAME_CHARS).contains(&text.len()) && text.chars().all(fits)
}
