//! Runs many seeds, on one core or several, tells how far it is, and stops at the first seed that fails.

use anyhow::Context;
use pagemesh_sim::{Config, Failed, Options, Tally, run_config};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often a line that overwrites itself is renewed, and how often one is added where it cannot.
const TERMINAL_PERIOD: Duration = Duration::from_millis(200);
const LOG_PERIOD: Duration = Duration::from_secs(5);

/// Seeds to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Campaign {
    pub(crate) start: u64,
    pub(crate) count: u64,
    pub(crate) jobs: usize,
    pub(crate) options: Options,
}

/// How far the workers are.
#[derive(Debug, Default)]
struct Progress {
    next: AtomicU64,
    done: AtomicU64,
    steps: AtomicU64,
    failed: AtomicBool,
}

/// What one worker found.
type Findings = (Tally, Option<Box<Failed>>);

impl Campaign {
    /// What the seeds had, and the first of them that failed.
    pub(crate) fn run(self) -> anyhow::Result<Findings> {
        let began = Instant::now();
        let progress = Progress::default();
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            for _ in 0..self.jobs {
                let (sender, progress) = (sender.clone(), &progress);
                scope.spawn(move || {
                    // The receiver waits for every worker.
                    let _ = sender.send(self.work(progress));
                });
            }
            drop(sender);
            let terminal = std::io::stderr().is_terminal();
            let period = if terminal { TERMINAL_PERIOD } else { LOG_PERIOD };
            let (mut tally, mut first): Findings = (Tally::default(), None);
            loop {
                match receiver.recv_timeout(period) {
                    Ok((part, failed)) => {
                        tally.merge(&part);
                        let earlier = |failed: &Failed, first: &Option<Box<Failed>>| {
                            let number = |seed: u64| seed.wrapping_sub(self.start);
                            first.as_ref().is_none_or(|f| number(failed.config.seed) < number(f.config.seed))
                        };
                        if let Some(failed) = failed.filter(|failed| earlier(failed, &first)) {
                            first = Some(failed);
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => self.tell(&progress, began, terminal)?,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            if terminal {
                write!(std::io::stderr(), "\r\x1b[K").context("clear the progress line")?;
            }
            Ok((tally, first))
        })
    }

    /// Takes one seed after another. All seeds before one that fails have been taken when it was, so the first is found.
    fn work(self, progress: &Progress) -> Findings {
        let mut tally = Tally::default();
        while !progress.failed.load(Ordering::Relaxed) {
            let number = progress.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                break;
            }
            let config = Config::draw(self.start.wrapping_add(number));
            match run_config(&config, self.options) {
                Ok(report) => {
                    tally.add(&config, &report.counts);
                    progress.steps.fetch_add(report.counts.steps, Ordering::Relaxed);
                    progress.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(failed) => {
                    progress.failed.store(true, Ordering::Relaxed);
                    return (tally, Some(failed));
                }
            }
        }
        (tally, None)
    }

    fn tell(self, progress: &Progress, began: Instant, terminal: bool) -> anyhow::Result<()> {
        let done = progress.done.load(Ordering::Relaxed);
        let steps = progress.steps.load(Ordering::Relaxed);
        let rate = done as f64 / began.elapsed().as_secs_f64();
        let left = (self.count - done) as f64 / rate.max(f64::MIN_POSITIVE);
        let left = if done == 0 { "?".to_owned() } else { format!("{left:.0}") };
        let line = format!("{done} of {} seeds, {steps} steps, {rate:.0} seeds/s, {left} s left", self.count);
        let mut err = std::io::stderr();
        if terminal { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") }
            .and_then(|()| err.flush())
            .context("tell how far it is")
    }
}
