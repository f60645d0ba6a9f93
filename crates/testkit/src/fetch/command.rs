// SPDX-License-Identifier: Apache-2.0
//! Running a tool with a time limit, its output kept for the error message.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

const LOOK_EVERY_MS: u64 = 20;
/// Of a failed tool's output, the end is shown: that is where tools say what went wrong.
const SHOWN_OUTPUT_CHARS: usize = 2_000;

/// Runs it to its end and returns what it printed on stdout and stderr.
///
/// # Errors
/// When it cannot be started, fails, or is not done after `limit`; it is killed then.
pub(crate) fn run(command: &mut Command, limit: Duration) -> anyhow::Result<String> {
    let what = format!("{command:?}");
    // Into a file, so that a tool which prints much can never block on a full pipe.
    let output = tempfile::NamedTempFile::new().context("making a file for a tool's output")?;
    let sink: File = output.reopen()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(sink.try_clone()?)
        .stderr(sink)
        .spawn()
        .with_context(|| format!("starting {what}"))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{what} was not done after {limit:?} and was ended");
        }
        std::thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
    };
    let text = String::from_utf8_lossy(&std::fs::read(output.path())?).into_owned();
    if !status.success() {
        let start = text.char_indices().rev().nth(SHOWN_OUTPUT_CHARS).map_or(0, |(index, _)| index);
        bail!("{what} failed ({status}):\n{}", &text[start..]);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_tools_words_are_in_the_error() {
        let error =
            run(Command::new("sh").args(["-c", "echo no luck; exit 3"]), Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("no luck"), "{error}");
    }

    #[test]
    fn a_tool_that_hangs_is_ended() {
        let started = Instant::now();
        let error = run(Command::new("sleep").arg("60"), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("was ended"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
