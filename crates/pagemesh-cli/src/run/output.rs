//! Copies the nodes' output line by line.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::{Errno, ioctl_fionread};

use super::DRAIN_GRACE;

/// The longest line that is kept whole. A longer one is cut here, so that a node cannot fill the launcher's memory.
pub(super) const LINE_BYTES_MAX: usize = 64 << 20;

/// How much is read at once: what a pipe holds by default (pipe(7)).
const CHUNK_BYTES: usize = 64 << 10;

/// One of the launcher's own streams, shared by all that write to it.
#[derive(Clone)]
pub(super) struct Sink {
    file: Arc<File>,
    turn: Arc<Mutex<()>>,
}

impl Sink {
    /// The launcher's stdout and stderr. When they are the same file they take turns, so that lines of the one never
    /// stand inside lines of the other; otherwise a reader that stalls the one does not hold up the other.
    pub(super) fn standard() -> io::Result<(Sink, Sink)> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let (one, other) = (fstat(&stdout)?, fstat(&stderr)?);
        let same = (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
        let turn = Arc::new(Mutex::new(()));
        let other_turn = if same { Arc::clone(&turn) } else { Arc::default() };
        let sink = |file, turn| Sink { file: Arc::new(file), turn };
        Ok((sink(stdout, turn), sink(stderr, other_turn)))
    }

    /// Writes whole lines, uninterrupted by other writers of this sink.
    pub(super) fn write(&self, lines: &[u8]) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = lines;
        while !rest.is_empty() {
            match (&*self.file).write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the terminal with us may have made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ignore_interrupt(poll(&mut [PollFd::new(&*self.file, PollFlags::OUT)], None))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Cuts a byte stream into lines and puts a prefix in front of each.
pub(super) struct Lines {
    prefix: Vec<u8>,
    unfinished: Vec<u8>,
    line_bytes_max: usize,
}

impl Lines {
    pub(super) fn new(prefix: Vec<u8>) -> Lines {
        Lines { prefix, unfinished: Vec::new(), line_bytes_max: LINE_BYTES_MAX }
    }

    /// Takes the next piece of the stream and appends the lines it completes to `out`.
    pub(super) fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let complete = piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        for line in piece[..complete].split_inclusive(|byte| *byte == b'\n') {
            out.extend_from_slice(&self.prefix);
            out.append(&mut self.unfinished);
            out.extend_from_slice(line);
        }
        self.unfinished.extend_from_slice(&piece[complete..]);
        if self.unfinished.len() >= self.line_bytes_max {
            self.finish(out);
        }
    }

    /// Appends what is left without a newline, and gives it one.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.unfinished.is_empty() {
            out.extend_from_slice(&self.prefix);
            out.append(&mut self.unfinished);
            out.push(b'\n');
        }
    }
}

/// Copies one node's stream to a sink.
pub(super) struct Pump {
    pipe: File,
    /// Hangs up when all nodes have ended.
    ended: Arc<OwnedFd>,
    sink: Sink,
    lines: Lines,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Pump {
    pub(super) fn new(pipe: OwnedFd, ended: Arc<OwnedFd>, sink: Sink, prefix: Vec<u8>) -> Pump {
        let buffer = vec![0; CHUNK_BYTES];
        Pump { pipe: File::from(pipe), ended, sink, lines: Lines::new(prefix), buffer, out: Vec::new() }
    }

    /// Copies until the pipe is closed by all its writers.
    ///
    /// When the nodes have ended and something else holds the pipe open, it is read for another [`DRAIN_GRACE`], and
    /// then once more what is in it: all that the nodes themselves wrote arrives, however slowly the sink takes it.
    ///
    /// # Errors
    /// The sink's. The pipe is closed then, and the node gets SIGPIPE, as if it had written to the sink itself.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut finish_at: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if finish_at.is_some_and(|finish_at| now >= finish_at) {
                self.sweep()?;
                break;
            }
            let (ready, ended) = self.wait(finish_at.map(|finish_at| finish_at - now))?;
            if ended && finish_at.is_none() {
                finish_at = Some(Instant::now() + DRAIN_GRACE);
            }
            if ready && self.copy(CHUNK_BYTES)? == 0 {
                break;
            }
        }
        self.lines.finish(&mut self.out);
        self.flush()
    }

    /// Waits until the pipe is readable, the nodes have ended, or `timeout` is over.
    fn wait(&self, timeout: Option<Duration>) -> io::Result<(bool, bool)> {
        let mut fds = [PollFd::new(&self.pipe, PollFlags::IN), PollFd::new(&*self.ended, PollFlags::IN)];
        // Once they have ended, that descriptor is ready for ever: only the pipe and the clock count then.
        let watched = if timeout.is_some() { &mut fds[..1] } else { &mut fds[..] };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        ignore_interrupt(poll(watched, timeout.as_ref()))?;
        Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty()))
    }

    /// Copies up to `bytes` that are there; 0 at the end of the stream.
    fn copy(&mut self, bytes: usize) -> io::Result<usize> {
        let count = match self.pipe.read(&mut self.buffer[..bytes.min(CHUNK_BYTES)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(bytes),
            result => result?,
        };
        self.lines.feed(&self.buffer[..count], &mut self.out);
        self.flush()?;
        Ok(count)
    }

    /// Copies what is in the pipe at this moment.
    fn sweep(&mut self) -> io::Result<()> {
        let mut left = ioctl_fionread(&self.pipe)? as usize;
        while left > 0 {
            match self.copy(left)? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.sink.write(&self.out);
        self.out.clear();
        // One long line must not keep its memory for the rest of the run.
        self.out.shrink_to(4 * CHUNK_BYTES);
        result
    }
}

fn ignore_interrupt(result: rustix::io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[&[u8]], line_bytes_max: usize) -> Vec<u8> {
        let mut lines = Lines { line_bytes_max, ..Lines::new(b"[7] ".to_vec()) };
        let mut out = Vec::new();
        for piece in pieces {
            lines.feed(piece, &mut out);
        }
        lines.finish(&mut out);
        out
    }

    #[test]
    fn every_line_gets_one_prefix_however_the_stream_is_cut() {
        let stream = b"one\n\ntwo \xff\xfe\nthree";
        let expected = b"[7] one\n[7] \n[7] two \xff\xfe\n[7] three\n";
        for cut in 0..=stream.len() {
            assert_eq!(run(&[&stream[..cut], &stream[cut..]], 1000), expected);
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(run(&bytes, 1000), expected);
    }

    #[test]
    fn an_empty_stream_stays_empty() {
        assert_eq!(run(&[], 1000), b"");
        assert_eq!(run(&[b"\n"], 1000), b"[7] \n");
    }

    #[test]
    fn a_line_without_end_is_cut_at_the_bound() {
        assert_eq!(run(&[b"abcd", b"ef\n"], 4), b"[7] abcd\n[7] ef\n");
    }
}
