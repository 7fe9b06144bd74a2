//! The messages between engines.

use pagemesh_protocol::{Message, Run};

/// Any bytes are a message, a run of messages, or are refused; a message that was read is written in as many bytes, and is read as the same again.
pub fn message(data: &[u8]) {
    if let Ok((view, run)) = Run::decode(data) {
        assert!(Run::is_one(data) && Message::decode(data).is_err(), "{run:?}");
        assert_eq!(Run::decode(&run.encode(view)), Ok((view, run)));
    }
    let Ok((view, read)) = Message::decode(data) else { return };
    let mut written = [0xff; Message::MAX_BYTES];
    let length = read.encode(view, &mut written);
    assert_eq!(length, data.len(), "{read:?}");
    assert_eq!(Message::decode(&written[..length]), Ok((view, read)));
}
