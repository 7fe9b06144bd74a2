//! The machine code of recoverable accesses (`x86_64`).
//!
//! Each function is one access to memory and hardly anything else, written so that nothing was pushed on the stack
//! when that instruction runs. So the handler can end the call in its place: it puts a failure where the caller expects the
//! result and continues at [`landing`], which returns to the caller. The kernel's exception tables work alike.
//!
//! Their second use is that the compiler sees an unknown function: it can neither split, merge, move nor repeat the
//! access.

use crate::RegionKey;
use std::arch::naked_asm;

/// What a function here returns, in rax and rdx.
#[repr(C)]
#[derive(Clone, Copy)]
#[must_use]
pub(crate) struct Outcome {
    /// What was loaded; after a failure, the page.
    pub(crate) value: u64,
    /// 0 for success; after a failure, [`FAILED`] and the region's key in the lower half.
    pub(crate) failure: u64,
}

/// Set in every failure.
const FAILED: u64 = 1 << 32;

impl Outcome {
    pub(crate) fn failure(region: RegionKey, page: u64) -> Outcome {
        Outcome { value: page, failure: FAILED | u64::from(region.0) }
    }

    /// What was loaded, or whose page could not be had.
    pub(crate) fn result(self) -> Result<u64, (RegionKey, u64)> {
        if self.failure == 0 { Ok(self.value) } else { Err((RegionKey(self.failure as u32), self.value)) }
    }
}

/// Copies `bytes` from `from` to `to`. A fault in between leaves the registers at the byte that it came to, and the instruction
/// goes on from there. `unused` keeps the count in rcx, where the instruction wants it.
///
/// # Safety
/// As for [`std::ptr::copy_nonoverlapping`], except that others may change shared pages meanwhile.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn copy(
    to: *mut u8,
    from: *const u8,
    unused: usize,
    bytes: usize,
) -> Outcome {
    naked_asm!("rep movsb", "xor eax, eax", "xor edx, edx", "ret")
}

/// Copies `bytes` from `from` to `to`, where no page can be missing: 64 at a time.
///
/// With `rep movsb` the processor sometimes needs many times as long, by where the two lie to each other: on Zen 4 a page took from 0.05 to
/// 1.2 us, and with this always 0.1.
///
/// # Safety
/// As for [`std::ptr::copy_nonoverlapping`], except that others may change shared pages meanwhile.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn transfer(to: *mut u8, from: *const u8, bytes: usize) {
    naked_asm!(
        "mov rcx, rdx",
        "shr rcx, 6",
        "jz 3f",
        "2:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "add rsi, 64",
        "add rdi, 64",
        "dec rcx",
        "jnz 2b",
        "3:",
        "mov ecx, edx",
        "and ecx, 63",
        "rep movsb",
        "ret"
    )
}

macro_rules! site {
    ($(#[$doc:meta])* $name:ident($($argument:ident),*) = $($code:literal),+) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The address is mapped, aligned, and read and written as shared memory only.
        #[unsafe(naked)]
        pub(crate) unsafe extern "sysv64" fn $name(address: *mut u8 $(, $argument: u64)*) -> Outcome {
            naked_asm!($($code,)+ "xor edx, edx", "ret")
        }
    };
}

site!(/// Loads 8 bits.
    load_u8() = "movzx eax, byte ptr [rdi]");
site!(/// Loads 16 bits.
    load_u16() = "movzx eax, word ptr [rdi]");
site!(/// Loads 32 bits.
    load_u32() = "mov eax, dword ptr [rdi]");
site!(/// Loads 64 bits.
    load_u64() = "mov rax, qword ptr [rdi]");
site!(/// Stores 8 bits.
    store_u8(value) = "mov byte ptr [rdi], sil");
site!(/// Stores 16 bits.
    store_u16(value) = "mov word ptr [rdi], si");
site!(/// Stores 32 bits.
    store_u32(value) = "mov dword ptr [rdi], esi");
site!(/// Stores 64 bits.
    store_u64(value) = "mov qword ptr [rdi], rsi");
site!(/// Adds to 32 bits and returns what was there.
    fetch_add_u32(value) = "lock xadd dword ptr [rdi], esi", "mov eax, esi");
site!(/// Adds to 64 bits and returns what was there.
    fetch_add_u64(value) = "lock xadd qword ptr [rdi], rsi", "mov rax, rsi");
site!(/// Replaces 32 bits and returns what was there.
    swap_u32(value) = "xchg dword ptr [rdi], esi", "mov eax, esi");
site!(/// Replaces 64 bits and returns what was there.
    swap_u64(value) = "xchg qword ptr [rdi], rsi", "mov rax, rsi");
site!(/// Replaces 32 bits if they are what is expected, and returns what was there.
    compare_exchange_u32(expected, value) = "mov eax, esi", "lock cmpxchg dword ptr [rdi], edx");
site!(/// Replaces 64 bits if they are what is expected, and returns what was there.
    compare_exchange_u64(expected, value) = "mov rax, rsi", "lock cmpxchg qword ptr [rdi], rdx");

/// Length of `mov eax, esi`, which comes before the access.
const MOVE_U32_BYTES: usize = 2;
/// Length of `mov rax, rsi`.
const MOVE_U64_BYTES: usize = 3;

/// Where an interrupted call goes on that has failed: back to its caller.
#[unsafe(naked)]
unsafe extern "sysv64" fn land() -> Outcome {
    naked_asm!("ret")
}

/// Address of the instruction at which a failed call goes on.
pub(crate) fn landing() -> usize {
    land as *const () as usize
}

/// The address of each instruction that accesses memory.
fn instructions() -> [usize; 15] {
    [
        copy as *const () as usize,
        load_u8 as *const () as usize,
        load_u16 as *const () as usize,
        load_u32 as *const () as usize,
        load_u64 as *const () as usize,
        store_u8 as *const () as usize,
        store_u16 as *const () as usize,
        store_u32 as *const () as usize,
        store_u64 as *const () as usize,
        fetch_add_u32 as *const () as usize,
        fetch_add_u64 as *const () as usize,
        swap_u32 as *const () as usize,
        swap_u64 as *const () as usize,
        compare_exchange_u32 as *const () as usize + MOVE_U32_BYTES,
        compare_exchange_u64 as *const () as usize + MOVE_U64_BYTES,
    ]
}

/// Whether the instruction at `address` is the access of one of these functions.
pub(crate) fn contain(address: usize) -> bool {
    instructions().contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of each access, from the processor's manual: rep movsb, movzx, mov, lock, xchg.
    #[test]
    fn each_address_is_that_of_the_access_itself() {
        let begin: [&[u8]; 15] = [
            &[0xf3, 0xa4],
            &[0x0f, 0xb6, 0x07],
            &[0x0f, 0xb7, 0x07],
            &[0x8b, 0x07],
            &[0x48, 0x8b, 0x07],
            &[0x40, 0x88, 0x37],
            &[0x66, 0x89, 0x37],
            &[0x89, 0x37],
            &[0x48, 0x89, 0x37],
            &[0xf0, 0x0f, 0xc1, 0x37],
            &[0xf0, 0x48, 0x0f, 0xc1, 0x37],
            &[0x87, 0x37],
            &[0x48, 0x87, 0x37],
            &[0xf0, 0x0f, 0xb1, 0x17],
            &[0xf0, 0x48, 0x0f, 0xb1, 0x17],
        ];
        for (number, (address, expected)) in instructions().into_iter().zip(begin).enumerate() {
            // SAFETY: reads code of this program.
            let found = unsafe { std::slice::from_raw_parts(address as *const u8, expected.len()) };
            assert_eq!(found, expected, "access {number}");
            assert!(contain(address));
        }
        assert!(!contain(landing()));
    }

    #[test]
    fn a_transfer_is_a_copy_whatever_its_length() {
        let from: Vec<u8> =
            (0..4096 + 200_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for (bytes, offset) in (0..200).chain([4095, 4096, 4097]).zip((0..64).cycle()) {
            let mut to = vec![0xa5; bytes + 65];
            // SAFETY: both have room for so many.
            unsafe { transfer(to.as_mut_ptr().add(offset), from.as_ptr().add(offset), bytes) };
            assert_eq!(to[offset..offset + bytes], from[offset..offset + bytes], "{bytes} bytes at {offset}");
            assert!(to[..offset].iter().chain(&to[offset + bytes..]).all(|byte| *byte == 0xa5));
        }
    }

    #[test]
    fn a_failure_names_region_and_page() {
        let outcome = Outcome::failure(RegionKey(0), 0);
        assert_eq!(outcome.result(), Err((RegionKey(0), 0)));
        let outcome = Outcome::failure(RegionKey(u32::MAX), 1 << 40);
        assert_eq!(outcome.result(), Err((RegionKey(u32::MAX), 1 << 40)));
    }
}
