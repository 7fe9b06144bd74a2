//! A round trip on a plain TCP connection with no delay.

use super::{Line, call};
use crate::samples::Samples;
use anyhow::Result;
use std::io;
use std::time::Duration;

/// The least that a request can have: it says what is wanted.
pub(super) const REQUEST: usize = 64;
/// The most that a request or a reply of a ping can have.
pub(super) const MOST: usize = 1 << 20;
/// The most that is sent from memory that is gone through.
const MOST_IN_ALL: usize = 1 << 30;

/// What a request says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Bytes that follow the first 64.
    pub(super) more: u32,
    /// Bytes of the reply, or of each of its pieces.
    pub(super) reply: u32,
    /// Pieces of the reply.
    pub(super) pieces: u32,
    /// Each piece lies behind the one before in memory; else all are the same.
    pub(super) goes_on: bool,
}

impl Wanted {
    pub(super) fn encode(self) -> [u8; REQUEST] {
        let mut request = [0; REQUEST];
        let numbers = [self.more, self.reply, self.pieces, self.goes_on.into()];
        for (place, number) in request.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        request
    }

    pub(super) fn decode(request: &[u8; REQUEST]) -> Wanted {
        let number =
            |at: usize| u32::from_le_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
        Wanted { more: number(0), reply: number(4), pieces: number(8), goes_on: number(12) != 0 }
    }
}

/// Answers one caller until it closes.
pub(super) fn answer(mut line: Line) -> io::Result<()> {
    let mut request = [0; REQUEST];
    let mut more = vec![0; MOST];
    let mut replies = vec![7; MOST];
    loop {
        line.receive(&mut request)?;
        let Wanted { more: bytes, reply, pieces, goes_on } = Wanted::decode(&request);
        let (Some(more), reply) = (more.get_mut(..bytes as usize), reply as usize) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let in_all = if goes_on { reply.saturating_mul(pieces as usize) } else { reply };
        if reply > MOST || in_all > MOST_IN_ALL {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if replies.len() < in_all {
            replies.resize(in_all, 7);
        }
        if !more.is_empty() {
            line.receive(more)?;
        }
        for piece in 0..pieces as usize {
            let start = if goes_on { piece * reply } else { 0 };
            line.send(&replies[start..start + reply])?;
        }
    }
}

/// The side that asks.
#[derive(Debug)]
pub(crate) struct Pinger {
    line: Line,
}

impl Pinger {
    pub(crate) fn connect(port: u16, spin: Duration) -> Result<Pinger> {
        Ok(Pinger { line: call(port, spin)? })
    }

    /// `count` round trips of `request` (at least 64) and `reply` bytes.
    pub(crate) fn ping(&mut self, request: usize, reply: usize, count: usize) -> Result<Samples> {
        let wanted =
            Wanted { more: (request - REQUEST) as u32, reply: reply as u32, pieces: 1, goes_on: false };
        let mut out = vec![3; request];
        out[..REQUEST].copy_from_slice(&wanted.encode());
        let mut back = vec![0; reply];
        Ok(Samples::of(count, || {
            self.line.send(&out)?;
            self.line.receive(&mut back)
        })?)
    }

    /// One round trip, which fills `reply`; allocates nothing.
    pub(super) fn fetch(&mut self, reply: &mut [u8]) -> io::Result<()> {
        let wanted = Wanted { more: 0, reply: reply.len() as u32, pieces: 1, goes_on: false };
        self.line.send(&wanted.encode())?;
        self.line.receive(reply)
    }

    pub(super) fn line(&mut self) -> &mut Line {
        &mut self.line
    }
}
