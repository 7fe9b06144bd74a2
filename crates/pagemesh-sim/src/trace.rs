//! What happened in a run, one line an event.

use std::collections::VecDeque;

/// How much of a run is written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TraceMode {
    /// Nothing: fastest. A failing seed is run again with a trace.
    #[default]
    Off,
    /// The last so many lines.
    Tail(usize),
    /// Everything.
    Full,
}

/// The lines of a run.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    mode: TraceMode,
    lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(mode: TraceMode) -> Trace {
        Trace { mode, lines: VecDeque::new() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.mode != TraceMode::Off
    }

    /// Adds the line that `line` makes, which is called only when someone wants it.
    pub(crate) fn line(&mut self, line: impl FnOnce() -> String) {
        if !self.is_on() {
            return;
        }
        self.lines.push_back(line());
        if matches!(self.mode, TraceMode::Tail(count) if self.lines.len() > count) {
            self.lines.pop_front();
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
