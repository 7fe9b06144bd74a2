//! The framing of a link's byte stream.

use pagemesh_net::frame::{FrameBuffer, FrameError, FramePrefix, MAX_FRAME_BYTES};

/// A frame, copied out of the buffer.
type Copied = (Vec<u8>, Vec<u8>);

/// Any byte stream is cut into the same frames however it arrives, each frame is made of the bytes that came, and a buffer never
/// holds back more than one frame. The first byte of the input says in what pieces the rest arrives.
pub fn frame(data: &[u8]) {
    let Some((pieces, stream)) = data.split_first() else { return };
    let (whole, end) = cut(stream, usize::MAX);
    assert_eq!(cut(stream, usize::from(*pieces) + 1), (whole.clone(), end), "the pieces decide the frames");
    let mut written = Vec::new();
    for (message, payload) in &whole {
        let prefix = FramePrefix::new(message.len(), payload.len()).expect("a frame that came can be sent");
        written.extend_from_slice(&prefix.encode());
        written.extend_from_slice(message);
        written.extend_from_slice(payload);
    }
    assert!(stream.starts_with(&written), "the frames are not what came");
}

/// The frames of `stream`, which arrives in pieces of at most `piece` bytes, and how it ended.
fn cut(mut stream: &[u8], piece: usize) -> (Vec<Copied>, Option<FrameError>) {
    let mut buffer = FrameBuffer::new();
    let mut frames = Vec::new();
    loop {
        loop {
            match buffer.next_frame() {
                Ok(Some(frame)) => frames.push((frame.message.to_vec(), frame.payload.to_vec())),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(buffer.next_frame(), Err(error), "a broken stream stays broken");
                    return (frames, Some(error));
                }
            }
        }
        assert!(buffer.pending_bytes() < MAX_FRAME_BYTES, "more than a frame is held back");
        if stream.is_empty() {
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
