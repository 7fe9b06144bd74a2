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

/// An error and its causes, each once: many errors say their cause themselves.
pub fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

/// Says on stderr why a command failed, and returns its exit code. Nothing is said when whoever read its output has gone: to
/// stop reading is no mistake (`pagemesh doctor | head -1`).
pub fn failure(title: &str, error: &anyhow::Error) -> ExitCode {
    let is_gone = |error: &SayError| error.cause.kind() == io::ErrorKind::BrokenPipe;
    if !error.downcast_ref::<SayError>().is_some_and(is_gone) {
        eprintln!("{title}: {}", told(error));
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let cause = || io::Error::from(io::ErrorKind::NotFound);
        let says_it = anyhow::Error::from(cause()).context(format!("cannot read: {}; name another", cause()));
        assert_eq!(told(&says_it), format!("cannot read: {}; name another", cause()));
        let does_not = anyhow::Error::from(cause()).context("cannot read");
        assert_eq!(told(&does_not), format!("cannot read: {}", cause()));
    }
}
