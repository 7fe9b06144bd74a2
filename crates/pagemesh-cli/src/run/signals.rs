//! Which signals end or stop a run, and their names.

use std::fs;

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

/// The signals that the launcher passes on to its nodes.
///
/// A SIGHUP or SIGTSTP that was ignored when the launcher started stays ignored, as `nohup(1)` wants it.
pub(super) fn watched() -> Vec<i32> {
    let ignored = ignored_mask();
    let keeps = |signal: &i32| !matches!(*signal, SIGHUP | SIGTSTP) || ignored & (1 << (*signal - 1)) == 0;
    [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP].into_iter().filter(keeps).collect()
}

/// The set of signals this process ignores: field `SigIgn` of proc_pid_status(5), bit 0 for signal 1.
fn ignored_mask() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    field.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether a repetition of this signal means "now": what a person types again when the first one does not work.
pub(super) fn is_impatient(signal: i32) -> bool {
    matches!(signal, SIGINT | SIGQUIT)
}

/// The signal as rustix wants it; only for the signals of [`watched`].
pub(super) fn named(signal: i32) -> Signal {
    Signal::from_named_raw(signal).unwrap_or(Signal::TERM)
}

/// The exit code that tells of this signal.
pub(super) fn code(signal: i32) -> u8 {
    128_u8.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX))
}

/// `signal 9 (SIGKILL)`, or `signal 35` for one without a name.
pub(super) fn describe(signal: i32) -> String {
    match signal_hook::low_level::signal_name(signal) {
        Some(name) => format!("signal {signal} ({name})"),
        None => format!("signal {signal}"),
    }
}
