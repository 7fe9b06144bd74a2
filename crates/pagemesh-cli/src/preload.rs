//! Where the preload library is, with which system calls of unchanged programs can use shared memory.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Names the library, or nothing, instead of a search.
pub const VARIABLE: &str = "PAGEMESH_PRELOAD";

/// What ld.so(8) reads.
pub const LOADER_VARIABLE: &str = "LD_PRELOAD";

/// The file's name, as cargo gives it.
const FILE: &str = "libpagemesh_preload.so";

/// Where it may lie, seen from the folder of this program: where cargo builds it in any case, beside the program, and in an
/// installation. Beside the program there may be an older one: cargo replaces that only when it is asked for by name.
const PLACES: [&str; 3] = ["deps", "", "../lib/pagemesh"];

/// Why there is nothing to preload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PreloadError {
    /// The library was named, and what was named cannot be loaded.
    #[error("{VARIABLE} is {path:?}: {found}; set it to the path of {FILE}, or unset it")]
    Named {
        /// What the variable holds.
        path: PathBuf,
        /// What is wrong with it.
        found: &'static str,
    },
    /// The library is nowhere where it is expected.
    #[error(
        "no {FILE} that can be used{}; build it (cargo build -p pagemesh-preload), or set {VARIABLE} to its path",
        places(looked)
    )]
    NotFound {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
}

fn places(looked: &[PathBuf]) -> String {
    looked.iter().fold(String::new(), |mut text, path| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{} {}", if text.is_empty() { " at" } else { "," }, path.display());
        text
    })
}

/// The library: the one that `PAGEMESH_PRELOAD` names, or the one that came with this program.
///
/// # Errors
/// When there is none, or it cannot be loaded.
pub fn find() -> Result<PathBuf, PreloadError> {
    let program = env::current_exe().unwrap_or_default();
    find_for(env::var_os(VARIABLE), &program)
}

fn find_for(named: Option<OsString>, program: &Path) -> Result<PathBuf, PreloadError> {
    if let Some(path) = named.filter(|path| !path.is_empty()).map(PathBuf::from) {
        return match obstacle(&path) {
            // Nodes may change their folder before they start something.
            None => Ok(path.canonicalize().unwrap_or(path)),
            Some(found) => Err(PreloadError::Named { path, found }),
        };
    }
    let folder = program.parent().unwrap_or(Path::new(""));
    let looked: Vec<PathBuf> = PLACES.iter().map(|place| folder.join(place).join(FILE)).collect();
    match looked.iter().find(|path| obstacle(path).is_none()) {
        Some(path) => Ok(path.clone()),
        None => Err(PreloadError::NotFound { looked }),
    }
}

/// Why the dynamic linker could not load this file.
fn obstacle(path: &Path) -> Option<&'static str> {
    // ld.so(8): the list is separated by blanks or colons, and there is no way to quote one.
    if path.as_os_str().as_bytes().iter().any(|byte| byte.is_ascii_whitespace() || *byte == b':') {
        return Some("LD_PRELOAD cannot hold a path with a blank or a colon");
    }
    match path.metadata() {
        Err(_) => Some("there is no such file"),
        Ok(found) if !found.is_file() => Some("it is no file"),
        Ok(_) => access(path, Access::READ_OK).is_err().then_some("it cannot be read by this user"),
    }
}

/// The value of `LD_PRELOAD` that loads `library` before what is loaded already.
pub fn prepended(library: &Path, before: Option<&OsStr>) -> OsString {
    let mut list = library.as_os_str().to_owned();
    if let Some(before) = before.filter(|before| !before.is_empty()) {
        list.push(":");
        list.push(before);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_is_found_beside_the_program_in_deps_and_in_an_installation() {
        for place in PLACES {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join("bin");
            fs::create_dir_all(folder.join(place)).unwrap();
            let program = folder.join("pagemesh");
            let missing = find_for(None, &program).unwrap_err();
            assert!(missing.to_string().contains("bin/deps/libpagemesh_preload.so"), "{missing}");
            fs::write(folder.join(place).join(FILE), "").unwrap();
            assert_eq!(find_for(None, &program).unwrap(), folder.join(place).join(FILE));
        }
    }

    #[test]
    fn one_that_is_named_is_taken_or_refused_but_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let (good, folder) = (root.path().join("own.so"), root.path().join("folder"));
        fs::write(&good, "").unwrap();
        fs::create_dir(&folder).unwrap();
        let program = root.path().join("pagemesh");
        fs::write(root.path().join(FILE), "").unwrap();
        let find = |named: &Path| find_for(Some(named.into()), &program);
        assert_eq!(find(&good), Ok(good.canonicalize().unwrap()));
        assert_eq!(find(Path::new("")), Ok(root.path().join(FILE)), "an empty one names nothing");
        for (wrong, says) in
            [(root.path().join("no.so"), "no such file"), (folder, "no file"), ("/a b.so".into(), "blank")]
        {
            let error = find(&wrong).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(VARIABLE), "{error}");
        }
    }

    #[test]
    fn what_was_preloaded_stays() {
        let library = Path::new("/p/own.so");
        assert_eq!(prepended(library, None), "/p/own.so");
        assert_eq!(prepended(library, Some("".as_ref())), "/p/own.so");
        assert_eq!(prepended(library, Some("/a.so /b.so".as_ref())), "/p/own.so:/a.so /b.so");
    }
}
