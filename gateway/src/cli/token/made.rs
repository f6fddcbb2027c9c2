//! Secrets that were made, and where they go.
//!
//! Responsible for showing a secret in one place only: in the file that was named, and then what may be known of it is
//! printed on stdout; or, without a file, on stdout, and then the rest goes to stderr. Must never overwrite a file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::cli::{complain, print};

/// Shows a secret on stdout, and what may be known of it on stderr.
pub(super) fn shown(secret: &str, public: &str) {
    print(&format!("{}\n", secret.trim_end()));
    complain([public.trim_end().to_owned()]);
}

/// Says on stdout what may be known of a secret that was written into a file.
pub(super) fn kept(public: &str) {
    print(&format!("{}\n", public.trim_end()));
}

/// Writes a secret into a new file that only its owner can read.
pub(super) fn write_file(path: &Path, secret: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}
