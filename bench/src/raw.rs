//! The baseline: what a request of 64 bytes and a reply of 4160 cost on a plain TCP connection, blocking, with no delay.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const REQUEST: usize = 64;
const REPLY: usize = 4160;

/// Answers pings on a port of its own until the other side closes; returns the port.
pub(crate) fn serve() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for the baseline")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let (mut request, reply) = ([0; REQUEST], [7; REPLY]);
        while stream.read_exact(&mut request).is_ok() {
            stream.write_all(&reply)?;
        }
        Ok(())
    });
    Ok(port)
}

/// The other end of [`serve`].
pub(crate) struct Baseline(TcpStream);

impl Baseline {
    pub(crate) fn connect(port: u16) -> Result<Baseline> {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting for the baseline")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Baseline(stream))
    }

    /// How long one round trip takes.
    pub(crate) fn ping(&mut self) -> Result<Duration> {
        let mut reply = [0; REPLY];
        let began = Instant::now();
        self.0.write_all(&[3; REQUEST])?;
        self.0.read_exact(&mut reply)?;
        Ok(began.elapsed())
    }
}
