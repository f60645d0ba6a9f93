// SPDX-License-Identifier: Apache-2.0
//! Log lines, on stderr: JSON for collectors, text for people.

use std::io;
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

use crate::config::LogFormat;

/// Log lines cannot be turned on: the directives are wrong, or they are on already.
#[derive(Debug, thiserror::Error)]
#[error(
    "log lines cannot be turned on with the directives `{directives}`: {why}; mend CAP_LOG, and start once"
)]
pub struct TelemetryError {
    directives: String,
    why: String,
}

/// Turns log lines on for the process, and makes panics log lines too.
///
/// # Errors
/// When the directives do not parse, or a subscriber is installed already.
pub fn start(directives: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let refuse = |why: String| TelemetryError { directives: directives.to_owned(), why };
    let filter = EnvFilter::try_new(directives).map_err(|error| refuse(error.to_string()))?;
    let lines = SubscriberBuilder::default().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).try_init(),
        LogFormat::Text => lines.with_ansi(has_colour()).try_init(),
    }
    .map_err(|error| refuse(error.to_string()))?;
    std::panic::set_hook(Box::new(tell_panic));
    Ok(())
}

/// Whether stderr takes colours and nobody asked for none.
fn has_colour() -> bool {
    LogFormat::of_stderr() == LogFormat::Text
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn tell_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic without words");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        panic = message,
        place,
        thread = thread.name().unwrap_or_default(),
        "this is a bug: the code panicked; report it with this line"
    );
}
