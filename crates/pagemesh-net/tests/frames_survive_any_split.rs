//! Guarantee: however TCP cuts the stream, exactly the frames that were sent come out, or the link dies.
//!
//! A receiver that loses its place in a stream would take page bytes for messages. The kernel may cut a stream
//! anywhere, and whoever receives next must go on where the one before stopped.

mod common;

use common::frame_bytes;
use pagemesh_net::frame::{
    FrameBuffer, FrameError, MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES, PAGE_BYTES, PREFIX_BYTES,
    RECEIVE_BUFFER_BYTES,
};
use proptest::prelude::*;

type OwnedFrame = (Vec<u8>, Vec<u8>);

/// Feeds a stream in pieces and takes frames out after each, as a link does.
fn decode(stream: &[u8], pieces: impl IntoIterator<Item = usize>) -> Result<Vec<OwnedFrame>, FrameError> {
    let mut buffer = FrameBuffer::new();
    let mut frames = Vec::new();
    let mut pieces = pieces.into_iter();
    let mut rest = stream;
    while !rest.is_empty() {
        let space = buffer.space();
        assert!(!space.is_empty(), "a buffer without space can never complete its frame");
        let count = pieces.next().unwrap_or(usize::MAX).clamp(1, space.len()).min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        buffer.filled(count);
        rest = &rest[count..];
        while let Some(frame) = buffer.next_frame()? {
            frames.push((frame.message.to_vec(), frame.payload.to_vec()));
        }
    }
    Ok(frames)
}

fn page(seed: u8) -> Vec<u8> {
    (0..PAGE_BYTES).map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[test]
fn two_frames_split_at_every_byte() {
    let stream = [frame_bytes(b"first", &page(1)), frame_bytes(b"second", &[])].concat();
    let expected = vec![(b"first".to_vec(), page(1)), (b"second".to_vec(), Vec::new())];
    for split in 1..stream.len() {
        assert_eq!(decode(&stream, [split]).unwrap(), expected, "split at byte {split}");
    }
    assert_eq!(decode(&stream, std::iter::repeat(1)).unwrap(), expected, "byte by byte");
}

#[test]
fn many_frames_in_one_read_all_come_out() {
    let stream = (0..1000u16).flat_map(|index| frame_bytes(&index.to_le_bytes(), &[])).collect::<Vec<_>>();
    assert!(stream.len() < RECEIVE_BUFFER_BYTES);
    let frames = decode(&stream, []).unwrap();
    assert_eq!(frames.len(), 1000);
    assert!((0..1000u16).zip(&frames).all(|(index, frame)| frame.0 == index.to_le_bytes()));
}

#[test]
fn a_wrong_mark_is_noticed() {
    let mut stream = frame_bytes(b"message", &[]);
    stream[7] = b'X';
    assert_eq!(decode(&stream, []), Err(FrameError::BadMark { found: 0x5850 }));
}

#[test]
fn lengths_beyond_the_limits_are_refused_before_their_bytes_arrive() {
    let prefix = |payload_bytes: u32, message_bytes: u16| {
        [&payload_bytes.to_le_bytes()[..], &message_bytes.to_le_bytes(), b"PM"].concat()
    };
    let longest = MAX_MESSAGE_BYTES as u16;
    assert_eq!(decode(&prefix(0, longest), []), Ok(vec![]));
    assert_eq!(decode(&prefix(0, longest + 1), []), Err(FrameError::MessageBytes { found: longest + 1 }));
    assert_eq!(decode(&prefix(0, 0), []), Err(FrameError::MessageBytes { found: 0 }));
    let largest = MAX_PAYLOAD_BYTES as u32;
    assert_eq!(decode(&prefix(largest, longest), []), Ok(vec![]));
    for found in [largest + 1, 8192, 16 * 4096, u32::MAX] {
        assert_eq!(decode(&prefix(found, 1), []), Err(FrameError::PayloadBytes { found }));
    }
}

#[test]
fn an_error_is_final() {
    let mut buffer = FrameBuffer::new();
    let stream = [b"garbage!".to_vec(), frame_bytes(b"message", &[])].concat();
    buffer.space()[..stream.len()].copy_from_slice(&stream);
    buffer.filled(stream.len());
    let error = buffer.next_frame().unwrap_err();
    assert_eq!(buffer.next_frame(), Err(error));
}

fn frames() -> impl Strategy<Value = Vec<OwnedFrame>> {
    let message = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..=64),
        prop::collection::vec(any::<u8>(), MAX_MESSAGE_BYTES - 1..=MAX_MESSAGE_BYTES),
    ];
    let payload = prop_oneof![
        Just(Vec::new()),
        any::<u8>().prop_map(page),
        prop::collection::vec(any::<u8>(), 1..=MAX_PAYLOAD_BYTES),
    ];
    prop::collection::vec((message, payload), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_frames_in_any_pieces(
        frames in frames(),
        pieces in prop::collection::vec(prop_oneof![1usize..16, 1usize..70_000], 0..200),
    ) {
        let stream = frames.iter().flat_map(|(message, payload)| frame_bytes(message, payload)).collect::<Vec<_>>();
        prop_assert_eq!(decode(&stream, pieces).unwrap(), frames);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        stream in prop::collection::vec(any::<u8>(), 0..9000),
        pieces in prop::collection::vec(1usize..4096, 0..20),
    ) {
        let _ = decode(&stream, pieces);
    }
}

#[test]
fn a_flipped_bit_in_a_prefix_never_yields_the_same_frame() {
    /// What the sender wants: payloads packed, and what was put off. They say nothing about this frame.
    const ASKS: usize = 30;
    const HURRIES: usize = 28;
    for bit in (0..PREFIX_BYTES * 8).filter(|bit| ![ASKS, HURRIES].contains(bit)) {
        let mut stream = frame_bytes(b"message", &page(9));
        stream[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(decode(&stream, []), Ok(vec![(b"message".to_vec(), page(9))]), "bit {bit}");
    }
}

/// Every frame says anew whether its sender wants payloads packed.
#[test]
fn what_the_peer_asks_for_is_known_after_each_frame() {
    let mut asking = frame_bytes(b"first", &[]);
    asking[3] |= 1 << 6;
    let stream = [asking, frame_bytes(b"second", &[])].concat();
    let mut buffer = FrameBuffer::new();
    assert!(!buffer.peer_asks());
    buffer.space()[..stream.len()].copy_from_slice(&stream);
    buffer.filled(stream.len());
    assert_eq!(buffer.next_frame().unwrap().unwrap().message, b"first");
    assert!(buffer.peer_asks());
    assert_eq!(buffer.next_frame().unwrap().unwrap().message, b"second");
    assert!(!buffer.peer_asks());
}
