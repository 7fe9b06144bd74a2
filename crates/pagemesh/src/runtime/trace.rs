//! Where the time of a fault goes: time stamps on its way, when somebody asks for them.
//!
//! Off, each stage costs one load of a byte that nobody writes. On, it costs a look at the clock.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What happens to a fault on the faulting thread, in this order. What is not here is the kernel's: the trap, the signal, the return
/// from it, and the access that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Decide,
    Lead,
    Await,
    Grant,
    Rearm,
    Resume,
}

impl Stage {
    const COUNT: usize = 6;

    const ALL: [Stage; Stage::COUNT] =
        [Stage::Decide, Stage::Lead, Stage::Await, Stage::Grant, Stage::Rearm, Stage::Resume];

    const fn name(self) -> &'static str {
        match self {
            Stage::Decide => "find the page, ask the engine, queue the request",
            Stage::Lead => "stand the service thread down",
            Stage::Await => "send, wait, receive",
            Stage::Grant => "handle what came: fill the page, grant it",
            Stage::Rearm => "arm the service thread, or unmute the socket",
            Stage::Resume => "let the page go again",
        }
    }
}

/// Where the time of one fault went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultTrace {
    /// What was done, in this order, and how long it took.
    pub stages: [(&'static str, Duration); Stage::COUNT],
}

const OFF: u8 = 0;
const ON: u8 = 1;
/// On, and a fault is under way.
const UNDER_WAY: u8 = 2;

/// The recorder. It knows one fault at a time: where several threads fault at once, their stages are mixed.
#[derive(Debug)]
pub(crate) struct Tracing {
    state: AtomicU8,
    started: Instant,
    /// When the last stage ended, nanoseconds since `started`.
    last: AtomicU64,
    nanos: [AtomicU64; Stage::COUNT],
}

impl Default for Tracing {
    fn default() -> Tracing {
        let nanos = [const { AtomicU64::new(0) }; Stage::COUNT];
        Tracing { state: AtomicU8::new(OFF), started: Instant::now(), last: AtomicU64::new(0), nanos }
    }
}

impl Tracing {
    pub(crate) fn switch(&self, on: bool) {
        self.state.store(if on { ON } else { OFF }, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// A fault begins.
    pub(crate) fn begin(&self) {
        if self.state.load(Ordering::Relaxed) == ON {
            for stage in &self.nanos {
                stage.store(0, Ordering::Relaxed);
            }
            self.last.store(self.now(), Ordering::Relaxed);
            self.state.store(UNDER_WAY, Ordering::Relaxed);
        }
    }

    /// This stage of it is over. A stage may come several times.
    pub(crate) fn mark(&self, stage: Stage) {
        if self.state.load(Ordering::Relaxed) == UNDER_WAY {
            let now = self.now();
            let before = self.last.swap(now, Ordering::Relaxed);
            self.nanos[stage as usize].fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        }
    }

    /// It is resolved, or failed.
    pub(crate) fn end(&self) {
        // Switched off meanwhile, it stays off.
        let _ = self.state.compare_exchange(UNDER_WAY, ON, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Of the last fault that was traced; all zero before the first.
    pub(crate) fn last_fault(&self) -> FaultTrace {
        let took = |stage: Stage| {
            let nanos = self.nanos[stage as usize].load(Ordering::Relaxed);
            (stage.name(), Duration::from_nanos(nanos))
        };
        FaultTrace { stages: Stage::ALL.map(took) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(tracing: &Tracing) -> Duration {
        tracing.last_fault().stages.iter().map(|(_, took)| *took).sum()
    }

    #[test]
    fn nothing_is_recorded_unless_asked_for_nor_outside_of_a_fault() {
        let tracing = Tracing::default();
        tracing.begin();
        tracing.mark(Stage::Grant);
        tracing.end();
        tracing.switch(true);
        tracing.mark(Stage::Grant);
        assert_eq!(total(&tracing), Duration::ZERO);
    }

    #[test]
    fn the_stages_of_the_last_fault_are_told() {
        let tracing = Tracing::default();
        tracing.switch(true);
        for stages in [&[Stage::Decide, Stage::Await][..], &[Stage::Grant]] {
            tracing.begin();
            for stage in stages {
                let began = Instant::now();
                while began.elapsed() < Duration::from_micros(1) {}
                tracing.mark(*stage);
            }
            tracing.end();
        }
        let trace = tracing.last_fault();
        let of = |stage: Stage| trace.stages[stage as usize].1;
        assert!(of(Stage::Grant) >= Duration::from_micros(1));
        assert_eq!(of(Stage::Grant), total(&tracing), "stages of an earlier fault are not there");
    }
}
