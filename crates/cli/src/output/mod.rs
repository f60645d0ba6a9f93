// SPDX-License-Identifier: Apache-2.0
//! Where a command writes: data to stdout in the form that was asked for, talk to stderr.

mod history;
mod members;
mod shown;
mod table;
pub(crate) mod text;

use std::fmt;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

pub(crate) use members::seconds;
#[cfg(test)]
pub(crate) use shown::tests as shown_tests;
pub(crate) use shown::{NAME_COLUMNS, Shown, by_kind, first_name, names, word};

use crate::exit::Exit;
use crate::failure::Failure;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A table for people
    Table,
    /// A table with everything in it
    Wide,
    /// JSON, as the API gives it
    Json,
    /// YAML
    Yaml,
    /// Ids alone, a line each
    Name,
}

/// The two ends that a command writes to.
pub(crate) struct Output {
    out: Box<dyn Write + Send>,
    talk: Box<dyn Write + Send>,
    /// How data is written.
    pub(crate) form: Form,
    /// Whether stdout is a terminal.
    pub(crate) out_is_terminal: bool,
    /// Whether stderr is a terminal.
    pub(crate) talk_is_terminal: bool,
    colour: bool,
    progress: bool,
}

impl Output {
    /// This process's stdout and stderr.
    pub(crate) fn of_process(form: Form, no_colour: bool) -> Self {
        let (out_is_terminal, talk_is_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            out: Box::new(io::stdout()),
            talk: Box::new(io::stderr()),
            form,
            out_is_terminal,
            talk_is_terminal,
            colour: talk_is_terminal && !no_colour && !refused,
            progress: false,
        }
    }

    /// One record.
    pub(crate) fn show<T: Shown>(&mut self, record: &T, now: Timestamp) -> Result<(), Failure> {
        match self.form {
            Form::Table | Form::Wide | Form::Name => self.list(std::slice::from_ref(record), now),
            Form::Json | Form::Yaml => self.document(record),
        }
    }

    /// A list of records.
    pub(crate) fn list<T: Shown>(&mut self, records: &[T], now: Timestamp) -> Result<(), Failure> {
        match self.form {
            Form::Table | Form::Wide if records.is_empty() => self.say("There is nothing to show."),
            Form::Table | Form::Wide => self.text(&table(records, now, self.form == Form::Wide)),
            Form::Name => {
                let lines: String = records.iter().map(|record| format!("{}\n", record.id())).collect();
                self.text(&lines)
            }
            Form::Json | Form::Yaml => self.document(&records),
        }
    }

    /// Anything that has no table, as JSON or YAML.
    pub(crate) fn document<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let broken = |error: &dyn fmt::Display| {
            Failure::new(Exit::Error, "the output cannot be written", error.to_string())
        };
        let text = if self.form == Form::Yaml {
            serde_saphyr::to_string(value).map_err(|error| broken(&error))?
        } else {
            serde_json::to_string_pretty(value).map_err(|error| broken(&error))?
        };
        self.text(&format!("{}\n", text.trim_end()))
    }

    /// Data, as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.clear_progress();
        written(self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()))
    }

    /// A sentence for the person at the terminal.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), Failure> {
        self.clear_progress();
        written(writeln!(self.talk, "{}", text::clean(line)))
    }

    /// What is being waited for, on one line that is written over; on a terminal only.
    pub(crate) fn progress(&mut self, line: &str) {
        if self.talk_is_terminal {
            self.progress = true;
            let _ = write!(self.talk, "\r\x1b[2K{}", text::clean(line)).and_then(|()| self.talk.flush());
        }
    }

    /// Why the command failed.
    pub(crate) fn complain(&mut self, failure: &Failure) {
        self.clear_progress();
        let label = if self.colour { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
        // With stderr gone there is nobody left to tell; the exit code still says it.
        let _ = writeln!(self.talk, "{label} {}", text::clean(&failure.to_string()));
    }

    fn clear_progress(&mut self) {
        if std::mem::take(&mut self.progress) {
            let _ = write!(self.talk, "\r\x1b[2K");
        }
    }
}

/// Records as a table.
pub(crate) fn table<T: Shown>(records: &[T], now: Timestamp, wide: bool) -> String {
    let head = T::HEAD.iter().chain(T::WIDE.iter().filter(|_| wide)).copied().collect();
    let cells = records.iter().map(|record| {
        if !wide {
            return record.narrow_cells(now);
        }
        let mut cells = record.cells(now);
        cells.extend(record.wide_cells(now));
        cells
    });
    table::render(head, cells.collect())
}

/// Rows that are no records, as a table.
pub(crate) fn rows(head: &[&str], cells: Vec<Vec<String>>) -> String {
    table::render(head.to_vec(), cells)
}

/// What came of writing. A reader that goes away, as in `| head`, had what it wanted; the command goes on all the
/// same, because it may have begun what must be ended, and how it ends is told by its code.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::output(&error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("form", &self.form).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
