//! Gives the network the memory of a ring: the one crate may not map any, the other knows no peers.

use pagemesh_memory::SharedRing;
use pagemesh_net::{RingEnd, RingFault, RingSource};
use std::io;
use std::os::fd::OwnedFd;

/// Bytes of one direction between two nodes of a small mesh: two dozen pages beyond what the processor keeps at hand gain nothing.
const RING_BYTES: usize = 512 * 1024;
/// Bytes of all directions in which one node sends, at most: with 64 nodes on a host, all of whom use all, 1 GiB.
const NODE_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Rings {
    bytes: usize,
}

#[derive(Debug)]
struct End(SharedRing);

impl Rings {
    pub(super) fn new(nodes: u16) -> Rings {
        Rings { bytes: RING_BYTES.min(NODE_BYTES / usize::from(nodes.max(1))) }
    }
}

/// The memory of a ring that was made here.
pub(super) fn memory(end: &dyn RingEnd) -> Option<&SharedRing> {
    end.as_any().downcast_ref::<End>().map(|end| &end.0)
}

impl RingSource for Rings {
    fn create(&self) -> io::Result<(OwnedFd, Box<dyn RingEnd>)> {
        let (ring, file) = SharedRing::create(self.bytes).map_err(io::Error::other)?;
        Ok((file, Box::new(End(ring))))
    }

    fn open(&self, file: OwnedFd) -> io::Result<Box<dyn RingEnd>> {
        Ok(Box::new(End(SharedRing::open(file).map_err(io::Error::other)?)))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn fault(found: pagemesh_memory::RingFault) -> RingFault {
    RingFault(found.to_string())
}

impl RingEnd for End {
    fn write(&self, bytes: &[u8]) -> Result<usize, RingFault> {
        self.0.write(bytes).map_err(fault)
    }

    fn read(&self, space: &mut [u8]) -> Result<usize, RingFault> {
        self.0.read(space).map_err(fault)
    }

    fn is_readable(&self) -> bool {
        self.0.is_readable()
    }

    fn is_writable(&self) -> bool {
        self.0.is_writable()
    }

    fn call_reader(&self, wanted: bool) {
        self.0.call_reader(wanted);
    }

    fn call_writer(&self, wanted: bool) {
        self.0.call_writer(wanted);
    }

    fn take_reader_call(&self) -> bool {
        self.0.take_reader_call()
    }

    fn take_writer_call(&self) -> bool {
        self.0.take_writer_call()
    }
}
