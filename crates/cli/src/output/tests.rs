// SPDX-License-Identifier: Apache-2.0
//! Forms of output, written to memory.

use std::sync::{Arc, Mutex};

use cap_client::wire::{Project, ProjectDrift};

use super::*;

/// A writer that keeps what it is given.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A reader that went away.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    /// An output to memory, no terminal: stdout and stderr.
    pub(crate) fn kept(form: Form) -> (Self, Kept, Kept) {
        let (out, talk) = (Kept::default(), Kept::default());
        let output = Self {
            out: Box::new(out.clone()),
            talk: Box::new(talk.clone()),
            form,
            out_is_terminal: false,
            talk_is_terminal: false,
            colour: false,
            progress: false,
        };
        (output, out, talk)
    }
}

fn project(last: char, name: &str) -> Project {
    let id = format!("prj_{}{last}", "0".repeat(31)).parse().unwrap();
    let drift = ProjectDrift { enabled: false, port: 443, interval: "6h".into() };
    let created_at = "2026-01-02T03:04:05.6Z".parse().unwrap();
    Project { id, name: name.into(), drift, weight: 1, created_at }
}

fn listed(form: Form) -> (String, String) {
    let (mut output, out, talk) = Output::kept(form);
    output.list(&[project('1', "demo"), project('2', "a-longer-name")], Timestamp::UNIX_EPOCH).unwrap();
    (out.text(), talk.text())
}

#[test]
fn a_table_is_aligned_and_has_no_white_space_at_line_ends() {
    let expected = "\
NAME           ID                                    CREATED
demo           prj_00000000000000000000000000000001  2026-01-02T03:04:05Z
a-longer-name  prj_00000000000000000000000000000002  2026-01-02T03:04:05Z
";
    assert_eq!(listed(Form::Table), (expected.to_owned(), String::new()));
}

#[test]
fn names_are_ids_that_other_commands_take() {
    let expected = "prj_00000000000000000000000000000001\nprj_00000000000000000000000000000002\n";
    assert_eq!(listed(Form::Name).0, expected);
}

#[test]
fn a_list_is_an_array_in_json_and_in_yaml() {
    let json: Vec<Project> = serde_json::from_str(&listed(Form::Json).0).unwrap();
    let yaml: Vec<Project> = serde_saphyr::from_str(&listed(Form::Yaml).0).unwrap();
    assert_eq!((json[1].name.as_str(), yaml[1].name.as_str()), ("a-longer-name", "a-longer-name"));
}

#[test]
fn an_empty_list_is_told_on_stderr_and_is_still_an_array() {
    let (mut output, out, talk) = Output::kept(Form::Table);
    output.list::<Project>(&[], Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((out.text(), talk.text()), (String::new(), "There is nothing to show.\n".to_owned()));
    let (mut output, out, _) = Output::kept(Form::Json);
    output.list::<Project>(&[], Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(out.text(), "[]\n");
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let (mut output, _, _) = Output::kept(Form::Table);
    (output.out, output.talk) = (Box::new(Gone), Box::new(Gone));
    assert!(output.text("data").is_ok() && output.say("talk").is_ok());
    let full = written(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
    assert_eq!(full.exit(), Exit::Error);
}

#[test]
fn an_error_cannot_drive_the_terminal() {
    let (mut output, _, talk) = Output::kept(Form::Table);
    output.complain(&Failure::new(Exit::Error, "the CA said", "\x1b[2Jgone").hint("ask"));
    assert_eq!(talk.text(), "error: the CA said: \u{fffd}[2Jgone\n  hint: ask\n");
}
