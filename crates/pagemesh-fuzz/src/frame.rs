//! The framing of a link's byte stream.

use pagemesh_net::frame::{FrameBuffer, FrameError, FramePrefix, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES};

/// A frame, copied out of the buffer.
type Copied = (Vec<u8>, Vec<u8>);

/// Any byte stream is cut into the same frames however it arrives, each frame is made of the bytes that came, or of what they are packed, and a buffer never
/// holds back more than one frame. The first byte of the input says in what pieces the rest arrives.
pub fn frame(data: &[u8]) {
    let Some((pieces, stream)) = data.split_first() else { return };
    let (whole, end) = cut(stream, usize::MAX);
    assert_eq!(cut(stream, usize::from(*pieces) + 1), (whole.clone(), end), "the pieces decide the frames");
    let mut rest = stream;
    for (message, payload) in &whole {
        let (head, body) = rest.split_first_chunk().expect("a frame that came has a prefix");
        let prefix = FramePrefix::decode(*head).expect("the prefix was read before");
        assert_eq!(prefix.encode(), *head, "a prefix says more than what is read there");
        let (frame, later) = body.split_at(prefix.message_bytes() + prefix.payload_bytes());
        let (sent_message, sent_payload) = frame.split_at(prefix.message_bytes());
        assert_eq!(message, sent_message, "the message is not what came");
        if prefix.is_packed() {
            assert!(payload.len() <= MAX_PAYLOAD_BYTES, "a payload that is too long");
        } else {
            assert_eq!(payload, sent_payload, "the payload is not what came");
        }
        rest = later;
    }
}

/// The frames of `stream`, which arrives in pieces of at most `piece` bytes, and how it ended.
fn cut(mut stream: &[u8], piece: usize) -> (Vec<Copied>, Option<FrameError>) {
    let mut buffer = FrameBuffer::new();
    let mut frames: Vec<Copied> = Vec::new();
    // Of the long payload of the last frame, so much is to come.
    let mut long_bytes = 0;
    loop {
        loop {
            if let Some((_, payload)) = frames.last_mut().filter(|_| long_bytes > 0) {
                let part = buffer.peek(long_bytes).to_vec();
                buffer.skip(part.len());
                long_bytes -= part.len();
                payload.extend(part);
                if long_bytes > 0 {
                    break;
                }
            }
            match buffer.next_frame() {
                Ok(Some(frame)) => {
                    frames.push((frame.message.to_vec(), frame.payload.to_vec()));
                    long_bytes = frame.long_bytes;
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(buffer.next_frame(), Err(error), "a broken stream stays broken");
                    return (frames, Some(error));
                }
            }
        }
        assert!(buffer.pending_bytes() < MAX_FRAME_BYTES, "more than a frame is held back");
        if stream.is_empty() {
            if long_bytes > 0 {
                frames.pop();
            }
            return (frames, None);
        }
        let space = buffer.space();
        assert!(!space.is_empty(), "no room for what is to come");
        let count = piece.min(space.len()).min(stream.len());
        let (now, later) = stream.split_at(count);
        space[..count].copy_from_slice(now);
        buffer.filled(count);
        stream = later;
    }
}
