//! One clock for all processes of a machine.

use rustix::time::{ClockId, clock_gettime};
use std::thread;

/// How long a thread that waits for a time keeps the processor before it, in nanoseconds.
const SPIN_NS: u64 = 20_000;

/// `CLOCK_MONOTONIC` in nanoseconds: the same for every process of a machine, whichever processor it runs on (clock_gettime(2)).
/// What comes before is done before, as far as loads go; the kernel's code for it fences the counter (`rdtsc_ordered`).
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Lets others run until shortly before that time. Never sleeps: who sleeps wakes at another time than others do.
pub(crate) fn wait_until(time_ns: u64) {
    while now_ns() + SPIN_NS < time_ns {
        thread::yield_now();
    }
    while now_ns() < time_ns {
        std::hint::spin_loop();
    }
}

/// Keeps the processor busy for so long, and with it the order in which threads run.
pub(crate) fn pause(time_ns: u64) {
    let end = now_ns() + time_ns;
    while now_ns() < end {
        std::hint::spin_loop();
    }
}

/// 0, computed from a time. An access whose address it is part of cannot be done before that time was read: the kernel fences
/// the counter against what comes before only, and the processor would do a load early.
pub(crate) fn nothing_since(time_ns: u64) -> usize {
    usize::from(std::hint::black_box(time_ns) == 0)
}
