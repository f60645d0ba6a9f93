// SPDX-License-Identifier: Apache-2.0
//! A file that holds one secret.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::SecretString;

/// Octets of a secret: far more than a URI, a token or a key needs.
const SECRET_OCTETS: u64 = 64 * 1024;

/// Whether others may read or write a file, or its group may write it. Groups may read: Kubernetes mounts secrets
/// for the group of the pod.
pub(super) fn is_exposed(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o026 != 0
}

/// Reads at most `octets` of a text file; says what it is open to as well.
pub(super) fn read_text(path: &Path, octets: u64) -> io::Result<(String, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut text = String::new();
    let read = file.take(octets + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > octets {
        return Err(io::Error::other(format!("it is longer than {octets} octets")));
    }
    Ok((text, metadata))
}

/// The secret in a file, without the newline at its end; or why not, and what to do.
pub(crate) fn read(path: &Path) -> Result<SecretString, (String, String)> {
    let (mut text, metadata) = read_text(path, SECRET_OCTETS).map_err(|error| {
        let why = format!("{} cannot be read: {error}", path.display());
        (why, "name a text file that this process may read".to_owned())
    })?;
    if is_exposed(&metadata) {
        let mode = metadata.permissions().mode() & 0o7777;
        let why = format!("others may read or change {} (mode {mode:04o})", path.display());
        return Err((why, format!("chmod 0600 {}", path.display())));
    }
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(SecretString::from(text))
}
