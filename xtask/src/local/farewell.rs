// SPDX-License-Identifier: Apache-2.0
//! What `up` says at its end: what there is, and what to try.

use std::io::Write as _;
use std::path::Path;

use crate::workspace;

/// After a whole stack came up.
pub(super) fn of_stack(home: &Path, api_url: &str, certificate: &str, id: &str, project: &str) {
    let (env, logs) = (shown(&home.join("env")), shown(&home.join("logs")));
    let cli = shown(&workspace::bin_dir(false).unwrap_or_default().join("certautopilot"));
    tell(&format!(
        "
{certificate}
The certificate above is for hello.example.test, in the project `demo`, issued by the local CA.
The API is at {api_url}. Try next, in this order:

  set -a; . {env}; set +a
  {cli} health
  {cli} cert list
  curl -s -H \"Authorization: Bearer $CAP_TOKEN\" $CAP_API_URL/api/v1/projects/{project}/certificates/{id}
  cargo xtask status

Logs: {logs}/NAME.log. `cargo xtask down` stops it all.
"
    ));
}

/// After `--infra-only`.
pub(super) fn of_infrastructure(home: &Path) {
    let (env, logs) = (shown(&home.join("env")), shown(&home.join("logs")));
    tell(&format!(
        "
Replica set and CA are up. Their coordinates: . {env}
Logs: {logs}/NAME.log. `cargo xtask down` stops it all.
"
    ));
}

/// After a second `up`.
pub(super) fn again(home: &Path) {
    let env = shown(&home.join("env"));
    tell(&format!(
        "the local stack is up; its coordinates: . {env}
`cargo xtask status` shows it, `cargo xtask down` stops it.
"
    ));
}

fn tell(text: &str) {
    // The stack is up, whether or not anybody reads on.
    let _reader_left = std::io::stdout().write_all(text.as_bytes());
}

/// Relative to the checkout, where people stand.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
