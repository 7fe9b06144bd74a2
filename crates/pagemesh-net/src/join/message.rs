//! The messages of the handshake and their byte layout.
//!
//! All integers are little-endian. Every message starts with the same 16 bytes, in every wire version, so that nodes
//! of different versions can at least tell each other so:
//!
//! | offset | bytes | field | value |
//! |---|---|---|---|
//! | 0 | 8 | magic | `PAGEMESH` |
//! | 8 | 2 | wire version | [`WIRE_VERSION`] |
//! | 10 | 2 | kind | see below |
//! | 12 | 4 | body bytes | at most [`MAX_BODY_BYTES`] |
//!
//! Sets of nodes are 64 bits, bit *i* for node *i*. Addresses are IPv6, or IPv4 mapped into IPv6 (RFC 4291, 2.5.5.2).
//!
//! | kind | message | body |
//! |---|---|---|
//! | 1 | `Hello` | 0: node (2), 2: nodes (2), 4: purpose (2; 1 = join the mesh, 2 = link of two nodes), 6: port the sender listens on (2), 8: address it listens on (16), 24: job id (16; zeros in a join) |
//! | 2 | `Welcome` | 0: node that answers (2), 2: nodes (2), 4: zeros (4), 8: set of nodes present (8), 16: job id (16) |
//! | 3 | `Refused` | 0: reason (2), 2: text bytes (2), 4: zeros (4), 8: set of nodes concerned (8), 16: text, UTF-8, at most 200 bytes |
//! | 4 | `Present` | 0: set of nodes present (8) |
//! | 5 | `Roster` | for each node in order: address (16), port (2), zeros (2); the entry of node 0 is zeros |
//! | 6 | `Ready` | empty |
//! | 7 | `Go` | empty |

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use crate::switch::MAX_NODES;

/// The version of everything this crate puts on the wire.
pub const WIRE_VERSION: u16 = 1;
/// The first bytes of every handshake message.
pub const MAGIC: [u8; 8] = *b"PAGEMESH";
/// Bytes before the body of every handshake message.
pub const HEADER_BYTES: usize = 16;
/// Longest body of a handshake message, in bytes: the roster of [`MAX_NODES`] nodes.
pub const MAX_BODY_BYTES: usize = MAX_NODES as usize * ROSTER_ENTRY_BYTES;

const ROSTER_ENTRY_BYTES: usize = 20;
const HELLO_BYTES: usize = 40;
const WELCOME_BYTES: usize = 32;
const REFUSED_BYTES: usize = 16;
const TEXT_BYTES_MAX: usize = 200;

/// Tells one run of a program from another: 16 random bytes, made by the coordinator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct JobId(pub(super) [u8; 16]);

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// A set of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NodeSet(pub(super) u64);

impl NodeSet {
    pub(super) fn of(nodes: impl IntoIterator<Item = u16>) -> Self {
        Self(nodes.into_iter().filter(|node| *node < MAX_NODES).fold(0, |set, node| set | 1 << node))
    }

    /// The members below `nodes`, in order.
    pub(super) fn members(self, nodes: u16) -> Vec<u16> {
        (0..nodes.min(MAX_NODES)).filter(|node| self.0 >> node & 1 == 1).collect()
    }

    /// The nodes below `nodes` that are not in the set.
    pub(super) fn missing(self, nodes: u16) -> Vec<u16> {
        Self(!self.0).members(nodes)
    }
}

/// What a Hello asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be admitted to the mesh; said to the coordinator.
    Join,
    /// To be the link of two admitted nodes; said to the node with the smaller number.
    Link,
}

/// Why a node was turned away. The code is what lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// 1: it speaks another wire version.
    Version,
    /// 2: it was started for a mesh of another size.
    NodesDiffer,
    /// 3: its number is not one of this mesh.
    NodeOutOfRange,
    /// 4: another process already has this number.
    NodeTaken,
    /// 5: it belongs to another job.
    WrongJob,
    /// 6: not all nodes came in time.
    Timeout,
    /// 7: a node ended while the mesh was being formed.
    Vanished,
    /// 8: it said something that has no place in the handshake.
    Unexpected,
    /// A reason that this version does not know.
    Other(u16),
}

impl Refusal {
    fn code(self) -> u16 {
        match self {
            Self::Version => 1,
            Self::NodesDiffer => 2,
            Self::NodeOutOfRange => 3,
            Self::NodeTaken => 4,
            Self::WrongJob => 5,
            Self::Timeout => 6,
            Self::Vanished => 7,
            Self::Unexpected => 8,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u16) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::NodesDiffer,
            3 => Self::NodeOutOfRange,
            4 => Self::NodeTaken,
            5 => Self::WrongJob,
            6 => Self::Timeout,
            7 => Self::Vanished,
            8 => Self::Unexpected,
            code => Self::Other(code),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) node: u16,
    pub(super) nodes: u16,
    pub(super) purpose: Purpose,
    pub(super) listens_on: SocketAddr,
    pub(super) job: JobId,
}

/// One message of the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Hello(Hello),
    Welcome { node: u16, nodes: u16, present: NodeSet, job: JobId },
    Refused { reason: Refusal, concerned: NodeSet, text: String },
    Present(NodeSet),
    Roster(Vec<SocketAddr>),
    Ready,
    Go,
}

/// Why bytes are not a handshake message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum MessageError {
    #[error("it does not speak pagemesh: its first bytes are {found:02x?}")]
    NotPagemesh { found: Vec<u8> },
    #[error("it speaks wire version {found}, this node speaks {WIRE_VERSION}")]
    Version { found: u16 },
    #[error("it announced a message of {found} bytes, the longest has {MAX_BODY_BYTES}")]
    TooLong { found: u32 },
    #[error("it sent a message of kind {found}, which does not exist")]
    UnknownKind { found: u16 },
    #[error("it sent a {message} that is wrong: {what}")]
    BadBody { message: &'static str, what: &'static str },
}

/// The first 16 bytes of a message, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    kind: u16,
    body_bytes: usize,
}

impl Header {
    /// Total length of the message in bytes.
    pub(super) fn message_bytes(self) -> usize {
        HEADER_BYTES + self.body_bytes
    }

    /// Checks as much of a header as is there; `None` when more is needed.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, MessageError> {
        let seen = bytes.len().min(MAGIC.len());
        if bytes[..seen] != MAGIC[..seen] {
            return Err(MessageError::NotPagemesh { found: bytes[..seen].to_vec() });
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let version = u16_at(header, 8);
        if version != WIRE_VERSION {
            return Err(MessageError::Version { found: version });
        }
        let body_bytes = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        if body_bytes as usize > MAX_BODY_BYTES {
            return Err(MessageError::TooLong { found: body_bytes });
        }
        Ok(Some(Self { kind: u16_at(header, 10), body_bytes: body_bytes as usize }))
    }
}

impl Message {
    /// For what a node says about a message that came at the wrong time.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Welcome { .. } => "Welcome",
            Self::Refused { .. } => "Refused",
            Self::Present(_) => "Present",
            Self::Roster(_) => "Roster",
            Self::Ready => "Ready",
            Self::Go => "Go",
        }
    }

    /// The message as it lies on the wire.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, body) = self.encode_body();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&WIRE_VERSION.to_le_bytes());
        bytes.extend_from_slice(&u16::to_le_bytes(kind));
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    fn encode_body(&self) -> (u16, Vec<u8>) {
        let mut body = Vec::new();
        let kind = match self {
            Self::Hello(hello) => {
                let purpose: u16 = match hello.purpose {
                    Purpose::Join => 1,
                    Purpose::Link => 2,
                };
                for field in [hello.node, hello.nodes, purpose, hello.listens_on.port()] {
                    body.extend_from_slice(&field.to_le_bytes());
                }
                body.extend_from_slice(&encode_address(hello.listens_on.ip()));
                body.extend_from_slice(&hello.job.0);
                1
            }
            Self::Welcome { node, nodes, present, job } => {
                body.extend_from_slice(&node.to_le_bytes());
                body.extend_from_slice(&nodes.to_le_bytes());
                body.extend_from_slice(&[0; 4]);
                body.extend_from_slice(&present.0.to_le_bytes());
                body.extend_from_slice(&job.0);
                2
            }
            Self::Refused { reason, concerned, text } => {
                let text = &text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES_MAX)];
                body.extend_from_slice(&reason.code().to_le_bytes());
                body.extend_from_slice(&(text.len() as u16).to_le_bytes());
                body.extend_from_slice(&[0; 4]);
                body.extend_from_slice(&concerned.0.to_le_bytes());
                body.extend_from_slice(text);
                3
            }
            Self::Present(present) => {
                body.extend_from_slice(&present.0.to_le_bytes());
                4
            }
            Self::Roster(addresses) => {
                for address in addresses {
                    body.extend_from_slice(&encode_address(address.ip()));
                    body.extend_from_slice(&address.port().to_le_bytes());
                    body.extend_from_slice(&[0; 2]);
                }
                5
            }
            Self::Ready => 6,
            Self::Go => 7,
        };
        (kind, body)
    }

    /// Reads the body of a message whose header was checked.
    pub(super) fn decode(header: Header, body: &[u8]) -> Result<Self, MessageError> {
        match header.kind {
            1 => decode_hello(body),
            2 => decode_welcome(body),
            3 => decode_refused(body),
            4 => {
                let body: &[u8; 8] = sized("Present", body)?;
                Ok(Self::Present(NodeSet(u64::from_le_bytes(*body))))
            }
            5 => decode_roster(body),
            6 => sized::<0>("Ready", body).map(|_| Self::Ready),
            7 => sized::<0>("Go", body).map(|_| Self::Go),
            found => Err(MessageError::UnknownKind { found }),
        }
    }
}

/// Reads a handshake message and writes it again, as both sides of a join do; `None` when more bytes are needed. For fuzzing.
///
/// # Errors
/// What a node would say of the one that sent these bytes.
#[doc(hidden)]
pub fn rewritten(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(header) = Header::decode(bytes).map_err(|error| error.to_string())? else { return Ok(None) };
    let Some(body) = bytes.get(HEADER_BYTES..header.message_bytes()) else { return Ok(None) };
    Message::decode(header, body).map(|message| Some(message.encode())).map_err(|error| error.to_string())
}

fn sized<'a, const N: usize>(message: &'static str, body: &'a [u8]) -> Result<&'a [u8; N], MessageError> {
    body.try_into().map_err(|_| MessageError::BadBody { message, what: "its length" })
}

fn decode_hello(body: &[u8]) -> Result<Message, MessageError> {
    let body: &[u8; HELLO_BYTES] = sized("Hello", body)?;
    let purpose = match u16_at(body, 4) {
        1 => Purpose::Join,
        2 => Purpose::Link,
        _ => return Err(MessageError::BadBody { message: "Hello", what: "its purpose" }),
    };
    Ok(Message::Hello(Hello {
        node: u16_at(body, 0),
        nodes: u16_at(body, 2),
        purpose,
        listens_on: SocketAddr::new(decode_address(array_at(body, 8)), u16_at(body, 6)),
        job: JobId(array_at(body, 24)),
    }))
}

fn decode_welcome(body: &[u8]) -> Result<Message, MessageError> {
    let body: &[u8; WELCOME_BYTES] = sized("Welcome", body)?;
    Ok(Message::Welcome {
        node: u16_at(body, 0),
        nodes: u16_at(body, 2),
        present: NodeSet(u64::from_le_bytes(array_at(body, 8))),
        job: JobId(array_at(body, 16)),
    })
}

fn decode_refused(body: &[u8]) -> Result<Message, MessageError> {
    let bad = |what| MessageError::BadBody { message: "Refused", what };
    let (fixed, text) = body.split_first_chunk::<REFUSED_BYTES>().ok_or(bad("its length"))?;
    if text.len() != usize::from(u16_at(fixed, 2)) || text.len() > TEXT_BYTES_MAX {
        return Err(bad("the length of its text"));
    }
    // The text ends on a terminal: nothing in it may steer one.
    let text = String::from_utf8_lossy(text).replace(char::is_control, " ");
    Ok(Message::Refused {
        reason: Refusal::from_code(u16_at(fixed, 0)),
        concerned: NodeSet(u64::from_le_bytes(array_at(fixed, 8))),
        text,
    })
}

fn decode_roster(body: &[u8]) -> Result<Message, MessageError> {
    let (entries, rest) = body.as_chunks::<ROSTER_ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(MessageError::BadBody { message: "Roster", what: "its length" });
    }
    let address = |entry: &[u8; 20]| SocketAddr::new(decode_address(array_at(entry, 0)), u16_at(entry, 16));
    Ok(Message::Roster(entries.iter().map(address).collect()))
}

fn encode_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn decode_address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

/// Offsets are constants inside arrays of fixed size; a wrong one is found by the first test that runs.
fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[offset + index])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(message: &Message) -> Message {
        let bytes = message.encode();
        let header = Header::decode(&bytes).unwrap().unwrap();
        assert_eq!(header.message_bytes(), bytes.len());
        Message::decode(header, &bytes[HEADER_BYTES..]).unwrap()
    }

    fn messages() -> Vec<Message> {
        let job = JobId(*b"0123456789abcdef");
        vec![
            Message::Hello(Hello {
                node: 3,
                nodes: 5,
                purpose: Purpose::Link,
                listens_on: "10.1.2.3:4567".parse().unwrap(),
                job,
            }),
            Message::Welcome { node: 0, nodes: 5, present: NodeSet::of([0, 3]), job },
            Message::Refused {
                reason: Refusal::Vanished,
                concerned: NodeSet::of([4]),
                text: "gone".to_owned(),
            },
            Message::Present(NodeSet::of([0, 1, 63])),
            Message::Roster(vec!["127.0.0.1:1".parse().unwrap(), "[2001:db8::1]:65535".parse().unwrap()]),
            Message::Ready,
            Message::Go,
        ]
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        for message in messages() {
            assert_eq!(round_trip(&message), message);
        }
    }

    #[test]
    fn hello_layout_is_the_documented_one() {
        let bytes = messages()[0].encode();
        assert_eq!(&bytes[..12], b"PAGEMESH\x01\x00\x01\x00");
        assert_eq!(&bytes[12..16], [40, 0, 0, 0]);
        assert_eq!(&bytes[16..24], [3, 0, 5, 0, 2, 0, 0xd7, 0x11]);
        assert_eq!(&bytes[24..40], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3]);
        assert_eq!(&bytes[40..], b"0123456789abcdef");
    }

    #[test]
    fn every_truncation_and_extension_of_a_body_is_refused() {
        for message in messages() {
            let bytes = message.encode();
            let kind = u16_at(&bytes, 10);
            let mut body = bytes[HEADER_BYTES..].to_vec();
            body.push(0);
            for length in (0..=body.len()).filter(|length| *length != body.len() - 1) {
                // A roster is any number of entries.
                if kind == 5 && length % ROSTER_ENTRY_BYTES == 0 {
                    continue;
                }
                let header = Header { kind, body_bytes: length };
                assert!(Message::decode(header, &body[..length]).is_err(), "{message:?} cut to {length}");
            }
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_made_harmless() {
        let text = format!("\u{1b}[2J{}", "ü".repeat(150));
        let message = Message::Refused { reason: Refusal::Other(77), concerned: NodeSet::default(), text };
        let Message::Refused { reason, text, .. } = round_trip(&message) else { panic!("another message") };
        assert_eq!(reason, Refusal::Other(77));
        assert!(text.starts_with(" [2Jüü") && text.len() <= TEXT_BYTES_MAX);
    }
}
