//! A barrier through a bare coordinator: every member sends 64 bytes, and gets 64 back when all have.

use super::{IDLE, Line, call};
use crate::samples::Samples;
use anyhow::{Context, Result};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

const MESSAGE: usize = 64;

/// Coordinates `members` until one of them closes; returns the port.
pub(crate) fn serve_barrier(members: usize) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening for the baseline")?;
    let port = listener.local_addr()?.port();
    std::thread::Builder::new().name("baseline".to_owned()).spawn(move || -> io::Result<()> {
        let lines: io::Result<Vec<Line>> = listener
            .incoming()
            .take(members)
            .map(|stream| Line::new(stream?, Duration::ZERO, IDLE))
            .collect();
        let mut lines = lines?;
        let mut message = [0; MESSAGE];
        loop {
            // Who comes early waits in its socket: asking one after the other costs no more than asking who has come.
            for line in &mut lines {
                line.receive(&mut message)?;
            }
            for line in &mut lines {
                line.send(&message)?;
            }
        }
    })?;
    Ok(port)
}

/// One of those who meet.
#[derive(Debug)]
pub(crate) struct BarrierMember {
    line: Line,
}

impl BarrierMember {
    pub(crate) fn connect(port: u16, spin: Duration) -> Result<BarrierMember> {
        Ok(BarrierMember { line: call(port, spin)? })
    }

    /// Meets the others `count` times.
    pub(crate) fn meet(&mut self, count: usize) -> Result<Samples> {
        let mut message = [5; MESSAGE];
        Ok(Samples::of(count, || {
            self.line.send(&message)?;
            self.line.receive(&mut message)
        })?)
    }
}
