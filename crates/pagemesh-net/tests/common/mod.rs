//! What several tests need: connected streams, receivers that write down what they are given, and a deadline.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part of this module")]

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pagemesh_net::{LinkLoss, Receiver, Reject, Switch};

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
