//! Many bytes one way on a plain TCP connection.

use super::ping::{Pinger, Wanted};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Bytes that are sent and received at a time: more gains nothing on loopback.
const PIECE: usize = 256 << 10;

/// Where the bytes of a stream come from, and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// From memory into memory, each byte from its own place into its own, as a program moves data that it has.
    Memory,
    /// From one buffer into one, again and again, which the processor's caches hold: all that a connection can do, and of no use to anybody.
    OneBuffer,
}

/// Receives bulk.
#[derive(Debug)]
pub(crate) struct BulkReader {
    pinger: Pinger,
    places: Vec<u8>,
}

impl BulkReader {
    pub(crate) fn connect(port: u16, spin: Duration) -> Result<BulkReader> {
        Ok(BulkReader { pinger: Pinger::connect(port, spin)?, places: vec![0; PIECE] })
    }

    /// How long `bytes` take, rounded up to whole pieces, from the request for them.
    pub(crate) fn read(&mut self, bytes: usize, through: Through) -> Result<Duration> {
        let piece = PIECE.min(bytes.max(1));
        let pieces = bytes.div_ceil(piece);
        let goes_on = through == Through::Memory;
        if goes_on && self.places.len() < pieces * piece {
            self.places.resize(pieces * piece, 0);
        }
        let wanted = Wanted { more: 0, reply: piece as u32, pieces: pieces as u32, goes_on };
        let line = self.pinger.line();
        let began = Instant::now();
        line.send(&wanted.encode())?;
        for place in 0..pieces {
            let start = if goes_on { place * piece } else { 0 };
            line.receive(&mut self.places[start..start + piece])?;
        }
        Ok(began.elapsed())
    }
}
