//! Runs many seeds, on one core or several, tells how far it is, and stops at the first seed that fails.

use anyhow::Context;
use pagemesh_sim::{Config, Failed, Options, Tally, run_config};
use std::fmt::Write as _;
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

/// A seed that takes so long is named: the bound on steps does not see an engine that never returns.
const LONG: Duration = Duration::from_secs(10);

/// How far the workers are.
#[derive(Debug)]
struct Progress {
    began: Instant,
    /// For each worker its seed's number, and when it took it, milliseconds after the beginning.
    running: Vec<(AtomicU64, AtomicU64)>,
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
        let progress = Progress {
            began: Instant::now(),
            running: (0..self.jobs).map(|_| (AtomicU64::new(0), AtomicU64::new(u64::MAX))).collect(),
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            for worker in 0..self.jobs {
                let (sender, progress) = (sender.clone(), &progress);
                scope.spawn(move || {
                    // The receiver waits for every worker.
                    let _ = sender.send(self.work(worker, progress));
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
                    Err(RecvTimeoutError::Timeout) => self.tell(&progress, terminal)?,
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
    fn work(self, worker: usize, progress: &Progress) -> Findings {
        let mut tally = Tally::default();
        while !progress.failed.load(Ordering::Relaxed) {
            let number = progress.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                break;
            }
            let (running, since) = &progress.running[worker];
            running.store(number, Ordering::Relaxed);
            since.store(progress.began.elapsed().as_millis() as u64, Ordering::Relaxed);
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
        progress.running[worker].1.store(u64::MAX, Ordering::Relaxed);
        (tally, None)
    }

    fn tell(self, progress: &Progress, terminal: bool) -> anyhow::Result<()> {
        let done = progress.done.load(Ordering::Relaxed);
        let steps = progress.steps.load(Ordering::Relaxed);
        let rate = done as f64 / progress.began.elapsed().as_secs_f64();
        let left = (self.count - done) as f64 / rate.max(f64::MIN_POSITIVE);
        let left = if done == 0 { "?".to_owned() } else { format!("{left:.0}") };
        let mut line =
            format!("{done} of {} seeds, {steps} steps, {rate:.0} seeds/s, {left} s left", self.count);
        let now = progress.began.elapsed().as_millis() as u64;
        for (number, since) in &progress.running {
            let span = Duration::from_millis(now.saturating_sub(since.load(Ordering::Relaxed)));
            if span > LONG {
                let seed = self.start.wrapping_add(number.load(Ordering::Relaxed));
                let _ = write!(line, "; seed {seed} has been running for {} s", span.as_secs());
            }
        }
        let mut err = std::io::stderr();
        if terminal { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") }
            .and_then(|()| err.flush())
            .context("tell how far it is")
    }
}
