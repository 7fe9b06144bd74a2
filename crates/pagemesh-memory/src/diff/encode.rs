//! Writing a diff.

use super::changes::Changes;
use super::parse::DiffForm;
use super::scan::Scanner;
use super::{BITMAP_BYTES, DiffBytes};
use crate::PAGE_BYTES;

/// A run of at most this many bytes is copied by one pair of instructions.
const SHORT_BYTES: usize = 16;

/// Writes the shortest form and returns its bytes, 0 when nothing is changed.
pub(super) fn encode(scanner: Scanner, changes: &Changes, out: &mut DiffBytes) -> usize {
    if changes.touched == 0 {
        return 0;
    }
    if changes.touched == u64::MAX && changes.mask.iter().all(|word| *word == u64::MAX) {
        out[0] = DiffForm::Whole as u8;
        out[1..=PAGE_BYTES].copy_from_slice(&changes.bytes);
        return 1 + PAGE_BYTES;
    }
    write_runs(changes, out).unwrap_or_else(|| write_bitmap(scanner, changes, out))
}

/// Writes runs, unless a bitmap is as short.
fn write_runs(changes: &Changes, out: &mut DiffBytes) -> Option<usize> {
    // Two numbers, of a byte at least.
    if changes.run_count() * 2 >= BITMAP_BYTES {
        return None;
    }
    out[0] = DiffForm::Runs as u8;
    let (mut position, mut last_end, mut header_bytes) = (1, 0, 0);
    for run in changes.runs() {
        let start = position;
        position = write_number(run.start - last_end, out, position);
        position = write_number(run.len(), out, position);
        header_bytes += position - start;
        if header_bytes >= BITMAP_BYTES {
            return None;
        }
        last_end = run.end;
        let wide_from = changes.bytes.get(run.start..run.start + SHORT_BYTES);
        match (wide_from, out.get_mut(position..position + SHORT_BYTES)) {
            // Those that are too many are written over by what follows.
            (Some(from), Some(to)) if run.len() <= SHORT_BYTES => to.copy_from_slice(from),
            _ => out[position..position + run.len()].copy_from_slice(&changes.bytes[run.clone()]),
        }
        position += run.len();
    }
    Some(position)
}

fn write_number(number: usize, out: &mut DiffBytes, position: usize) -> usize {
    if number < 128 {
        out[position] = number as u8;
        position + 1
    } else {
        out[position] = number as u8 | 128;
        out[position + 1] = (number >> 7) as u8;
        position + 2
    }
}

fn write_bitmap(scanner: Scanner, changes: &Changes, out: &mut DiffBytes) -> usize {
    out[0] = DiffForm::Bitmap as u8;
    let (bitmap, _) = out[1..=BITMAP_BYTES].as_chunks_mut::<8>();
    for (to, word) in bitmap.iter_mut().zip(changes.mask) {
        *to = word.to_le_bytes();
    }
    scanner.pack(changes, out, 1 + BITMAP_BYTES)
}
