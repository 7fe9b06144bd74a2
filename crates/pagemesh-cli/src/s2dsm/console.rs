//! The questions and the reading of their answers.

use super::message::Message;
use super::screen::Screen;
use std::io::{self, BufRead, Write};

/// The largest region the first question accepts, in pages (4 GiB): the view command lists every page.
pub const MAX_PAGES: usize = 1 << 20;

/// The longest part of a line that is kept, in bytes; the rest is only counted. Enough to see where a message must be cut.
const LINE_KEPT_BYTES: usize = 2 * super::message::MAX_BYTES;

const PAGES_PROMPT: &str = " > How many pages would you like to allocate (greater than 0)?";
const SHARED_COMMAND_PROMPT: &str = " > Which command should I run? (r:read, w:write, v:view msi array): ";
const LOCAL_COMMAND_PROMPT: &str = " > Which command should I run? (r:read, w:write): ";
const MESSAGE_PROMPT: &str = " > Type your new message: ";

/// What the user wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// `r`: print the content of pages.
    Read,
    /// `w`: replace the content of pages.
    Write,
    /// `v`: print the state of every page (not in stage 1c).
    View,
}

/// The pages that a command is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// One page.
    One(usize),
    /// `-1`.
    All,
}

/// The answer to a question, or the wish to leave (`q`, or the end of the input).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer<T> {
    /// What was asked for.
    Given(T),
    /// The user leaves.
    Leave,
}

/// How the input behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputKind {
    /// A terminal: it shows what is typed, newline included, and hands over at most 4095 bytes of a line
    /// (`termios(3)`, canonical mode), dropping the rest without a word.
    Terminal,
    /// A pipe or a file: nothing is shown, so the console ends each prompt's line itself.
    Stream,
}

/// Asks questions on a [`Screen`] and reads the answers, each question until its answer makes sense.
pub struct Console<'a, R, W> {
    input: R,
    kind: InputKind,
    screen: &'a Screen<W>,
}

/// A line of input without its newline.
struct Line {
    /// At most [`LINE_KEPT_BYTES`] of it.
    bytes: Vec<u8>,
    total_bytes: usize,
}

impl Line {
    /// The line as a word of an answer; a line that is no text is no known word.
    fn word(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or("").trim()
    }
}

impl<'a, R: BufRead, W: Write> Console<'a, R, W> {
    /// A console that reads `input` and writes to `screen`.
    pub fn new(input: R, kind: InputKind, screen: &'a Screen<W>) -> Console<'a, R, W> {
        Console { input, kind, screen }
    }

    /// Where this console writes.
    pub fn screen(&self) -> &'a Screen<W> {
        self.screen
    }

    /// Asks for the number of pages: 1 to [`MAX_PAGES`].
    ///
    /// # Errors
    /// When input or output fails.
    pub fn ask_page_count(&mut self) -> io::Result<Answer<usize>> {
        self.ask(PAGES_PROMPT, |word| match word.parse() {
            Ok(pages @ 1..=MAX_PAGES) => Ok(pages),
            _ => Err(format!("Give a whole number of pages from 1 to {MAX_PAGES}, or q to leave.")),
        })
    }

    /// Asks for a command; `with_view` says whether `v` is one.
    ///
    /// # Errors
    /// When input or output fails.
    pub fn ask_command(&mut self, with_view: bool) -> io::Result<Answer<Command>> {
        let prompt = if with_view { SHARED_COMMAND_PROMPT } else { LOCAL_COMMAND_PROMPT };
        self.ask(prompt, |word| match word {
            "r" => Ok(Command::Read),
            "w" => Ok(Command::Write),
            "v" if with_view => Ok(Command::View),
            _ if with_view => Err("Commands are r, w, v, and q to leave.".to_owned()),
            _ => Err("Commands are r, w, and q to leave.".to_owned()),
        })
    }

    /// Asks which of `pages` pages a command is for.
    ///
    /// # Errors
    /// When input or output fails.
    pub fn ask_page(&mut self, pages: usize) -> io::Result<Answer<Selection>> {
        let last = pages - 1;
        self.ask(&format!(" > For which page? (0-{last}, or -1 for all): "), |word| {
            if word == "-1" {
                return Ok(Selection::All);
            }
            match word.parse() {
                Ok(page) if page < pages => Ok(Selection::One(page)),
                _ => Err(format!("Give a page from 0 to {last}, -1 for all, or q to leave.")),
            }
        })
    }

    /// Asks for the new content of a page: any line. Says so when it had to be cut.
    ///
    /// # Errors
    /// When input or output fails.
    pub fn ask_message(&mut self) -> io::Result<Answer<Message>> {
        let Some(line) = self.read_answer(MESSAGE_PROMPT)? else { return Ok(Answer::Leave) };
        let message = Message::from_line(&line.bytes, line.total_bytes, self.kind == InputKind::Terminal);
        if let Some(cut) = message.cut() {
            self.hint(&cut.to_string())?;
        }
        Ok(Answer::Given(message))
    }

    /// Repeats `prompt` until `understand` accepts the answer; prints its hint otherwise.
    fn ask<T>(
        &mut self,
        prompt: &str,
        understand: impl Fn(&str) -> Result<T, String>,
    ) -> io::Result<Answer<T>> {
        loop {
            let Some(line) = self.read_answer(prompt)? else { return Ok(Answer::Leave) };
            match line.word() {
                "q" => return Ok(Answer::Leave),
                word => match understand(word) {
                    Ok(answer) => return Ok(Answer::Given(answer)),
                    Err(hint) => self.hint(&hint)?,
                },
            }
        }
    }

    fn hint(&self, text: &str) -> io::Result<()> {
        self.screen.print(format!(" [!] {text}\n").as_bytes())
    }

    fn read_answer(&mut self, prompt: &str) -> io::Result<Option<Line>> {
        self.screen.ask(prompt)?;
        let line = self.read_line()?;
        // At the end of the input nobody has typed a newline, on a terminal either.
        self.screen.answered(self.kind == InputKind::Stream || line.is_none())?;
        Ok(line)
    }

    /// The next line, or `None` at the end of the input. A last line without newline counts.
    fn read_line(&mut self) -> io::Result<Option<Line>> {
        let mut line = Line { bytes: Vec::new(), total_bytes: 0 };
        let mut seen = false;
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                return Ok(seen.then_some(line));
            }
            seen = true;
            let end = available.iter().position(|&byte| byte == b'\n');
            let text = &available[..end.unwrap_or(available.len())];
            let room = LINE_KEPT_BYTES - line.bytes.len();
            line.bytes.extend_from_slice(&text[..text.len().min(room)]);
            line.total_bytes += text.len();
            let used = text.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                if line.total_bytes == line.bytes.len() && line.bytes.last() == Some(&b'\r') {
                    line.bytes.pop();
                    line.total_bytes -= 1;
                }
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::MAX_BYTES;
    use super::*;

    /// Runs `talk` on a console fed with `input` and gives its result and all it printed.
    fn with_input<T>(
        input: &[u8],
        kind: InputKind,
        talk: impl FnOnce(&mut Console<'_, &[u8], Vec<u8>>) -> T,
    ) -> (T, String) {
        let screen = Screen::new(Vec::new());
        let result = talk(&mut Console::new(input, kind, &screen));
        (result, String::from_utf8(screen.into_output()).unwrap())
    }

    #[test]
    fn the_number_of_pages_is_asked_until_it_makes_sense() {
        let input = b"\nmany\n0\n-1\n-3\n2.5\n3 pages\n1048577\n99999999999999999999\n\xff\xfe\n 3 \nnext\n";
        let (answer, output) =
            with_input(input, InputKind::Terminal, |console| console.ask_page_count().unwrap());
        assert_eq!(answer, Answer::Given(3));
        assert_eq!(output.matches(PAGES_PROMPT).count(), 11);
        assert_eq!(output.matches(" [!] Give a whole number of pages from 1 to 1048576").count(), 10);
        let (answer, _) =
            with_input(b"1048576\n", InputKind::Stream, |console| console.ask_page_count().unwrap());
        assert_eq!(answer, Answer::Given(MAX_PAGES));
    }

    #[test]
    fn prompts_are_spelled_exactly() {
        let ((), output) = with_input(b"r\n2\nhi\n", InputKind::Terminal, |console| {
            console.ask_command(true).unwrap();
            console.ask_page(3).unwrap();
            console.ask_message().unwrap();
        });
        assert_eq!(
            output,
            " > Which command should I run? (r:read, w:write, v:view msi array): \
             \u{20}> For which page? (0-2, or -1 for all): \
             \u{20}> Type your new message: "
        );
        let (_, output) = with_input(b"w\n", InputKind::Terminal, |console| console.ask_command(false));
        assert_eq!(output, " > Which command should I run? (r:read, w:write): ");
        let (_, output) =
            with_input(b"1\n", InputKind::Terminal, |console| console.ask_page_count().unwrap());
        assert_eq!(output, " > How many pages would you like to allocate (greater than 0)?");
    }

    #[test]
    fn through_a_stream_each_prompt_ends_its_line() {
        let (_, output) = with_input(b"0\n", InputKind::Stream, |console| console.ask_page(1));
        assert_eq!(output, " > For which page? (0-0, or -1 for all): \n");
    }

    #[test]
    fn commands_and_rubbish() {
        let (answers, output) = with_input(b"R\n\nread\nv\nr\r\nw\n", InputKind::Terminal, |console| {
            [console.ask_command(true).unwrap(), console.ask_command(true).unwrap()]
        });
        assert_eq!(answers, [Answer::Given(Command::View), Answer::Given(Command::Read)]);
        assert_eq!(output.matches(" [!] Commands are r, w, v, and q to leave.\n").count(), 3);
        let (answer, output) =
            with_input(b"v\nw\n", InputKind::Terminal, |console| console.ask_command(false).unwrap());
        assert_eq!(answer, Answer::Given(Command::Write));
        assert!(output.contains(" [!] Commands are r, w, and q to leave.\n"), "{output}");
    }

    #[test]
    fn pages_out_of_range_are_asked_again() {
        let input = b"3\n-2\n1 2\n\n+\n18446744073709551616\n2\n-1\n";
        let (answers, output) = with_input(input, InputKind::Terminal, |console| {
            [console.ask_page(3).unwrap(), console.ask_page(3).unwrap()]
        });
        assert_eq!(answers, [Answer::Given(Selection::One(2)), Answer::Given(Selection::All)]);
        assert_eq!(output.matches(" [!] Give a page from 0 to 2, -1 for all, or q to leave.\n").count(), 6);
    }

    #[test]
    fn q_and_the_end_of_input_leave() {
        for input in [&b"q\n"[..], b"", b" q \n", b"q"] {
            let (answer, _) =
                with_input(input, InputKind::Stream, |console| console.ask_page_count().unwrap());
            assert_eq!(answer, Answer::Leave);
            let (answer, _) =
                with_input(input, InputKind::Stream, |console| console.ask_command(true).unwrap());
            assert_eq!(answer, Answer::Leave);
            let (answer, _) = with_input(input, InputKind::Stream, |console| console.ask_page(3).unwrap());
            assert_eq!(answer, Answer::Leave);
        }
        let (answer, output) = with_input(b"", InputKind::Terminal, |console| console.ask_message().unwrap());
        assert_eq!(answer, Answer::Leave);
        assert!(output.ends_with('\n'), "the shell's own prompt starts on a new line: {output:?}");
    }

    #[test]
    fn any_line_is_a_message() {
        for (input, expected) in [
            (&b"q\n"[..], &b"q"[..]),
            (b"\n", b""),
            (b"  two  words \r\n", b"  two  words "),
            (b"no newline", b"no newline"),
            (b"\xff\x00x\n", b"\xff"),
        ] {
            let (answer, _) = with_input(input, InputKind::Stream, |console| console.ask_message().unwrap());
            let Answer::Given(message) = answer else { panic!("{input:?} is a message") };
            assert_eq!(message.text(), expected);
        }
    }

    #[test]
    fn a_very_long_line_is_one_message_and_the_next_line_the_next() {
        let mut input = vec![b'a'; 3_000_000];
        input.extend_from_slice(b"\nr\n");
        let ((message, next), output) = with_input(&input, InputKind::Stream, |console| {
            (console.ask_message().unwrap(), console.ask_command(true).unwrap())
        });
        let Answer::Given(message) = message else { panic!("a message") };
        assert_eq!(message.text().len(), MAX_BYTES);
        assert!(output.contains("3000000"), "{output}");
        assert_eq!(next, Answer::Given(Command::Read));
    }
}
