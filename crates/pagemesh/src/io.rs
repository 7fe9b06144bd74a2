//! Regions as files: reading and writing through private buffers.
//!
//! A system call does not fault shared pages in. `read(2)` into a page that is not here returns `EFAULT`, or a short count when
//! some pages before it are; `write(2)` from one likewise. [`Region::pin`] holds pages for such a call. [`RegionCursor`] copies through the caller's private buffer instead,
//! and so works with every file and socket.

use crate::{AccessError, Region};
use pagemesh_protocol::Access;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// A position in a part of a region, to be read from and written to as a file. The part does not grow: reading ends at its end, and
/// writing beyond it writes nothing.
///
/// ```
/// # use pagemesh::{Config, Mesh, RegionOptions};
/// # use std::io::{Read, Seek, SeekFrom, Write};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mesh = Mesh::join(Config::single())?;
/// let region = mesh.region("text", RegionOptions::new(1 << 16))?;
/// let mut file = region.cursor(0, region.bytes());
/// file.write_all(b"as in a file")?;
/// file.seek(SeekFrom::Start(3))?;
/// let mut word = [0; 2];
/// file.read_exact(&mut word)?;
/// assert_eq!(&word, b"in");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RegionCursor {
    region: Region,
    start: usize,
    bytes: usize,
    position: u64,
}

impl RegionCursor {
    pub(crate) fn new(region: Region, start: usize, bytes: usize) -> RegionCursor {
        RegionCursor { region, start, bytes, position: 0 }
    }

    /// Where the next `wanted` bytes are in the region, and how many of them there are.
    fn next(&self, wanted: usize) -> (usize, usize) {
        let position = usize::try_from(self.position).map_or(self.bytes, |position| position.min(self.bytes));
        (self.start + position, wanted.min(self.bytes - position))
    }
}

fn failed(error: AccessError) -> io::Error {
    io::Error::other(error)
}

impl Read for RegionCursor {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (at, count) = self.next(bytes.len());
        self.region.prefetch_bytes(at, count, Access::Read).map_err(failed)?;
        self.region.copy_out(at, &mut bytes[..count]).map_err(failed)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for RegionCursor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (at, count) = self.next(bytes.len());
        self.region.prefetch_bytes(at, count, Access::Write).map_err(failed)?;
        self.region.copy_in(at, &bytes[..count]).map_err(failed)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for RegionCursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => (self.bytes as u64).checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a position before the start was asked for: {to:?}"),
            )
        })?;
        Ok(self.position)
    }
}
