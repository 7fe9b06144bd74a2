//! The messages of joining.

use pagemesh_net::join::message::{HEADER_BYTES, MAX_BODY_BYTES, rewritten};

/// Any bytes are a handshake message or are refused; what was read and written again is read as the same, and is not longer than a
/// message may be.
pub fn handshake(data: &[u8]) {
    let Ok(Some(once)) = rewritten(data) else { return };
    assert!(once.len() <= HEADER_BYTES + MAX_BODY_BYTES, "{} bytes", once.len());
    assert_eq!(rewritten(&once), Ok(Some(once.clone())), "it is read differently the second time");
    for length in 0..once.len().min(HEADER_BYTES) {
        assert_eq!(rewritten(&once[..length]), Ok(None), "a part of a message is no message and no error");
    }
}
