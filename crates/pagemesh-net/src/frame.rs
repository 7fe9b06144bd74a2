//! Framing: how a message and its payload lie on a TCP stream.
//!
//! A frame is a prefix of 8 bytes, the message, then the payload. All integers are little-endian.
//!
//! | offset | bytes | field | value |
//! |---|---|---|---|
//! | 0 | 4 | `payload_bytes` | 0..=4608; bit 31: the payload is packed; bit 30: the sender wants what is sent to it packed; bit 29: it is long; bit 28: the sender waits for what was put off |
//! | 4 | 2 | `message_bytes` | 1..=512; 0 in a frame without payload that is there for bit 28 |
//! | 6 | 2 | `mark` | 0x4D50, that is `PM` on the wire |
//! | 8 | `message_bytes` | message | opaque |
//! | 8 + `message_bytes` | `payload_bytes` | payload | opaque, no alignment |
//!
//! A payload is a page, or something of a page's size; what it has to be follows from the message. A long payload is 1 to 64 whole pages, which are
//! never packed, and its message has at most 64 bytes: it is handed out in parts, as it comes, so that it need not fit into a buffer. The mark is there to notice at once, not to repair, a stream that has lost
//! its place: after any [`FrameError`] the link is dead.

use std::fmt;

use thiserror::Error;

use crate::pack::unpack;

/// Bytes of one page, the usual payload.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of the prefix of every frame.
pub const PREFIX_BYTES: usize = 8;
/// Largest message, in bytes, without prefix and payload.
pub const MAX_MESSAGE_BYTES: usize = 512;
/// Largest payload, in bytes: a page, and a bit for each of its bytes.
pub const MAX_PAYLOAD_BYTES: usize = PAGE_BYTES + PAGE_BYTES / 8;
/// Largest frame, in bytes, that a receiver of this wire version accepts.
pub const MAX_FRAME_BYTES: usize = PREFIX_BYTES + MAX_MESSAGE_BYTES + MAX_PAYLOAD_BYTES;
/// Largest long payload, in bytes.
pub const MAX_LONG_BYTES: usize = 64 * PAGE_BYTES;
/// Largest message of a frame with a long payload, in bytes.
pub const MAX_LONG_MESSAGE_BYTES: usize = 64;
/// The last two bytes of every prefix.
pub const FRAME_MARK: u16 = 0x4D50;
/// In the field of the payload's length: it is packed.
const PACKED: u32 = 1 << 31;
/// In the field of the payload's length: the sender wants payloads packed that are sent to it.
const ASKS: u32 = 1 << 30;
/// In the field of the payload's length: it is long.
const LONG: u32 = 1 << 29;
/// In the field of the payload's length: the sender waits for what was put off on its way to it.
const HURRIES: u32 = 1 << 28;
/// All bits there that are no part of a length.
const FLAGS: u32 = PACKED | ASKS | LONG | HURRIES;
/// Bytes of a link's receive buffer: one `recv(2)` can bring in 62 pages.
pub const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

const _: () = assert!(MAX_FRAME_BYTES <= RECEIVE_BUFFER_BYTES);
const _: () = assert!(MAX_MESSAGE_BYTES <= u16::MAX as usize);

/// Why a byte stream is not a sequence of frames. The link it came from cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The prefix does not end in [`FRAME_MARK`].
    #[error(
        "frame prefix ends in {found:#06x}, expected {FRAME_MARK:#06x}: the sender is not a pagemesh node, or the stream lost its place"
    )]
    BadMark {
        /// The two bytes found.
        found: u16,
    },
    /// The message is empty or longer than [`MAX_MESSAGE_BYTES`].
    #[error(
        "frame announces a message of {found} bytes, expected 1 to {MAX_MESSAGE_BYTES}: the sender is broken or speaks another wire version"
    )]
    MessageBytes {
        /// The length announced, in bytes.
        found: u16,
    },
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`].
    #[error(
        "frame announces a payload of {found} bytes, expected at most {MAX_PAYLOAD_BYTES} or, when it is long, whole pages and at most {MAX_LONG_BYTES}: the sender is broken or speaks another wire version"
    )]
    PayloadBytes {
        /// The length announced, in bytes, and the bits above it.
        found: u32,
    },
    /// The payload is said to be packed, and is not what packing makes.
    #[error(
        "frame announces a packed payload of {packed_bytes} bytes that hold {announced}, and they cannot be unpacked to at most {MAX_PAYLOAD_BYTES}: the sender is broken or speaks another wire version"
    )]
    Packed {
        /// Bytes on the wire.
        packed_bytes: u32,
        /// The length announced, in bytes.
        announced: u16,
    },
}

/// The 8 bytes before every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePrefix {
    message_bytes: u16,
    payload_bytes: u32,
    /// Those of [`FLAGS`] that are set.
    flags: u32,
}

impl FramePrefix {
    /// A prefix for a message and a payload of these lengths, in bytes.
    ///
    /// # Errors
    /// [`FrameError::MessageBytes`] or [`FrameError::PayloadBytes`] when no receiver would accept the frame.
    pub fn new(message_bytes: usize, payload_bytes: usize) -> Result<Self, FrameError> {
        let message_bytes = u16::try_from(message_bytes).unwrap_or(u16::MAX);
        let payload_bytes = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
        if message_bytes == 0 || usize::from(message_bytes) > MAX_MESSAGE_BYTES {
            return Err(FrameError::MessageBytes { found: message_bytes });
        }
        if payload_bytes as usize > MAX_PAYLOAD_BYTES {
            return Err(FrameError::PayloadBytes { found: payload_bytes });
        }
        Ok(Self { message_bytes, payload_bytes, flags: 0 })
    }

    /// A prefix for a message and a long payload of these lengths, in bytes.
    ///
    /// # Errors
    /// [`FrameError::MessageBytes`] or [`FrameError::PayloadBytes`] when no receiver would accept the frame.
    pub fn long(message_bytes: usize, payload_bytes: usize) -> Result<Self, FrameError> {
        let message = u16::try_from(message_bytes).unwrap_or(u16::MAX);
        if message == 0 || message_bytes > MAX_LONG_MESSAGE_BYTES {
            return Err(FrameError::MessageBytes { found: message });
        }
        let payload = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
        if payload == 0 || payload_bytes > MAX_LONG_BYTES || !payload_bytes.is_multiple_of(PAGE_BYTES) {
            return Err(FrameError::PayloadBytes { found: payload });
        }
        Ok(Self { message_bytes: message, payload_bytes: payload, flags: LONG })
    }

    /// The prefix of a frame with nothing in it, which says that the sender waits for what was put off.
    #[must_use]
    pub(crate) fn hurry() -> Self {
        Self { message_bytes: 0, payload_bytes: 0, flags: HURRIES }
    }

    /// Reads and checks a prefix that came from a peer.
    ///
    /// # Errors
    /// Any [`FrameError`]; the mark is looked at first.
    pub fn decode(bytes: [u8; PREFIX_BYTES]) -> Result<Self, FrameError> {
        let [p0, p1, p2, p3, m0, m1, k0, k1] = bytes;
        let mark = u16::from_le_bytes([k0, k1]);
        if mark != FRAME_MARK {
            return Err(FrameError::BadMark { found: mark });
        }
        let message_bytes = u16::from_le_bytes([m0, m1]);
        let found = u32::from_le_bytes([p0, p1, p2, p3]);
        let payload_bytes = (found & !FLAGS) as usize;
        let prefix = match found & (PACKED | LONG) {
            0 if message_bytes == 0 && found & !ASKS == HURRIES => Ok(Self::hurry()),
            LONG => Self::long(usize::from(message_bytes), payload_bytes),
            0 | PACKED => Self::new(usize::from(message_bytes), payload_bytes),
            _ => Err(FrameError::PayloadBytes { found }),
        };
        let prefix = prefix.map_err(|error| match error {
            FrameError::PayloadBytes { .. } => FrameError::PayloadBytes { found },
            other => other,
        })?;
        Ok(Self { flags: found & FLAGS, ..prefix })
    }

    /// The payload is packed, and takes so many bytes on the wire.
    #[must_use]
    pub(crate) fn packed(self, payload_bytes: usize) -> Self {
        Self { payload_bytes: payload_bytes as u32, ..self.with(PACKED, true) }
    }

    /// Whether the sender wants payloads packed that are sent to it.
    #[must_use]
    pub fn asking(self, asks: bool) -> Self {
        self.with(ASKS, asks)
    }

    /// Whether the sender waits for what was put off on its way to it.
    #[must_use]
    pub(crate) fn hurrying(self, hurries: bool) -> Self {
        self.with(HURRIES, hurries)
    }

    fn with(self, flag: u32, is_set: bool) -> Self {
        let flags = if is_set { self.flags | flag } else { self.flags & !flag };
        Self { flags, ..self }
    }

    fn has(self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The prefix as it lies on the wire.
    pub fn encode(self) -> [u8; PREFIX_BYTES] {
        let [p0, p1, p2, p3] = (self.payload_bytes | self.flags).to_le_bytes();
        let [m0, m1] = self.message_bytes.to_le_bytes();
        let [k0, k1] = FRAME_MARK.to_le_bytes();
        [p0, p1, p2, p3, m0, m1, k0, k1]
    }

    /// Whether the payload lies on the wire packed: how many bytes it has without that, 16 bits, and an LZ4 block.
    pub fn is_packed(self) -> bool {
        self.has(PACKED)
    }

    /// Length of the message in bytes.
    pub fn message_bytes(self) -> usize {
        usize::from(self.message_bytes)
    }

    /// Length of the payload in bytes, as it lies on the wire.
    pub fn payload_bytes(self) -> usize {
        self.payload_bytes as usize
    }

    /// Length of the whole frame in bytes, prefix included.
    pub fn frame_bytes(self) -> usize {
        PREFIX_BYTES + self.message_bytes() + self.payload_bytes()
    }
}

/// One whole frame, where it lies in the receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// At most [`MAX_MESSAGE_BYTES`] bytes; none in a frame that only says that its sender waits for what was put off.
    pub message: &'a [u8],
    /// At most [`MAX_PAYLOAD_BYTES`] bytes, unpacked; none when it is long.
    pub payload: &'a [u8],
    /// Bytes of a long payload, which comes next in the stream and is for the caller to take; else 0.
    pub long_bytes: usize,
}

/// The receive side of one link: bytes that have arrived and are not yet handed out.
///
/// Fill [`space`](Self::space) from the socket, say how much came with [`filled`](Self::filled), then take frames
/// with [`next_frame`](Self::next_frame) until it returns `None`. A partial frame stays inside for whoever receives
/// next. The buffer is allocated once; frames are handed out where they lie.
pub struct FrameBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// Where a payload is unpacked.
    unpacked: Box<[u8; MAX_PAYLOAD_BYTES]>,
    peer_asks: bool,
    /// The last frame said that the peer waits for what was put off.
    peer_hurries: bool,
    /// Some frame said so since this was asked last.
    has_hurried: bool,
}

impl fmt::Debug for FrameBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameBuffer")
            .field("start", &self.start)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameBuffer {
    /// An empty buffer of [`RECEIVE_BUFFER_BYTES`].
    pub fn new() -> Self {
        Self {
            bytes: vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            unpacked: Box::new([0; MAX_PAYLOAD_BYTES]),
            peer_asks: false,
            peer_hurries: false,
            has_hurried: false,
        }
    }

    /// Where the next bytes of the stream go. Never empty once [`next_frame`](Self::next_frame) has returned `None`.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.bytes.len() - self.start < MAX_FRAME_BYTES {
            // The partial frame could reach past the end: move it (less than one frame) to the front.
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// The first `count` bytes of [`space`](Self::space) now hold bytes of the stream.
    ///
    /// # Panics
    /// When `count` is larger than the space was.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.end, "more bytes filled than there was space");
        self.end += count;
    }

    /// Bytes of a frame that has not arrived completely (or has not been taken yet).
    pub fn pending_bytes(&self) -> usize {
        self.end - self.start
    }

    /// Whether the peer said with its last frame that it wants payloads packed that are sent to it.
    pub fn peer_asks(&self) -> bool {
        self.peer_asks
    }

    /// Whether the peer said with its last frame that it waits for what was put off on its way to it.
    pub(crate) fn peer_hurries(&self) -> bool {
        self.peer_hurries
    }

    /// Whether it has said so since this was asked before.
    pub(crate) fn take_hurried(&mut self) -> bool {
        std::mem::take(&mut self.has_hurried)
    }

    /// Takes the next complete frame. `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are not a frame; the buffer then stays where it is and every later call returns
    /// the same error.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some(prefix) = self.bytes[self.start..self.end].first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let prefix = FramePrefix::decode(*prefix)?;
        let long_bytes = if prefix.has(LONG) { prefix.payload_bytes() } else { 0 };
        let frame_end = self.start + prefix.frame_bytes() - long_bytes;
        if frame_end > self.end {
            return Ok(None);
        }
        let body = &self.bytes[self.start + PREFIX_BYTES..frame_end];
        let (message, payload) = body.split_at(prefix.message_bytes());
        let payload = if prefix.is_packed() { unpack(payload, &mut self.unpacked)? } else { payload };
        self.start = frame_end;
        self.peer_asks = prefix.has(ASKS);
        self.peer_hurries = prefix.has(HURRIES);
        self.has_hurried |= self.peer_hurries;
        Ok(Some(Frame { message, payload, long_bytes }))
    }

    /// At most `most` bytes that are there, to be taken as they are: part of a long payload. [`skip`](Self::skip) takes them.
    pub fn peek(&self, most: usize) -> &[u8] {
        &self.bytes[self.start..self.end.min(self.start + most)]
    }

    /// Takes `count` bytes.
    ///
    /// # Panics
    /// When fewer are there.
    pub fn skip(&mut self, count: usize) {
        assert!(count <= self.pending_bytes(), "more bytes taken than there were");
        self.start += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_layout_is_the_documented_one() {
        let prefix = FramePrefix::new(0x0102, PAGE_BYTES).unwrap();
        assert_eq!(prefix.encode(), [0x00, 0x10, 0, 0, 0x02, 0x01, b'P', b'M']);
        assert_eq!(FramePrefix::decode(prefix.encode()), Ok(prefix));
    }

    #[test]
    fn long_payloads_are_whole_pages_behind_a_short_message() {
        let prefix = FramePrefix::long(32, MAX_LONG_BYTES).unwrap();
        assert_eq!(prefix.encode(), [0, 0, 4, 0x20, 32, 0, b'P', b'M']);
        assert_eq!(FramePrefix::decode(prefix.encode()), Ok(prefix));
        for (message, payload) in
            [(65, PAGE_BYTES), (0, PAGE_BYTES), (32, 0), (32, 4097), (32, 65 * PAGE_BYTES)]
        {
            assert!(FramePrefix::long(message, payload).is_err());
            let [p0, p1, p2, p3] = (payload as u32 | LONG).to_le_bytes();
            assert!(FramePrefix::decode([p0, p1, p2, p3, message as u8, 0, b'P', b'M']).is_err());
        }
        assert!(FramePrefix::decode([0, 0x10, 0, 0xa0, 32, 0, b'P', b'M']).is_err(), "long and packed");
        let mut buffer = FrameBuffer::new();
        let mut stream = FramePrefix::long(3, PAGE_BYTES).unwrap().encode().to_vec();
        stream.extend_from_slice(b"abc....");
        buffer.space()[..stream.len()].copy_from_slice(&stream);
        buffer.filled(stream.len());
        let frame = buffer.next_frame().unwrap().unwrap();
        assert_eq!((frame.message, frame.payload, frame.long_bytes), (&b"abc"[..], &[][..], PAGE_BYTES));
        assert_eq!(buffer.peek(3), b"...");
        buffer.skip(4);
        assert_eq!(buffer.pending_bytes(), 0);
    }

    #[test]
    fn a_frame_may_be_empty_only_to_hurry() {
        let prefix = FramePrefix::hurry();
        assert_eq!(prefix.encode(), [0, 0, 0, 0x10, 0, 0, b'P', b'M']);
        assert_eq!(FramePrefix::decode(prefix.encode()), Ok(prefix));
        for [low, high] in [[0, 0], [0, 0x40], [1, 0x10], [0, 0x30], [0, 0x90]] {
            let found = FramePrefix::decode([low, 0, 0, high, 0, 0, b'P', b'M']);
            assert!(found.is_err(), "an empty message with {low} and {high:#x}: {found:?}");
        }
        let mut buffer = FrameBuffer::new();
        let mut stream = prefix.encode().to_vec();
        stream.extend_from_slice(&FramePrefix::new(1, 0).unwrap().encode());
        stream.push(7);
        buffer.space()[..stream.len()].copy_from_slice(&stream);
        buffer.filled(stream.len());
        assert!(!buffer.take_hurried());
        assert_eq!(buffer.next_frame().unwrap().unwrap().message, &[][..]);
        assert!(buffer.peer_hurries());
        assert_eq!(buffer.next_frame().unwrap().unwrap().message, &[7][..]);
        assert!(!buffer.peer_hurries(), "the last frame counts");
        assert!(buffer.take_hurried(), "one of them said so");
        assert!(!buffer.take_hurried());
    }

    #[test]
    fn lengths_that_no_receiver_accepts_are_refused_before_sending() {
        assert_eq!(FramePrefix::new(0, 0), Err(FrameError::MessageBytes { found: 0 }));
        assert_eq!(FramePrefix::new(513, 0), Err(FrameError::MessageBytes { found: 513 }));
        assert_eq!(FramePrefix::new(1 << 20, 0), Err(FrameError::MessageBytes { found: u16::MAX }));
        assert_eq!(FramePrefix::new(1, 4609), Err(FrameError::PayloadBytes { found: 4609 }));
        assert_eq!(FramePrefix::new(1, 2 * PAGE_BYTES), Err(FrameError::PayloadBytes { found: 8192 }));
    }
}
