//! The registers of the interrupted code, as the kernel laid them down for the handler (`x86_64`).

use super::FaultSignal;
use crate::recoverable::sites;
use crate::{Access, RegionKey};
use std::ffi::c_void;
use std::ops::Range;

/// Bit 0 of the page-fault error code: there is an entry for the page, which does not allow the access (Intel SDM volume 3, 4.7).
const ERROR_CODE_PRESENT: u64 = 1 << 0;
/// Bit 1 of the page-fault error code: the access was a store (Intel SDM volume 3, 4.7).
const ERROR_CODE_WRITE: u64 = 1 << 1;

/// Where the kernel keeps these registers.
const ERROR_CODE: usize = libc::REG_ERR as usize;
const RIP: usize = libc::REG_RIP as usize;
const RAX: usize = libc::REG_RAX as usize;
const RDX: usize = libc::REG_RDX as usize;
const RSP: usize = libc::REG_RSP as usize;

/// The registers of the code that a signal interrupted. What is changed here is in force when the handler has returned.
pub(super) struct FaultContext<'a> {
    registers: &'a mut [libc::greg_t; 23],
    alternate_stack: Range<usize>,
}

impl FaultContext<'_> {
    /// # Safety
    /// `context` is the third argument that the kernel gave to a handler which is still running, and nobody else uses it
    /// for as long as the value lives.
    pub(super) unsafe fn new<'a>(context: *mut c_void) -> FaultContext<'a> {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: promised by the caller. Only of the registers a reference is made: the kernel's structure ends before libc's
        // does, and what follows it on the stack is the siginfo.
        unsafe {
            let stack = (&raw const (*context).uc_stack).read();
            let bottom = stack.ss_sp.addr();
            let bytes = if stack.ss_flags & libc::SS_DISABLE == 0 { stack.ss_size } else { 0 };
            FaultContext {
                registers: &mut (*context).uc_mcontext.gregs,
                alternate_stack: bottom..bottom.saturating_add(bytes),
            }
        }
    }

    /// The thread's alternate signal stack (`sigaltstack(2)`) as it was when the signal came; empty where there was none.
    pub(super) fn alternate_stack(&self) -> &Range<usize> {
        &self.alternate_stack
    }

    /// Where the stack of the interrupted code ended.
    pub(super) fn stack_pointer(&self) -> usize {
        self.registers[RSP].cast_unsigned() as usize
    }

    /// What the faulting instruction wanted.
    pub(super) fn access(&self) -> Access {
        match self.registers[ERROR_CODE].cast_unsigned() & ERROR_CODE_WRITE {
            0 => Access::Read,
            _ => Access::Write,
        }
    }

    /// Whether the page is in the page table, so that only its protection was in the way.
    pub(super) fn found_page(&self) -> bool {
        self.registers[ERROR_CODE].cast_unsigned() & ERROR_CODE_PRESENT != 0
    }

    /// Address of the faulting instruction.
    pub(super) fn instruction(&self) -> usize {
        self.registers[RIP].cast_unsigned() as usize
    }

    /// Makes the recoverable access that was interrupted return a failure for this page.
    pub(super) fn fail(&mut self, region: RegionKey, page: u64) {
        let outcome = sites::Outcome::failure(region, page);
        self.registers[RAX] = outcome.value.cast_signed();
        self.registers[RDX] = outcome.failure.cast_signed();
        self.registers[RIP] = (sites::landing() as u64).cast_signed();
    }
}

/// The signals that were blocked when the signal came.
///
/// # Safety
/// As for [`FaultContext::new`].
pub(super) unsafe fn interrupted_mask(context: *mut c_void) -> u64 {
    // SAFETY: promised by the caller. Only as much is read as the kernel wrote: 64 signals.
    unsafe { (&raw const (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<u64>().read() }
}

/// Sees to it that `signal` is not blocked when the handler has returned.
///
/// # Safety
/// As for [`FaultContext::new`].
pub(super) unsafe fn unmask(context: *mut c_void, signal: FaultSignal) {
    // SAFETY: promised by the caller. Only what the kernel wrote is changed: 64 signals.
    unsafe {
        let mask = (&raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<u64>();
        mask.write(mask.read() & !signal.bit());
    }
}
