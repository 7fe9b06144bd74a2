//! What several tests need: connected streams, receivers that write down what they are given, and a deadline.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part of this module")]

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pagemesh_net::{LinkLoss, Receiver, Reject, RingEnd, RingFault, RingLink, Switch};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Far longer than anything here takes: whoever meets it hangs.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Two ends of a connection over loopback.
pub fn stream_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for stream in [&near, &far] {
        stream.set_nodelay(true).unwrap();
    }
    (near, far)
}

/// `stream_pair` with socket buffers that a few dozen pages fill. The receive buffer is not the smallest possible: with
/// a window below one segment TCP itself waits for its persist timer, 200 ms at a time.
pub fn narrow_stream_pair() -> (TcpStream, TcpStream) {
    let (near, far) = stream_pair();
    for stream in [&near, &far] {
        let socket = socket2::SockRef::from(stream);
        socket.set_send_buffer_size(4096).unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
    }
    (near, far)
}

/// Has every receiver of a mesh look for so long before it sleeps, and mute what it looks at.
pub fn look_and_mute(switches: &[Switch], spin: Duration) {
    for switch in switches {
        switch.set_spin(spin);
        switch.set_service_spin(spin);
        switch.set_muting(set_low_mark);
    }
}

fn set_low_mark(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap();
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    let place = (&raw const value).cast();
    // SAFETY: `value` outlives the call, and has the size that is said.
    let set =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, place, size) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A switch of node 0 and the bare streams of its peers 1..=`peers`.
pub fn switch_and_peers(peers: usize) -> (Switch, Vec<TcpStream>) {
    let (near, far): (Vec<_>, Vec<_>) = (0..peers).map(|_| stream_pair()).unzip();
    let streams = std::iter::once(None).chain(near.into_iter().map(Some)).collect();
    (Switch::new(0, streams).unwrap(), far)
}

/// The switches of a whole mesh in this process.
pub fn mesh(nodes: usize, pair: fn() -> (TcpStream, TcpStream)) -> Vec<Switch> {
    let mut streams: Vec<Vec<Option<TcpStream>>> = Vec::new();
    for node in 0..nodes {
        let mut own = Vec::new();
        for earlier in &mut streams {
            let (near, far) = pair();
            own.push(Some(near));
            earlier.push(Some(far));
        }
        own.push(None);
        streams.push(own);
        debug_assert!(streams.iter().all(|of_one| of_one.len() == node + 1));
    }
    (0..).zip(streams).map(|(node, streams)| Switch::new(node, streams).unwrap()).collect()
}

/// Two streams of bytes between threads of this process, as shared memory carries them between processes.
#[derive(Debug)]
pub struct HeapRing {
    outgoing: Arc<Lane>,
    incoming: Arc<Lane>,
    /// What the peer wrote is nonsense from now on.
    spoilt: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Lane {
    bytes: Mutex<VecDeque<u8>>,
    capacity: usize,
    reader_call: AtomicBool,
    writer_call: AtomicBool,
}

impl HeapRing {
    fn check(&self) -> Result<(), RingFault> {
        if self.spoilt.load(Ordering::SeqCst) { Err(RingFault("spoilt".to_owned())) } else { Ok(()) }
    }
}

impl RingEnd for HeapRing {
    fn write(&self, bytes: &[u8]) -> Result<usize, RingFault> {
        self.check()?;
        let mut held = self.outgoing.bytes.lock().unwrap();
        let count = bytes.len().min(self.outgoing.capacity - held.len());
        held.extend(&bytes[..count]);
        Ok(count)
    }

    fn read(&self, space: &mut [u8]) -> Result<usize, RingFault> {
        self.check()?;
        let mut held = self.incoming.bytes.lock().unwrap();
        let count = space.len().min(held.len());
        for (place, byte) in space.iter_mut().zip(held.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn is_readable(&self) -> bool {
        self.spoilt.load(Ordering::SeqCst) || !self.incoming.bytes.lock().unwrap().is_empty()
    }

    fn is_writable(&self) -> bool {
        self.spoilt.load(Ordering::SeqCst)
            || self.outgoing.bytes.lock().unwrap().len() < self.outgoing.capacity
    }

    fn call_reader(&self, wanted: bool) {
        self.incoming.reader_call.store(wanted, Ordering::SeqCst);
    }

    fn call_writer(&self, wanted: bool) {
        self.outgoing.writer_call.store(wanted, Ordering::SeqCst);
    }

    fn take_reader_call(&self) -> bool {
        self.outgoing.reader_call.swap(false, Ordering::SeqCst)
    }

    fn take_writer_call(&self) -> bool {
        self.incoming.writer_call.swap(false, Ordering::SeqCst)
    }
}

fn bell() -> OwnedFd {
    use rustix::event::{EventfdFlags, eventfd};
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// Two ends of a ring that holds `capacity` bytes, and what spoils it for both.
pub fn ring_pair(capacity: usize) -> (RingLink, RingLink, Arc<AtomicBool>) {
    let lane = || Arc::new(Lane { capacity, ..Lane::default() });
    let (there, back, spoilt) = (lane(), lane(), Arc::new(AtomicBool::new(false)));
    let end = |outgoing: &Arc<Lane>, incoming: &Arc<Lane>| {
        Box::new(HeapRing { outgoing: outgoing.clone(), incoming: incoming.clone(), spoilt: spoilt.clone() })
    };
    let (near, far) = (end(&there, &back), end(&back, &there));
    let bells = [bell(), bell()];
    let copy = |bell: &OwnedFd| bell.try_clone().unwrap();
    let near = RingLink::new(near, copy(&bells[0]), copy(&bells[1]));
    let far = RingLink::new(far, copy(&bells[1]), copy(&bells[0]));
    (near, far, spoilt)
}

/// The switches of a mesh whose links are rings of `capacity` bytes, but for those that `over_tcp` names.
pub fn ring_mesh(nodes: usize, capacity: usize, over_tcp: fn(usize, usize) -> bool) -> Vec<Switch> {
    type Links = Vec<(Option<TcpStream>, Option<RingLink>)>;
    let mut links: Vec<Links> = Vec::new();
    for node in 0..nodes {
        let mut own = Links::new();
        for (other, earlier) in links.iter_mut().enumerate() {
            let (near, far) = stream_pair();
            let (near_ring, far_ring, _) = ring_pair(capacity);
            let plain = over_tcp(other, node);
            own.push((Some(near), (!plain).then_some(near_ring)));
            earlier.push((Some(far), (!plain).then_some(far_ring)));
        }
        own.push((None, None));
        links.push(own);
    }
    let switch = |(node, links): (u16, Links)| {
        let (streams, rings) = links.into_iter().unzip();
        Switch::with_rings(node, streams, rings).unwrap()
    };
    (0..).zip(links).map(switch).collect()
}

/// One frame as it lies on the wire, written down by hand.
pub fn frame_bytes(message: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&(message.len() as u16).to_le_bytes());
    bytes.extend_from_slice(b"PM");
    bytes.extend_from_slice(message);
    bytes.extend_from_slice(payload);
    bytes
}

/// Writes down everything.
#[derive(Debug, Default)]
pub struct Record {
    pub frames: Vec<(u16, Vec<u8>, Vec<u8>)>,
    pub losses: Vec<(u16, LinkLoss)>,
}

impl Receiver for Record {
    fn on_frame(&mut self, peer: u16, message: &[u8], payload: &[u8]) -> Result<(), Reject> {
        self.frames.push((peer, message.to_vec(), payload.to_vec()));
        if message == b"refuse me" { Err(Reject::from("as asked")) } else { Ok(()) }
    }

    fn on_lost(&mut self, peer: u16, why: LinkLoss) {
        self.losses.push((peer, why));
    }
}

/// Leads until `holds`, or fails at the deadline.
pub fn lead_until(switch: &Switch, record: &mut Record, holds: impl Fn(&Record) -> bool) {
    let start = Instant::now();
    let mut leader = switch.try_lead().expect("nobody else receives in this test");
    while !holds(record) {
        assert!(start.elapsed() < DEADLINE, "nothing came any more: {record:?}");
        leader.receive(Some(DEADLINE), record).unwrap();
    }
}

/// Serves as the service thread until `holds`, or fails at the deadline.
pub fn serve_until(switch: &Switch, record: &mut Record, holds: impl Fn(&Record) -> bool) {
    let start = Instant::now();
    while !holds(record) {
        assert!(start.elapsed() < DEADLINE, "nothing came any more: {record:?}");
        switch.wait_service(Some(DEADLINE), record).unwrap();
    }
}
