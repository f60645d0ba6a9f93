// SPDX-License-Identifier: Apache-2.0
//! The thread from which children that must die with us are started.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that started the child ends, not the process. A test's thread ends
//! with the test, so the children of a shared replica set would die with the first test. This thread lives until
//! the process does. The child sets the signal for itself (`setpriv --pdeathsig`, of util-linux), because doing
//! it between fork and exec needs unsafe code.

use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context as _, anyhow};

struct Request {
    command: Command,
    reply: Sender<std::io::Result<Child>>,
}

static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();

/// Starts the thread, in the network namespace of the caller: whoever enters another one does this before.
pub(crate) fn start() {
    let _requests = requests();
}

fn requests() -> &'static Sender<Request> {
    SPAWNER.get_or_init(|| {
        let (sender, receiver) = channel();
        std::thread::spawn(move || serve(&receiver));
        sender
    })
}

/// Starts the command from the thread that lives as long as the process.
pub(super) fn spawn(command: Command) -> anyhow::Result<Child> {
    let requests = requests();
    let (reply, answer) = channel();
    requests.send(Request { command, reply }).map_err(|_| anyhow!("the spawner thread is gone"))?;
    answer.recv().context("the spawner thread is gone")?.context("starting the process")
}

fn serve(requests: &Receiver<Request>) {
    for mut request in requests {
        let child = request.command.spawn();
        // The asker may have given up: then nobody owns the child, and it is ended here.
        if let Err(unsent) = request.reply.send(child)
            && let Ok(mut orphan) = unsent.0
        {
            let _gone_already = orphan.kill();
            let _reaped = orphan.wait();
        }
    }
}
