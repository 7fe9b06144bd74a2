//! Bare programs: what the machine charges for the same bytes without pagemesh.

mod barrier;
mod bulk;
mod circle;
mod faults;
pub(crate) mod mailbox;
mod pager;
mod ping;

pub(crate) use barrier::{BarrierMember, serve_barrier};
pub(crate) use bulk::{BulkReader, Through};
pub(crate) use circle::{Circle, serve_last, serve_middle};
pub(crate) use faults::BareProgram;
pub(crate) use mailbox::{Answerer, Asker};
pub(crate) use pager::BarePager;
pub(crate) use ping::Pinger;

use anyhow::{Context, Result};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a caller waits for its answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long who answers waits for the next question. Between two of them all other cases of a suite may lie.
const IDLE: Duration = Duration::from_hours(1);

/// A connection on which whoever waits spins first, if told so.
#[derive(Debug)]
struct Line {
    stream: TcpStream,
    spin: Duration,
}

impl Line {
    fn new(stream: TcpStream, spin: Duration, patience: Duration) -> io::Result<Line> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Line { stream, spin })
    }

    /// Fills `bytes`.
    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut got = 0;
        if !self.spin.is_zero() {
            let began = Instant::now();
            while got < bytes.len() && began.elapsed() < self.spin {
                let flags = rustix::net::RecvFlags::DONTWAIT;
                match rustix::net::recv(&self.stream, &mut bytes[got..], flags) {
                    Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok((count, _)) => got += count,
                    Err(rustix::io::Errno::AGAIN) => std::hint::spin_loop(),
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        self.stream.read_exact(&mut bytes[got..])
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }
}

/// Answers `connections` callers, each on a thread of its own, until they close; returns the port.
fn serve(connections: usize, spin: Duration, answer: fn(Line) -> io::Result<()>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for the baseline")?;
    let port = listener.local_addr()?.port();
    std::thread::Builder::new().name("baseline".to_owned()).spawn(move || {
        for stream in listener.incoming().take(connections).flatten() {
            // A caller that goes ends its thread; that is how it ends.
            std::thread::spawn(move || Line::new(stream, spin, IDLE).and_then(answer));
        }
    })?;
    Ok(port)
}

fn call(port: u16, spin: Duration) -> Result<Line> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting for the baseline")?;
    Ok(Line::new(stream, spin, PATIENCE)?)
}

/// Answers pings and sends bulk until the callers close; returns the port.
pub(crate) fn serve_all(connections: usize, spin: Duration) -> Result<u16> {
    serve(connections, spin, ping::answer)
}
