//! One s2dsm process and its user.

use super::user_support;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub(crate) const PAGES_PROMPT: &str = " > How many pages would you like to allocate (greater than 0)?";
pub(crate) const COMMAND_PROMPT: &str =
    " > Which command should I run? (r:read, w:write, v:view msi array): ";
pub(crate) const LOCAL_COMMAND_PROMPT: &str = " > Which command should I run? (r:read, w:write): ";
pub(crate) const MESSAGE_PROMPT: &str = " > Type your new message: ";
pub(crate) const FAULT: &str = " [x] PAGEFAULT\n";

/// Longer than anything but a hang takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How the user is connected to the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Connection {
    /// A pseudo-terminal, which shows what is typed.
    Terminal,
    /// Pipes.
    Pipes,
}

#[derive(Default)]
struct Heard {
    text: Vec<u8>,
    ended: bool,
}

type Ear = Arc<(Mutex<Heard>, Condvar)>;

/// A running s2dsm. Dropping it kills it.
pub(crate) struct Player {
    pub(crate) connection: Connection,
    child: Child,
    input: Option<File>,
    ear: Ear,
    /// How much of the text has been looked at.
    seen: usize,
}

impl Player {
    /// Starts `s2dsm` with `arguments`.
    pub(crate) fn start(connection: Connection, arguments: &[&str]) -> Player {
        let mut command = user_support::command(Path::new(env!("CARGO_BIN_EXE_s2dsm")));
        command.args(arguments);
        let ear = Ear::default();
        match connection {
            Connection::Terminal => {
                let (master, slave) = terminal();
                command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
                let child = command.spawn().unwrap();
                // The command holds the terminal's other side open; its end must be seen when the process is gone.
                drop(command);
                listen(master.try_clone().unwrap(), &ear);
                Player { connection, child, input: Some(master), ear, seen: 0 }
            }
            Connection::Pipes => {
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = command.spawn().unwrap();
                listen(File::from(OwnedFd::from(child.stdout.take().unwrap())), &ear);
                let input = File::from(OwnedFd::from(child.stdin.take().unwrap()));
                Player { connection, child, input: Some(input), ear, seen: 0 }
            }
        }
    }

    /// Types `line` and Enter.
    pub(crate) fn type_line(&mut self, line: &str) {
        self.type_bytes(format!("{line}\n").as_bytes());
    }

    /// Types exactly `bytes`.
    pub(crate) fn type_bytes(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Ends the input: Ctrl-D, or closing the pipe.
    pub(crate) fn end_input(&mut self) {
        match self.connection {
            Connection::Terminal => self.type_bytes(b"\x04"),
            Connection::Pipes => drop(self.input.take()),
        }
    }

    /// All output since the last call up to and with `text`, which comes within `patience`.
    pub(crate) fn expect_within(&mut self, text: &str, patience: Duration) -> String {
        let until = Instant::now() + patience;
        let (heard, more) = &*self.ear;
        let mut heard = heard.lock().unwrap();
        loop {
            let new = &heard.text[self.seen..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                let end = at + text.len();
                self.seen += end;
                return String::from_utf8_lossy(&new[..end]).into_owned();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !heard.ended && !left.is_zero(),
                "no {text:?} in\n{}\n(the output {})",
                String::from_utf8_lossy(new),
                if heard.ended { "ended" } else { "goes on" }
            );
            heard = more.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// [`Player::expect_within`] with all patience.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        self.expect_within(text, PATIENCE)
    }

    /// What the user sees of an `answer` that was typed: it is echoed, except through a pipe, where only the line ends.
    pub(crate) fn echo(&self, answer: &str) -> String {
        match self.connection {
            Connection::Terminal => format!("{answer}\n"),
            Connection::Pipes => "\n".to_owned(),
        }
    }

    /// Answers the prompt that stands with `answer`, and gives what comes before `next`, the next prompt.
    pub(crate) fn answer(&mut self, answer: &str, next: &str) -> String {
        self.type_line(answer);
        let output = self.expect(next);
        let output = output.strip_suffix(next).unwrap();
        let echo = self.echo(answer);
        output.strip_prefix(&echo).unwrap_or_else(|| panic!("{output:?} after {answer:?}")).to_owned()
    }

    /// `v`, and its output.
    pub(crate) fn view(&mut self) -> String {
        self.answer("v", COMMAND_PROMPT)
    }

    /// `r` for `page` of `pages`, and its output.
    pub(crate) fn read(&mut self, page: &str, pages: usize) -> String {
        assert_eq!(self.answer("r", &page_prompt(pages)), "");
        self.answer(page, COMMAND_PROMPT)
    }

    /// `w` of `message` to `page` of `pages`, and its output.
    pub(crate) fn write(&mut self, page: &str, message: &str, pages: usize) -> String {
        assert_eq!(self.answer("w", &page_prompt(pages)), "");
        assert_eq!(self.answer(page, MESSAGE_PROMPT), "");
        self.answer(message, COMMAND_PROMPT)
    }

    /// Everything said until the end, from where the last look ended, and how the process ended.
    pub(crate) fn finish(mut self) -> (String, ExitStatus) {
        let until = Instant::now() + PATIENCE;
        let text = {
            let (heard, more) = &*self.ear;
            let mut heard = heard.lock().unwrap();
            while !heard.ended {
                let left = until.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "still running; it said {}", String::from_utf8_lossy(&heard.text));
                heard = more.wait_timeout(heard, left).unwrap().0;
            }
            String::from_utf8_lossy(&heard.text[self.seen..]).into_owned()
        };
        let mut errors = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut errors).unwrap();
        }
        (text + &errors, self.child.wait().unwrap())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The page prompt for a region of `pages`.
pub(crate) fn page_prompt(pages: usize) -> String {
    format!(" > For which page? (0-{}, or -1 for all): ", pages - 1)
}

/// The output of a view of these states, one letter a page.
pub(crate) fn states(letters: &str) -> String {
    letters.chars().enumerate().fold(String::new(), |text, (page, letter)| {
        let state = match letter {
            'M' => "MODIFIED",
            'S' => "SHARED",
            'I' => "INVALID",
            other => panic!("no state is called {other}"),
        };
        text + &format!(" [*] Page {page}: {state}\n")
    })
}

/// The lines of a page with this content.
pub(crate) fn page(page: usize, content: &str) -> String {
    format!(" [*] Page {page}:\n{content}\n")
}

/// Two processes, paired: the first waits at its question for the number of pages.
pub(crate) fn pair(connection: Connection, options: &[&str]) -> (Player, Player) {
    let (a, b) = super::two_ports();
    let (a, b) = (a.to_string(), b.to_string());
    let mut first = Player::start(connection, &[&[&*a, &*b], options].concat());
    first.expect("Waiting for the peer");
    let mut second = Player::start(connection, &[&[&*b, &*a], options].concat());
    first.expect(PAGES_PROMPT);
    second.expect("The first process chooses the number of pages.\n");
    (first, second)
}

/// Two processes with `pages` mapped, each at its command prompt.
pub(crate) fn pair_with_pages(connection: Connection, pages: usize) -> (Player, Player) {
    let (mut first, mut second) = pair(connection, &[]);
    let mapped = first.answer(&pages.to_string(), COMMAND_PROMPT);
    let also_mapped = second.expect(COMMAND_PROMPT);
    assert_eq!(also_mapped.strip_suffix(COMMAND_PROMPT), Some(&*mapped), "both map the same range");
    assert_mapped(&mapped, pages);
    (first, second)
}

/// `line` says where `pages` pages are.
pub(crate) fn assert_mapped(line: &str, pages: usize) {
    let (address, size) = line
        .strip_prefix(" [*] Mapped address: 0x")
        .and_then(|rest| rest.split_once(", "))
        .unwrap_or_else(|| panic!("{line:?}"));
    let address = u64::from_str_radix(address, 16).unwrap();
    assert!(address != 0 && address.is_multiple_of(4096), "{line:?}");
    assert_eq!(size, format!("size: {} bytes ({pages} pages)\n", pages * 4096));
}

/// A pseudo-terminal in its usual mode: master and slave.
fn terminal() -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let path = std::ffi::OsStr::from_bytes(name.as_bytes());
    let slave = OpenOptions::new().read(true).write(true).open(path).unwrap();
    (File::from(master), OwnedFd::from(slave))
}

/// Collects what `source` says, without the carriage returns that a terminal adds.
fn listen(mut source: File, ear: &Ear) {
    let ear = Arc::clone(ear);
    std::thread::spawn(move || {
        let mut chunk = [0; 8192];
        loop {
            // A terminal whose other side is closed says EIO.
            let bytes = source.read(&mut chunk).unwrap_or(0);
            let (heard, more) = &*ear;
            let mut heard = heard.lock().unwrap();
            heard.text.extend(chunk[..bytes].iter().filter(|&&byte| byte != b'\r'));
            heard.ended = bytes == 0;
            more.notify_all();
            if heard.ended {
                return;
            }
        }
    });
}
