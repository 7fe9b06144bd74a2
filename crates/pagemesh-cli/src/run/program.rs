//! Finding the program before anything is started, and becoming it in the node's process.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::fs::{Access, access};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::LaunchError;

/// Where programs are looked for when `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The path of `program`, looked up as execvp(3) does, in the `PATH` the nodes will have.
pub(super) fn find(program: &OsStr, environment: &[(OsString, OsString)]) -> Result<PathBuf, LaunchError> {
    let missing = |looked| LaunchError::ProgramNotFound { program: program.to_owned(), looked };
    if program.is_empty() {
        return Err(missing("its name is empty"));
    }
    if program.as_bytes().contains(&b'/') {
        return match check(Path::new(program)) {
            Ok(()) => Ok(PathBuf::from(program)),
            Err(error) if is_missing(&error) => Err(missing("there is no such file")),
            Err(error) => Err(not_executable(program, &error)),
        };
    }
    let own = environment.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let path = own.or_else(|| env::var_os("PATH")).unwrap_or_else(|| DEFAULT_PATH.into());
    let mut refused = None;
    for directory in env::split_paths(&path) {
        let candidate = directory.join(program);
        match check(&candidate) {
            // An empty entry means the current directory, and a bare name would be looked up again.
            Ok(()) if directory.as_os_str().is_empty() => return Ok(Path::new(".").join(candidate)),
            Ok(()) => return Ok(candidate),
            Err(error) if is_missing(&error) => {}
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match refused {
        Some(error) => Err(not_executable(program, &error)),
        None => Err(missing("no directory of PATH has it")),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn not_executable(program: &OsStr, error: &io::Error) -> LaunchError {
    LaunchError::ProgramNotExecutable { program: program.to_owned(), found: error.to_string() }
}

fn check(path: &Path) -> io::Result<()> {
    if path.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(access(path, Access::EXEC_OK)?)
}

/// Becomes the program; returns the exit code only when that fails.
///
/// The arguments are the launcher's process id, the title of its messages, the program's path, its name as it was
/// asked for, and its own arguments.
pub(super) fn become_program(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().unwrap_or_default();
    let (launcher, title, path, name) = (next(), next(), next(), next());
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("{}: cannot bind the node's life to the launcher's: {error}", title.display());
        return ExitCode::FAILURE;
    }
    // The death of a launcher that was gone before the call above sends nothing: then this process has another parent.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().to_string());
    if parent.as_deref().map(OsStr::new) != Some(&launcher) {
        return ExitCode::FAILURE;
    }
    let error = Command::new(&path).arg0(&name).args(arguments).exec();
    // `find` saw the file: what is missing now is its interpreter, or what is wrong is its format.
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    let found = if is_missing {
        "its interpreter is not there; look at the first line of a script, or at what `file` says of a program".to_owned()
    } else {
        error.to_string()
    };
    eprintln!("{}: cannot execute the program \"{}\": {found}", title.display(), name.display());
    ExitCode::from(if is_missing { 127 } else { 126 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(path: &str) -> Vec<(OsString, OsString)> {
        vec![("PATH".into(), path.into())]
    }

    #[test]
    fn names_are_looked_up_in_the_path_of_the_nodes() {
        assert_eq!(find("sh".as_ref(), &environment("/nowhere:/bin")).unwrap(), Path::new("/bin/sh"));
        let error = find("sh".as_ref(), &environment("/nowhere")).unwrap_err();
        assert_eq!(error.code(), 127);
    }

    #[test]
    fn paths_are_taken_as_they_are() {
        assert_eq!(find("/bin/sh".as_ref(), &environment("")).unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("/nowhere/sh".as_ref(), &[]).unwrap_err().code(), 127);
        assert_eq!(find("/bin/sh/sh".as_ref(), &[]).unwrap_err().code(), 127);
        assert_eq!(find("".as_ref(), &[]).unwrap_err().code(), 127);
    }

    #[test]
    fn directories_and_plain_files_cannot_be_executed() {
        assert_eq!(find("/".as_ref(), &[]).unwrap_err().code(), 126);
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(find(file.path().as_os_str(), &[]).unwrap_err().code(), 126);
    }
}
