//! A temporary folder of a test program, for the test programs of several crates.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// A folder that every user can reach, wherever the programs lie. It goes when the test program ends: a static is never dropped.
pub(crate) fn public_folder() -> &'static Path {
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder").keep();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("ours");
        // SAFETY: the function does nothing but remove files.
        assert_eq!(unsafe { libc::atexit(remove) }, 0);
        folder
    })
}

extern "C" fn remove() {
    if let Some(folder) = FOLDER.get() {
        // What is left is only untidy.
        let _ = fs::remove_dir_all(folder);
    }
}
