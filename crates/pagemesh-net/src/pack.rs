//! Payloads that are sent in fewer bytes: LZ4 blocks, for links on which bytes take longer than packing them.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use std::fmt;

use crate::frame::{FrameError, MAX_PAYLOAD_BYTES};

/// Before the block: how long the payload is without it, 16 bits.
const LENGTH_BYTES: usize = 2;
/// Shorter payloads are sent as they are.
const WORTH_BYTES: usize = 256;
/// Payloads that are not looked at, at most, after some that packing made hardly shorter.
const PASSED_OVER_MOST: u32 = 63;

/// Whether payloads are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Packing {
    /// Each node measures how fast bytes come from a peer, and asks it to pack what it sends when they come slowly.
    #[default]
    Auto,
    /// Whatever is sent through a socket is packed where that makes it shorter.
    On,
    /// Nothing is, and no peer is asked to.
    Off,
}

/// Packs the payloads of one link. Allocates only when it is made.
pub(crate) struct Packer {
    table: CompressTable,
    place: Box<[u8]>,
    /// Payloads to be sent without a look, and how many it will be after the next failure.
    pass_over: u32,
    next_pass: u32,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").field("pass_over", &self.pass_over).finish_non_exhaustive()
    }
}

impl Packer {
    pub(crate) fn new() -> Packer {
        let most = LENGTH_BYTES + get_maximum_output_size(MAX_PAYLOAD_BYTES);
        Packer {
            table: CompressTable::small(),
            place: vec![0; most].into_boxed_slice(),
            pass_over: 0,
            next_pass: 1,
        }
    }

    /// `payload` in at most seven eighths of its bytes; `None` where it is sent as it is. After a payload that did not become so much
    /// shorter, the next ones are not looked at: one, then three, seven and so on.
    pub(crate) fn pack(&mut self, payload: &[u8]) -> Option<&[u8]> {
        if payload.len() < WORTH_BYTES || payload.len() > MAX_PAYLOAD_BYTES {
            return None;
        }
        if self.pass_over > 0 {
            self.pass_over -= 1;
            return None;
        }
        let (length, block) = self.place.split_at_mut(LENGTH_BYTES);
        length.copy_from_slice(&(payload.len() as u16).to_le_bytes());
        let packed = compress_into_with_table(payload, block, &mut self.table).ok()? + LENGTH_BYTES;
        if packed > payload.len() / 8 * 7 {
            self.pass_over = self.next_pass;
            self.next_pass = (2 * self.next_pass + 1).min(PASSED_OVER_MOST);
            return None;
        }
        self.next_pass = 1;
        Some(&self.place[..packed])
    }
}

/// The payload that was packed, in `place`.
///
/// # Errors
/// [`FrameError::Packed`] when it is not what [`Packer`] makes.
pub(crate) fn unpack<'a>(
    packed: &[u8],
    place: &'a mut [u8; MAX_PAYLOAD_BYTES],
) -> Result<&'a [u8], FrameError> {
    let packed_bytes = packed.len() as u32;
    let wrong = |announced| FrameError::Packed { packed_bytes, announced };
    let (length, block) = packed.split_first_chunk().ok_or(wrong(0))?;
    let announced = u16::from_le_bytes(*length);
    let payload = place.get_mut(..usize::from(announced)).ok_or(wrong(announced))?;
    match decompress_into(block, payload) {
        Ok(bytes) if bytes == payload.len() => Ok(payload),
        _ => Err(wrong(announced)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> Box<[u8; MAX_PAYLOAD_BYTES]> {
        Box::new([0xEE; MAX_PAYLOAD_BYTES])
    }

    /// Bytes that do not repeat.
    fn noise() -> Vec<u8> {
        let mut state = 1_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..4096).map(next).collect()
    }

    /// Some bytes that repeat and some that do not.
    fn payloads() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop::collection::vec((any::<u8>(), 1..600_usize, any::<bool>()), 1..12);
        pieces.prop_map(|pieces| {
            let mut noise = noise().into_iter().cycle();
            let mut bytes = Vec::new();
            for (byte, count, random) in pieces {
                let same = std::iter::repeat_n(byte, count);
                if random { bytes.extend(noise.by_ref().take(count)) } else { bytes.extend(same) }
            }
            bytes.truncate(MAX_PAYLOAD_BYTES);
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_packed_comes_out_again(payload in payloads()) {
            let mut place = place();
            if let Some(packed) = Packer::new().pack(&payload) {
                prop_assert!(packed.len() < payload.len());
                prop_assert_eq!(unpack(packed, &mut place).unwrap(), &payload);
            }
        }

        #[test]
        fn rubbish_is_refused_or_has_the_length_that_it_tells(rubbish in prop::collection::vec(any::<u8>(), 0..200)) {
            let announced = rubbish.first_chunk().map_or(0, |length| u16::from_le_bytes(*length));
            match unpack(&rubbish, &mut place()) {
                Ok(payload) => prop_assert_eq!(payload.len(), usize::from(announced)),
                Err(error) => prop_assert_eq!(error, FrameError::Packed { packed_bytes: rubbish.len() as u32, announced }),
            }
        }

        #[test]
        fn a_block_that_was_changed_harms_nothing(payload in payloads(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut packer = Packer::new();
            let Some(packed) = packer.pack(&payload) else { return Ok(()) };
            let mut changed = packed.to_vec();
            changed[at.index(packed.len())] = with;
            if let Ok(payload) = unpack(&changed, &mut place()) {
                prop_assert!(payload.len() <= MAX_PAYLOAD_BYTES);
            }
        }
    }

    #[test]
    fn a_packed_payload_is_laid_out_as_documented() {
        // Two bytes of length. Then a letter, 294 more by going back one (4, 15 and 255 and 20 of them), and five letters as they are.
        let packed = [0x2C, 0x01, 0x1F, b'a', 1, 0, 255, 20, 0x50, b'a', b'a', b'a', b'a', b'a'];
        assert_eq!(unpack(&packed, &mut place()).unwrap(), [b'a'; 300]);
    }

    #[test]
    fn a_page_of_zeros_is_packed_well_and_noise_is_left_alone() {
        let mut packer = Packer::new();
        assert!(packer.pack(&[0; 4096]).unwrap().len() < 64);
        let noise = noise();
        assert_eq!(packer.pack(&noise), None);
        // One is passed over, whatever it is, and the next is looked at.
        assert_eq!(packer.pack(&[0; 4096]), None);
        assert!(packer.pack(&[0; 4096]).is_some());
        assert_eq!(packer.pack(&[0; WORTH_BYTES - 1]), None, "not worth it");
    }

    #[test]
    fn payloads_that_do_not_get_shorter_are_looked_at_less_and_less() {
        let mut packer = Packer::new();
        let noise = noise();
        let mut looks = Vec::new();
        for n in 0..200 {
            let passes = packer.pass_over > 0;
            assert_eq!(packer.pack(&noise), None);
            if !passes {
                looks.push(n);
            }
        }
        assert_eq!(looks, [0, 2, 6, 14, 30, 62, 126, 190]);
    }
}
