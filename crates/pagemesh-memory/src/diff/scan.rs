//! Finding the bytes that differ, and packing them: 32 bytes at a time where the processor has AVX2, 8 elsewhere.

use super::changes::{Changes, Mask, WORD_BITS};
use super::{BITMAP_BYTES, DiffBytes};
use crate::recoverable::sites;
use crate::{PAGE_BYTES, PageBytes};
use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_shuffle_epi8, _mm256_cmpeq_epi8, _mm256_movemask_epi8,
};
use std::fmt;
use std::mem::MaybeUninit;

/// By which instructions pages are compared. What comes out is the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scanner {
    /// Only true where the processor was seen to have it.
    avx2: bool,
}

impl Scanner {
    /// Instructions that every processor of this architecture has.
    pub const PORTABLE: Scanner = Scanner { avx2: false };

    /// AVX2, where the processor and the kernel have it.
    pub fn avx2() -> Option<Scanner> {
        let has_it = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
        has_it.then_some(Scanner { avx2: true })
    }

    /// The fastest that can be had.
    pub fn fastest() -> Scanner {
        Scanner::avx2().unwrap_or(Scanner::PORTABLE)
    }

    /// Reads every byte at `current` once and compares it.
    ///
    /// # Safety
    /// There are [`PAGE_BYTES`] mapped at `current`. Others may write them.
    pub(super) unsafe fn scan<'a>(
        self,
        current: *const u8,
        twin: &PageBytes,
        found: &'a mut MaybeUninit<Changes>,
    ) -> &'a Changes {
        let to = found.as_mut_ptr();
        let touched = if self.avx2 {
            // SAFETY: the processor has AVX2, `current` is passed on, and `to` is room for what is written.
            unsafe { scan_avx2(current, twin, (&raw mut (*to).bytes).cast(), (&raw mut (*to).mask).cast()) }
        } else {
            // SAFETY: as above; the copy is opaque to the compiler, so it reads the shared bytes once.
            let bytes = unsafe {
                let _ = sites::copy((&raw mut (*to).bytes).cast(), current, 0, PAGE_BYTES);
                &(*to).bytes
            };
            let (mask, touched) = mask_portable(bytes, twin);
            // SAFETY: room for a mask.
            unsafe { (&raw mut (*to).mask).write(mask) };
            touched
        };
        // SAFETY: room for a number.
        unsafe { (&raw mut (*to).touched).write(touched) };
        // SAFETY: all bytes, the whole mask and the summary were written.
        unsafe { found.assume_init_ref() }
    }

    /// Writes the changed bytes to `out` from `position` on and returns where they end.
    pub(super) fn pack(self, changes: &Changes, out: &mut DiffBytes, position: usize) -> usize {
        if self.avx2 {
            // SAFETY: the processor has it.
            unsafe { pack_avx2(changes, out, position) }
        } else {
            changes.mask.iter().zip(0..).fold(position, |end, (word, index)| {
                (0..WORD_BITS / 8).fold(end, |end, group| {
                    pack_group(changes, index * WORD_BITS + group * 8, (word >> (group * 8)) as u8, out, end)
                })
            })
        }
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.avx2 { "avx2" } else { "portable" })
    }
}

/// Reads and compares 64 bytes a step. Returns which words of the mask are not zero.
///
/// # Safety
/// There is a page at `current`, and room for a page at `bytes` and for a [`Mask`] at `mask`. Others may write `current`.
#[target_feature(enable = "avx2")]
unsafe fn scan_avx2(current: *const u8, twin: &PageBytes, bytes: *mut u8, mask: *mut u64) -> u64 {
    let mut touched = 0;
    for index in 0..PAGE_BYTES / WORD_BITS {
        let offset = index * WORD_BITS;
        let (low, high): (__m256i, __m256i);
        // SAFETY: 64 bytes of the page. The compiler does not know what is loaded here: it can neither load it again nor
        // conclude anything from it.
        unsafe {
            asm!(
                "vmovdqu {low}, ymmword ptr [{from}]",
                "vmovdqu {high}, ymmword ptr [{from} + 32]",
                from = in(reg) current.add(offset),
                low = lateout(ymm_reg) low,
                high = lateout(ymm_reg) high,
                options(nostack, preserves_flags, readonly),
            );
        }
        // SAFETY: 64 bytes of the twin, of the room for bytes, and one word of the mask, which has one for each 64 bytes.
        unsafe {
            bytes.add(offset).cast::<[__m256i; 2]>().write_unaligned([low, high]);
            let [twin_low, twin_high] = twin.as_ptr().add(offset).cast::<[__m256i; 2]>().read_unaligned();
            let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, twin_low));
            let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, twin_high));
            let equal = u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 32;
            mask.add(index).write(!equal);
            touched |= u64::from(equal != u64::MAX) << index;
        }
    }
    touched
}

/// Compares 8 bytes a step. Returns which words of the mask are not zero, beside it.
fn mask_portable(current: &PageBytes, twin: &PageBytes) -> (Mask, u64) {
    const LOW_SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    /// Moves the lowest bit of byte i to bit 56 + i: a term 2^(56 - 7i) for each.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (mut mask, mut touched) = ([0; PAGE_BYTES / WORD_BITS], 0);
    let words = current.as_chunks::<8>().0.iter().zip(twin.as_chunks::<8>().0);
    for (index, (current, twin)) in words.enumerate() {
        let difference = u64::from_le_bytes(*current) ^ u64::from_le_bytes(*twin);
        if difference != 0 {
            // The highest bit of each byte that is not zero: adding to the lower seven carries into it, and no further.
            let high_bits = (((difference & LOW_SEVEN) + LOW_SEVEN) | difference) & !LOW_SEVEN;
            let group = (high_bits >> 7).wrapping_mul(GATHER) >> 56;
            mask[index / 8] |= group << (index % 8 * 8);
            touched |= 1 << (index / 8);
        }
    }
    (mask, touched)
}

/// Writes those of the 8 bytes from `offset` on whose bit is in `group`. Returns the position behind them.
fn pack_group(
    changes: &Changes,
    offset: usize,
    mut group: u8,
    out: &mut DiffBytes,
    mut position: usize,
) -> usize {
    while group != 0 {
        out[position] = changes.bytes[offset + group.trailing_zeros() as usize];
        position += 1;
        group &= group - 1;
    }
    position
}

/// For each set of 8 bytes, the order that brings them to the front.
static FRONT: [[u8; 8]; 256] = fronts();

const fn fronts() -> [[u8; 8]; 256] {
    let mut fronts = [[0; 8]; 256];
    let mut group = 0;
    while group < 256 {
        let (mut bit, mut position) = (0_u8, 0);
        while bit < 8 {
            if group >> bit & 1 == 1 {
                fronts[group][position] = bit;
                position += 1;
            }
            bit += 1;
        }
        group += 1;
    }
    fronts
}

/// Moves 8 bytes a step.
#[target_feature(enable = "avx2,popcnt")]
fn pack_avx2(changes: &Changes, out: &mut DiffBytes, mut position: usize) -> usize {
    let (groups, _) = changes.bytes.as_chunks::<8>();
    for (index, bytes) in groups.iter().enumerate() {
        let group = (changes.mask[index / 8] >> (index % 8 * 8)) as u8;
        if group == 0 {
            continue;
        }
        // What a step writes behind the bytes that it is for, the next writes anew; at the end there may be no room.
        let Some(room) = out[position..].first_chunk_mut::<8>() else {
            position = pack_group(changes, index * 8, group, out, position);
            continue;
        };
        let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(*bytes));
        let front = _mm_cvtsi64_si128(i64::from_le_bytes(FRONT[usize::from(group)]));
        *room = _mm_cvtsi128_si64(_mm_shuffle_epi8(bytes, front)).to_le_bytes();
        position += group.count_ones() as usize;
    }
    position
}

const _: () = assert!(BITMAP_BYTES == size_of::<Mask>());
