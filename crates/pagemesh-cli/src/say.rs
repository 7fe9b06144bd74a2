//! What is said on standard output, which may be full or gone.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Standard output does not take what is to be said.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written: {cause}; make room, or send it somewhere else")]
pub struct SayError {
    cause: io::Error,
}

/// Writes `text` to standard output, all of it.
///
/// # Errors
/// When the output is full, or whoever read it has gone.
pub fn say(text: impl fmt::Display) -> Result<(), SayError> {
    let mut output = io::stdout().lock();
    write!(output, "{text}").and_then(|()| output.flush()).map_err(|cause| SayError { cause })
}

/// Says on stderr why a command failed, and returns its exit code. Nothing is said when whoever read its output has gone: to
/// stop reading is no mistake (`pagemesh doctor | head -1`).
pub fn failure(title: &str, error: &anyhow::Error) -> ExitCode {
    let is_gone = |error: &SayError| error.cause.kind() == io::ErrorKind::BrokenPipe;
    if !error.downcast_ref::<SayError>().is_some_and(is_gone) {
        eprintln!("{title}: {error:#}");
    }
    ExitCode::FAILURE
}
