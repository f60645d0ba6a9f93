// SPDX-License-Identifier: Apache-2.0
//! `target/local/env`: shell `KEY=value` lines, readable by nobody else.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use cap_testkit::ca::Pebble;
use cap_testkit::stack::{Infrastructure, Stack};

/// It holds a token.
const MODE: u32 = 0o600;

/// What the infrastructure offers. The variable of the proxy's control port is one that our binaries pass over.
pub(super) fn of_infrastructure(infrastructure: &Infrastructure) -> Vec<(&'static str, String)> {
    let ca: &Pebble = &infrastructure.ca;
    vec![
        ("CAP_MONGO_URI", infrastructure.mongo_uri.clone()),
        ("CAP_ACME_DIRECTORY_URL", ca.directory_url().to_owned()),
        ("CAP_ACME_CA_FILE", ca.ca_file().display().to_string()),
        ("CAP_CHALLENGE_ADDR", format!("127.0.0.1:{}", ca.http_port())),
        ("CAP_DNS_MANAGEMENT_URL", ca.dns_management_url().to_owned()),
        ("CAP_TEST_CA_PROXY_URL", ca.coordinates().proxy_control_url.clone()),
    ]
}

/// What a whole stack offers. The API is plain HTTP on loopback, so `CAP_CA_FILE` is left out.
pub(super) fn of_stack(stack: &Stack) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut lines =
        vec![("CAP_API_URL", stack.api_url(0)?.to_owned()), ("CAP_TOKEN", stack.token().to_owned())];
    lines.extend(of_infrastructure(&stack.infrastructure));
    lines.push(("CAP_KEK_DIR", stack.kek_dir().display().to_string()));
    Ok(lines)
}

/// Writes the file in one rename.
pub(super) fn write(home: &Path, lines: &[(&str, String)]) -> anyhow::Result<()> {
    let text: String = lines.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
    let (path, temporary) = (home.join("env"), home.join("env.new"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("removing env.new")?
        }
        _ => {}
    }
    let file = fs::File::options().create_new(true).write(true).mode(MODE).open(&temporary);
    let mut file = file.with_context(|| format!("making {}", temporary.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", temporary.display()))?;
    fs::rename(&temporary, &path).with_context(|| format!("writing {}", path.display()))
}

/// As a POSIX shell reads it back. Plain words stay plain, for readers that are no shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%_-+=:,./".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use cap_testkit::scratch::Scratch;

    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_written_and_nobody_else_may() {
        let home = Scratch::create().unwrap();
        let odd = "it's a \"$HOME\" `x` & y?a=b;c\\";
        let uri = "mongodb://127.0.0.1:1,127.0.0.1:2/x?replicaSet=rs0".to_owned();
        write(home.path(), &[("A", odd.to_owned()), ("B", uri.clone()), ("C", "plain".into())]).unwrap();
        let path = home.path().join("env");
        let script = format!(". {} && printf '%s\\n%s\\n%s' \"$A\" \"$B\" \"$C\"", path.display());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{odd}\n{uri}\nplain"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
    }
}
