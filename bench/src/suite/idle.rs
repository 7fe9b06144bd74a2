//! Processor time of a node that does nothing: it should have none.

use crate::ground::{Case, Ground};
use crate::report::Target;
use crate::samples::Samples;
use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// How long a node idles for each sample that a plan asks for, at most [`IDLE_MOST`].
const IDLE_EACH: Duration = Duration::from_millis(20);

/// How long it is worth watching a node do nothing.
const IDLE_MOST: Duration = Duration::from_secs(10);

/// What the start of the suite left to do is over when a while like this took next to no processor time; it is waited for so often at most.
const QUIET: Duration = Duration::from_millis(100);
const QUIET_MOST: Duration = Duration::from_micros(20);
const TRIES: u32 = 10;

/// A node that woke up once a second would need more.
const MOST_US: f64 = 100.0;

struct Idle<'a> {
    ground: &'a Ground,
}

/// The cases of the suite.
pub(super) fn cases(ground: &Ground) -> Vec<Box<dyn Case + '_>> {
    vec![Box::new(Idle { ground })]
}

impl Idle<'_> {
    fn time(&self) -> Duration {
        (IDLE_EACH * self.ground.plan.samples as u32).min(IDLE_MOST)
    }
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Processor time while this thread sleeps.
fn taken_in(time: Duration) -> Duration {
    let before = processor_time();
    std::thread::sleep(time);
    processor_time().saturating_sub(before)
}

impl Case for Idle<'_> {
    fn name(&self) -> String {
        format!("processor time of {:.1} s idle", self.time().as_secs_f64())
    }

    fn target(&self) -> Option<Target> {
        Some(Target::P50(MOST_US))
    }

    fn baseline(&self) -> Option<String> {
        None
    }

    fn measure(&self, _: usize) -> Result<Samples> {
        // Regions of the start are still being let go.
        let _ = (0..TRIES).find(|_| taken_in(QUIET) < QUIET_MOST);
        // What is measured is that this thread, and those of the mesh, have nothing to do.
        let mut samples = Samples::default();
        samples.add(taken_in(self.time()));
        Ok(samples)
    }

    fn accompany(&self, _: usize) -> Result<()> {
        // What this node does next is not to fall into the other's time.
        std::thread::sleep(self.time() + (TRIES + 1) * QUIET);
        Ok(())
    }
}
