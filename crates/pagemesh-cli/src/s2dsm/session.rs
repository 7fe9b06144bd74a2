//! The commands: read pages, write pages, view the states.

use super::console::{Answer, Command, Console, Selection};
use super::message::{Message, PAGE_BYTES, content};
use pagemesh::PageState;
use std::error::Error;
use std::io::{self, BufRead, Write};

/// Whether an access to a page trapped, as the runtime counted it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    /// The page was there with the right that was needed.
    Hit,
    /// The access page-faulted and the runtime made it good.
    Faulted,
}

/// The pages the commands work on. Each call is one access to one page, below [`SharedPages::pages`].
pub trait SharedPages {
    /// Why an access failed; its text is shown to the user.
    type Error: Error;

    /// How many pages there are.
    fn pages(&self) -> usize;

    /// The state of this process's copy; asks nobody.
    fn state(&self, page: usize) -> PageState;

    /// Reads the whole page into `bytes`.
    ///
    /// # Errors
    /// When no copy of the page can be had.
    fn read(&self, page: usize, bytes: &mut [u8; PAGE_BYTES]) -> Result<Touch, Self::Error>;

    /// Replaces the whole page.
    ///
    /// # Errors
    /// When the page cannot be had for writing.
    fn write(&self, page: usize, bytes: &[u8; PAGE_BYTES]) -> Result<Touch, Self::Error>;
}

/// One user at one process, from the first command to the last.
pub struct Session<'a, P, R, W> {
    pages: &'a P,
    console: Console<'a, R, W>,
    with_view: bool,
}

impl<'a, P: SharedPages, R: BufRead, W: Write> Session<'a, P, R, W> {
    /// A session on `pages`; `with_view` says whether `v` is a command (not in stage 1c, whose pages have no states).
    pub fn new(pages: &'a P, console: Console<'a, R, W>, with_view: bool) -> Session<'a, P, R, W> {
        Session { pages, console, with_view }
    }

    /// Runs commands until the user leaves. A page that cannot be had is reported and the next prompt follows.
    ///
    /// # Errors
    /// When input or output fails.
    pub fn run(&mut self) -> io::Result<()> {
        while let Answer::Given(command) = self.console.ask_command(self.with_view)? {
            let answer = match command {
                Command::View => self.view().map(Answer::Given)?,
                Command::Read => self.read()?,
                Command::Write => self.write()?,
            };
            if answer == Answer::Leave {
                break;
            }
        }
        Ok(())
    }

    fn view(&self) -> io::Result<()> {
        for page in 0..self.pages.pages() {
            let state = match self.pages.state(page) {
                PageState::Invalid => "INVALID",
                PageState::Shared => "SHARED",
                PageState::Modified => "MODIFIED",
            };
            self.print(format!(" [*] Page {page}: {state}\n").as_bytes())?;
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<Answer<()>> {
        let Answer::Given(selection) = self.console.ask_page(self.pages.pages())? else {
            return Ok(Answer::Leave);
        };
        self.for_each(&selection, |session, page| {
            let mut bytes = [0; PAGE_BYTES];
            match session.pages.read(page, &mut bytes) {
                Ok(touch) => session.print_content(page, touch, &bytes),
                Err(error) => session.print_failure(page, "read", &error),
            }
        })
    }

    fn write(&mut self) -> io::Result<Answer<()>> {
        let Answer::Given(selection) = self.console.ask_page(self.pages.pages())? else {
            return Ok(Answer::Leave);
        };
        let Answer::Given(message) = self.console.ask_message()? else { return Ok(Answer::Leave) };
        self.for_each(&selection, |session, page| session.write_page(page, &message))
    }

    fn write_page(&self, page: usize, message: &Message) -> io::Result<()> {
        match self.pages.write(page, &message.page()) {
            Ok(touch) => {
                // What is shown is what the page holds, read back; only the write is an access the user asked for.
                let mut bytes = [0; PAGE_BYTES];
                match self.pages.read(page, &mut bytes) {
                    Ok(_) => self.print_content(page, touch, &bytes),
                    Err(error) => self.print_failure(page, "read", &error),
                }
            }
            Err(error) => self.print_failure(page, "written", &error),
        }
    }

    fn for_each(
        &self,
        selection: &Selection,
        act: impl Fn(&Self, usize) -> io::Result<()>,
    ) -> io::Result<Answer<()>> {
        match *selection {
            Selection::One(page) => act(self, page)?,
            Selection::All => (0..self.pages.pages()).try_for_each(|page| act(self, page))?,
        }
        Ok(Answer::Given(()))
    }

    fn print_content(&self, page: usize, touch: Touch, bytes: &[u8; PAGE_BYTES]) -> io::Result<()> {
        let fault = if touch == Touch::Faulted { " [x] PAGEFAULT\n" } else { "" };
        let head = format!("{fault} [*] Page {page}:\n");
        self.print(&[head.as_bytes(), content(bytes), b"\n"].concat())
    }

    fn print_failure(&self, page: usize, what: &str, error: &P::Error) -> io::Result<()> {
        self.print(format!(" [!] Page {page} cannot be {what}: {error}\n").as_bytes())
    }

    fn print(&self, lines: &[u8]) -> io::Result<()> {
        self.console.screen().print(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::super::console::InputKind;
    use super::super::screen::Screen;
    use super::*;
    use PageState::{Invalid, Modified, Shared};
    use std::cell::{Cell, RefCell};

    #[derive(thiserror::Error, Debug)]
    #[error("its only copy was on node {node}")]
    struct Lost {
        node: u16,
    }

    /// Pages that know their state and bytes, and the peer's states, by the textbook table of MSI.
    struct FakePages {
        own: RefCell<Vec<PageState>>,
        peer: RefCell<Vec<PageState>>,
        bytes: RefCell<Vec<[u8; PAGE_BYTES]>>,
        lost: Cell<bool>,
    }

    impl FakePages {
        fn new(own: &[PageState], peer: &[PageState]) -> FakePages {
            let (own_states, peer_states) = (own.to_vec(), peer.to_vec());
            FakePages {
                bytes: RefCell::new(vec![[0; PAGE_BYTES]; own.len()]),
                own: RefCell::new(own_states),
                peer: RefCell::new(peer_states),
                lost: Cell::new(false),
            }
        }

        fn say(&self, page: usize, text: &str) {
            self.bytes.borrow_mut()[page][..text.len()].copy_from_slice(text.as_bytes());
        }
    }

    impl SharedPages for FakePages {
        type Error = Lost;

        fn pages(&self) -> usize {
            self.own.borrow().len()
        }

        fn state(&self, page: usize) -> PageState {
            self.own.borrow()[page]
        }

        fn read(&self, page: usize, bytes: &mut [u8; PAGE_BYTES]) -> Result<Touch, Lost> {
            let (own, peer) = (self.own.borrow()[page], self.peer.borrow()[page]);
            if own == Invalid {
                if self.lost.get() {
                    return Err(Lost { node: 1 });
                }
                self.own.borrow_mut()[page] = Shared;
                if peer == Modified {
                    self.peer.borrow_mut()[page] = Shared;
                }
            }
            *bytes = self.bytes.borrow()[page];
            Ok(if own == Invalid { Touch::Faulted } else { Touch::Hit })
        }

        fn write(&self, page: usize, bytes: &[u8; PAGE_BYTES]) -> Result<Touch, Lost> {
            let own = self.own.borrow()[page];
            if own == Invalid && self.lost.get() {
                return Err(Lost { node: 1 });
            }
            self.own.borrow_mut()[page] = Modified;
            self.peer.borrow_mut()[page] = Invalid;
            self.bytes.borrow_mut()[page] = *bytes;
            Ok(if own == Modified { Touch::Hit } else { Touch::Faulted })
        }
    }

    /// All that the session prints for `input`, without the prompts.
    fn transcript(pages: &FakePages, with_view: bool, input: &str) -> String {
        let screen = Screen::new(Vec::new());
        let console = Console::new(input.as_bytes(), InputKind::Stream, &screen);
        Session::new(pages, console, with_view).run().unwrap();
        let output = String::from_utf8(screen.into_output()).unwrap();
        output
            .lines()
            .filter(|line| !line.starts_with(" > "))
            .fold(String::new(), |text, line| text + line + "\n")
    }

    #[test]
    fn the_view_lists_every_state_and_asks_no_page() {
        let pages = FakePages::new(&[Shared, Invalid, Modified], &[Shared, Invalid, Invalid]);
        assert_eq!(
            transcript(&pages, true, "v\nq\n"),
            " [*] Page 0: SHARED\n [*] Page 1: INVALID\n [*] Page 2: MODIFIED\n"
        );
    }

    #[test]
    fn a_read_faults_only_from_invalid() {
        let pages = FakePages::new(&[Invalid, Shared, Modified], &[Modified, Shared, Invalid]);
        pages.say(0, "zero");
        pages.say(2, "two\nlines");
        assert_eq!(
            transcript(&pages, true, "r\n-1\nr\n0\n"),
            " [x] PAGEFAULT\n [*] Page 0:\nzero\n [*] Page 1:\n\n [*] Page 2:\ntwo\nlines\n [*] Page 0:\nzero\n"
        );
        assert_eq!(pages.peer.borrow()[0], Shared);
    }

    #[test]
    fn a_write_faults_once_from_invalid_and_from_shared() {
        let pages = FakePages::new(&[Invalid, Shared, Modified], &[Shared, Shared, Invalid]);
        pages.say(1, "a longer text than the next");
        assert_eq!(
            transcript(&pages, true, "w\n-1\nnew\nv\n"),
            " [x] PAGEFAULT\n [*] Page 0:\nnew\n [x] PAGEFAULT\n [*] Page 1:\nnew\n [*] Page 2:\nnew\n \
             [*] Page 0: MODIFIED\n [*] Page 1: MODIFIED\n [*] Page 2: MODIFIED\n"
        );
        assert_eq!(*pages.peer.borrow(), [Invalid, Invalid, Invalid]);
        assert!(pages.bytes.borrow()[1][3..].iter().all(|&byte| byte == 0), "no tail of the old message");
    }

    #[test]
    fn lost_pages_are_errors_and_the_rest_goes_on() {
        let pages = FakePages::new(&[Shared, Invalid, Modified], &[Shared, Modified, Invalid]);
        pages.say(0, "kept");
        pages.lost.set(true);
        assert_eq!(
            transcript(&pages, true, "r\n-1\nw\n1\nx\nv\n"),
            " [*] Page 0:\nkept\n [!] Page 1 cannot be read: its only copy was on node 1\n [*] Page 2:\n\n \
             [!] Page 1 cannot be written: its only copy was on node 1\n \
             [*] Page 0: SHARED\n [*] Page 1: INVALID\n [*] Page 2: MODIFIED\n"
        );
    }

    #[test]
    fn leaving_at_any_prompt_touches_nothing() {
        for input in ["", "q\n", "r\n", "r\nq\n", "w\n", "w\nq\n", "w\n0\n"] {
            let pages = FakePages::new(&[Invalid], &[Invalid]);
            assert_eq!(transcript(&pages, true, input), "", "{input:?}");
            assert_eq!(pages.state(0), Invalid);
        }
    }

    #[test]
    fn stage_1c_knows_no_view() {
        let pages = FakePages::new(&[Invalid], &[Invalid]);
        assert_eq!(transcript(&pages, false, "v\nq\n"), " [!] Commands are r, w, and q to leave.\n");
    }
}
