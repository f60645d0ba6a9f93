// SPDX-License-Identifier: Apache-2.0
//! The terminal as a screen: a page of its own, keys without Enter, and everything as it was when it is dropped.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Columns and lines of a terminal that does not say.
const SIZE_DEFAULT: (usize, usize) = (80, 24);
/// To the other page, without a cursor.
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
/// Back, with the cursor.
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";

/// A page of the terminal's own. Ctrl-C still ends the process, so whoever has one must take that signal.
pub(crate) struct Screen {
    saved: Option<Termios>,
}

impl Screen {
    /// Turns to it. Keys come without Enter and are not shown, where stdin is a terminal.
    pub(crate) fn open() -> io::Result<Self> {
        let saved = if io::stdin().is_terminal() {
            let was = tcgetattr(io::stdin())?;
            let mut bare = was.clone();
            bare.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(io::stdin(), OptionalActions::Flush, &bare)?;
            Some(was)
        } else {
            None
        };
        let screen = Self { saved };
        write(OPEN)?;
        Ok(screen)
    }

    /// Draws lines over what is there; what does not fit is left out.
    pub(crate) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let (columns, rows) = size();
        let mut frame = "\x1b[H".to_owned();
        // The last line stays empty: writing it to its end would move all the others up.
        for line in lines.iter().take(rows.saturating_sub(1)) {
            frame.push_str(&crate::output::text::cut(line, columns));
            frame.push_str("\x1b[K\n");
        }
        frame.push_str("\x1b[J");
        write(&frame)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(CLOSE);
        if let Some(was) = &self.saved {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, was);
        }
    }
}

/// The keys that are pressed from now on. The thread that reads them ends with the process: nothing can wake it before.
pub(crate) fn keys() -> mpsc::Receiver<u8> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for key in io::stdin().lock().bytes() {
            let Ok(key) = key else { return };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}

fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => SIZE_DEFAULT,
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
