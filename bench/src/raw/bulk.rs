//! Many bytes one way on a plain TCP connection.

use super::ping::{Pinger, Wanted};
use anyhow::Result;
use std::time::{Duration, Instant};

/// Bytes that are sent and received at a time: more gains nothing on loopback.
const PIECE: usize = 256 << 10;

/// Receives bulk.
#[derive(Debug)]
pub(crate) struct BulkReader {
    pinger: Pinger,
    buffer: Vec<u8>,
}

impl BulkReader {
    pub(crate) fn connect(port: u16, spin: Duration) -> Result<BulkReader> {
        Ok(BulkReader { pinger: Pinger::connect(port, spin)?, buffer: vec![0; PIECE] })
    }

    /// How long `bytes` take, rounded up to whole pieces, from the request for them.
    pub(crate) fn read(&mut self, bytes: usize) -> Result<Duration> {
        let piece = PIECE.min(bytes.max(1));
        let pieces = bytes.div_ceil(piece) as u32;
        let wanted = Wanted { more: 0, reply: piece as u32, pieces };
        let line = self.pinger.line();
        let began = Instant::now();
        line.send(&wanted.encode())?;
        for _ in 0..pieces {
            line.receive(&mut self.buffer[..piece])?;
        }
        Ok(began.elapsed())
    }
}
