//! What the user sees: whole lines, prompts, and notices that arrive from another thread while a prompt stands.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The output of the program, shared by the thread that talks to the user and the one that watches the peer.
///
/// Lines are never torn: each call writes under one lock. A notice that arrives while a prompt stands goes below it, and
/// the prompt is written again, so that the last thing on the screen is always what the user is asked.
pub struct Screen<W> {
    inner: Mutex<Inner<W>>,
}

struct Inner<W> {
    output: W,
    /// The prompt that waits for an answer now.
    prompt: Option<String>,
}

impl<W: Write> Screen<W> {
    /// A screen that writes to `output`.
    pub fn new(output: W) -> Screen<W> {
        Screen { inner: Mutex::new(Inner { output, prompt: None }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        // A panic while writing leaves at worst half a line on the screen.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `lines` (which end with a newline) and flushes.
    ///
    /// # Errors
    /// When the output is gone.
    pub fn print(&self, lines: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        inner.output.write_all(lines)?;
        inner.output.flush()
    }

    /// Writes a prompt without a newline, flushes, and remembers it until [`Screen::answered`].
    ///
    /// # Errors
    /// When the output is gone.
    pub fn ask(&self, prompt: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.prompt = Some(prompt.to_owned());
        inner.output.write_all(prompt.as_bytes())?;
        inner.output.flush()
    }

    /// The prompt has its answer. With `end_line` a newline is written, because nobody else has ended the prompt's line.
    ///
    /// # Errors
    /// When the output is gone.
    pub fn answered(&self, end_line: bool) -> io::Result<()> {
        let mut inner = self.lock();
        inner.prompt = None;
        if end_line {
            inner.output.write_all(b"\n")?;
            inner.output.flush()?;
        }
        Ok(())
    }

    /// Writes a line that the user did not ask for, at once.
    ///
    /// # Errors
    /// When the output is gone.
    pub fn notice(&self, line: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let text = match &inner.prompt {
            Some(prompt) => format!("\n{line}\n{prompt}"),
            None => format!("{line}\n"),
        };
        inner.output.write_all(text.as_bytes())?;
        inner.output.flush()
    }

    /// The output itself, for tests.
    #[cfg(test)]
    pub(crate) fn into_output(self) -> W {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner).output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_below_a_prompt_repeats_the_prompt() {
        let screen = Screen::new(Vec::new());
        screen.ask("> ").unwrap();
        screen.notice("the peer left").unwrap();
        screen.answered(false).unwrap();
        assert_eq!(screen.into_output(), b"> \nthe peer left\n> ");
    }

    #[test]
    fn a_notice_without_a_prompt_is_a_line() {
        let screen = Screen::new(Vec::new());
        screen.ask("> ").unwrap();
        screen.answered(true).unwrap();
        screen.notice("the peer left").unwrap();
        screen.print(b"more\n").unwrap();
        assert_eq!(screen.into_output(), b"> \nthe peer left\nmore\n");
    }
}
