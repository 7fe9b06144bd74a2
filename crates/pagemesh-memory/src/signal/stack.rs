//! Calling a function on the stack of the interrupted code (`x86_64`).

use super::context::FaultContext;
use std::arch::naked_asm;
use std::ffi::c_void;
use std::mem::ManuallyDrop;

/// Bytes below its stack pointer that a function may use without moving it (System V ABI for x86-64, 3.2.2).
const RED_ZONE_BYTES: usize = 128;

/// The alignment of the stack at a call.
const ALIGNMENT: usize = 16;

/// Runs `work` on the stack that the interrupted code used, when the handler was put on the thread's alternate stack; else
/// where we are, which is that stack already.
///
/// While it runs, the kernel does not know that the alternate stack is in use: a signal that came now would overwrite this
/// handler's frame there. So every signal has to be masked, as it is in our handler, and `work` must not change that.
pub(super) fn on_own_stack<R, F: FnOnce() -> R>(context: &FaultContext, work: F) -> R {
    let here = 0_u8;
    let alternate = context.alternate_stack();
    let interrupted = context.stack_pointer();
    if !alternate.contains(&(&raw const here).addr()) || alternate.contains(&interrupted) {
        return work();
    }
    let top = (interrupted - RED_ZONE_BYTES) & !(ALIGNMENT - 1);
    let mut call = Call { work: ManuallyDrop::new(work), result: None };
    // SAFETY: `run` gets the value that it is made for, which outlives the call. Below the red zone of the interrupted code
    // its stack is free.
    unsafe { call_on(top, run::<F, R>, (&raw mut call).cast()) };
    call.result.expect("a call that has returned has a result")
}

struct Call<F, R> {
    work: ManuallyDrop<F>,
    result: Option<R>,
}

/// Runs a [`Call`]. A panic cannot leave it: the process is aborted.
extern "sysv64" fn run<F: FnOnce() -> R, R>(call: *mut c_void) {
    // SAFETY: given by `on_own_stack`, once.
    let call = unsafe { &mut *call.cast::<Call<F, R>>() };
    // SAFETY: taken once.
    let work = unsafe { ManuallyDrop::take(&mut call.work) };
    call.result = Some(work());
}

/// Calls `function` with `argument` while the stack pointer is `top`.
#[unsafe(naked)]
unsafe extern "sysv64" fn call_on(
    top: usize,
    function: extern "sysv64" fn(*mut c_void),
    argument: *mut c_void,
) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        "ret"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "sysv64" fn note_address(found: *mut c_void) {
        let here = 0_u8;
        // SAFETY: the test passes such a place.
        unsafe { *found.cast::<usize>() = (&raw const here).addr() };
    }

    #[test]
    fn a_function_runs_on_the_stack_that_it_is_given() {
        let mut stack = vec![0_u8; 64 << 10];
        let bounds = stack.as_mut_ptr_range();
        let top = bounds.end.addr() & !(ALIGNMENT - 1);
        let mut found = 0_usize;
        // SAFETY: the stack is large enough, and `found` is what the function expects.
        unsafe { call_on(top, note_address, (&raw mut found).cast()) };
        assert!((bounds.start.addr()..top).contains(&found));
    }
}
