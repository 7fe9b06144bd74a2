//! Plays random programs on this node, and records what they do.

use super::event::{Action, Event, Loss, LossKind, ThreadName, unique_value};
use super::program::{Program, Step, World};
use crate::clock::{nothing_since, now_ns, pause};
use anyhow::{Context as _, Result, anyhow, bail};
use pagemesh::{AccessError, Mesh, NodeId, Placement, Protocol, RegionOptions, SharedSlice, SyncError};
use rustix::process::{Signal, getpid, kill_process};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Steps between two barriers.
const PHASE_STEPS: usize = 60;

/// How long a node that is left waits to hear of the death of the one that is killed.
const DEPARTURE: Duration = Duration::from_secs(30);

/// What to play.
#[derive(Debug, Clone)]
pub struct HistoryRun {
    /// The protocols of the regions that the programs use. A release region is used without data races; with a node that is to be
    /// killed, not at all: what that node wrote last may be lost there, or in part.
    pub protocols: Vec<Protocol>,
    /// Threads of each node.
    pub threads: u16,
    /// How long.
    pub time: Duration,
    /// The most operations that a thread does, so that the records find room.
    pub operations: u32,
    /// Decides the programs.
    pub seed: u64,
    /// A node that kills itself in the middle. Then there are no barriers.
    pub kill: Option<u16>,
}

impl HistoryRun {
    /// The words that are used on `nodes` nodes.
    pub fn world(&self, nodes: usize) -> World {
        let released = self.used().filter(|protocol| *protocol == Protocol::Release).count();
        World { nodes, regions: self.used().count() - released, released }
    }

    /// The protocols of the regions in their order: those of release regions come last.
    fn used(&self) -> impl Iterator<Item = Protocol> {
        let is_release = |protocol: &&Protocol| **protocol == Protocol::Release;
        let others = self.protocols.iter().filter(move |protocol| !is_release(protocol));
        let released = self.protocols.iter().filter(is_release).filter(|_| self.kill.is_none());
        others.chain(released).copied()
    }
}

/// Plays this node's threads of `run`, and writes their records to `report`: at the end, or at once if this node is to be killed.
///
/// # Errors
/// When anything fails but what the death of the killed node explains, or `report` cannot be written.
pub fn play(mesh: &Mesh, run: &HistoryRun, report: impl Write + Send) -> Result<()> {
    let world = run.world(mesh.nodes());
    let mut words = Vec::new();
    for (number, protocol) in run.used().enumerate() {
        words.push(open(mesh, &format!("history {number}"), world.region_bytes(), protocol)?);
    }
    let first = run.used().next().context("a history needs a protocol")?;
    // A release region would not tell of a will that was never released.
    let will_protocol = if first == Protocol::Release { Protocol::WriteInvalidate } else { first };
    words.push(open(mesh, "history will", mesh.nodes() * 4096, will_protocol)?);
    let stop = open(mesh, "history stop", 4096, Protocol::WriteInvalidate)?;
    mesh.barrier(u64::MAX).wait()?;
    let stage = Stage { mesh, run, world, words, stop, end_ns: now_ns() + run.time.as_nanos() as u64 };
    let report = Mutex::new(report);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..run.threads)
            .map(|thread| {
                scope.spawn({
                    let (stage, report) = (&stage, &report);
                    move || stage.performer(thread, report).play()
                })
            })
            .collect();
        if run.kill.is_some() {
            stage.performer(run.threads, &report).meet_death()?;
        }
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    Ok(report.into_inner().unwrap_or_else(PoisonError::into_inner).flush()?)
}

fn open(mesh: &Mesh, name: &str, bytes: usize, protocol: Protocol) -> Result<SharedSlice<u64>> {
    let options = RegionOptions::new(bytes).protocol(protocol).placement(Placement::Cyclic);
    Ok(mesh.region(name, options)?.slice(0, bytes / 8)?)
}

/// What the threads of a node have in common.
struct Stage<'mesh> {
    mesh: &'mesh Mesh,
    run: &'mesh HistoryRun,
    world: World,
    words: Vec<SharedSlice<u64>>,
    /// Holds the number of the phase after which all end.
    stop: SharedSlice<u64>,
    end_ns: u64,
}

impl<'mesh> Stage<'mesh> {
    fn performer<'stage, W: Write>(
        &'stage self,
        thread: u16,
        report: &'stage Mutex<W>,
    ) -> Performer<'stage, 'mesh, W> {
        let by = ThreadName { node: self.mesh.node().index() as u16, thread };
        let at_once = self.run.kill == Some(by.node);
        Performer { stage: self, by, report, at_once, sequence: 0, events: Vec::new(), seen: BTreeMap::new() }
    }
}

/// One thread.
struct Performer<'stage, 'mesh, W> {
    stage: &'stage Stage<'mesh>,
    by: ThreadName,
    report: &'stage Mutex<W>,
    /// Records leave at once, since the end comes without warning.
    at_once: bool,
    sequence: u32,
    events: Vec<Event>,
    /// What this thread saw last in each word.
    seen: BTreeMap<u32, u64>,
}

/// What came of an operation.
type Tried = Result<Action, (Action, Loss)>;

impl<'stage, W: Write> Performer<'stage, '_, W> {
    fn play(mut self) -> Result<()> {
        let Stage { run, world, .. } = *self.stage;
        let mut program = Program::new(world, run.seed, self.by);
        for phase in 1.. {
            program.enter(phase);
            for _ in 0..PHASE_STEPS {
                let (step, fenced) = program.next_step();
                self.perform(step, fenced)?;
            }
            let enough = now_ns() >= self.stage.end_ns || self.sequence >= run.operations;
            if run.kill.is_some() {
                if enough {
                    break;
                }
            } else if self.ends_with(phase, enough)? {
                break;
            }
        }
        self.step_fence()?;
        self.finish()
    }

    /// Meets all threads at the end of a phase; whether it is the last one. The first thread of node 0 decides.
    fn ends_with(&mut self, phase: u32, enough: bool) -> Result<bool> {
        if enough && self.by == (ThreadName { node: 0, thread: 0 }) {
            self.stage.stop.set(0, phase.into())?;
        }
        let Stage { mesh, run, ref stop, .. } = *self.stage;
        let participants = mesh.nodes() as u32 * u32::from(run.threads);
        self.timed(true, |_, _| {
            let action = Action::Barrier { barrier: phase };
            mesh.barrier_of(1, participants).wait().map(|()| Ok(action)).map_err(Into::into)
        })?;
        // Who goes on may have written the next phase's number by now, never an earlier one.
        Ok(stop.get(0)? == u64::from(phase))
    }

    /// The thread that waits for the death: at the killed node, it brings it about in the middle of the run.
    fn meet_death(mut self) -> Result<()> {
        let Stage { mesh, run, world, .. } = *self.stage;
        if run.kill == Some(self.by.node) {
            let middle_ns = self.stage.end_ns - run.time.as_nanos() as u64 / 2;
            thread::sleep(Duration::from_nanos(middle_ns.saturating_sub(now_ns())));
            for home in 0..world.nodes {
                self.write(world.will(home), true)?;
            }
            kill_process(getpid(), Signal::KILL).context("this node cannot kill itself")?;
            loop {
                thread::park();
            }
        }
        let gone = mesh.wait_departure(DEPARTURE).context("nobody said that the killed node is gone")?;
        if run.kill != Some(gone.node.index() as u16) {
            bail!("node {} is gone, another was to be killed", gone.node);
        }
        for home in 0..world.nodes {
            self.read(world.will(home), true)?;
        }
        self.finish()
    }

    fn finish(self) -> Result<()> {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        for event in self.events {
            event.write(&mut *report)?;
        }
        Ok(())
    }

    fn perform(&mut self, step: Step, fenced: bool) -> Result<()> {
        match step {
            Step::Read(word) => self.read(word, fenced),
            Step::Write(word) => self.write(word, fenced),
            Step::Swap(word) => self.atomic(word, |words, at, value| {
                Ok(Action::Swap { word, found: words.swap(at, value)?, value })
            }),
            Step::CompareExchange(word) => {
                let expected = self.seen.get(&word).copied().unwrap_or(0);
                self.atomic(word, |words, at, value| {
                    let found = words.compare_exchange(at, expected, value)?.unwrap_or_else(|found| found);
                    Ok(Action::CompareExchange { word, expected, found, value })
                })
            }
            Step::Increment(word) => self
                .atomic(word, |words, at, _| Ok(Action::Increment { word, found: words.fetch_add(at, 1)? })),
            Step::Fence => self.step_fence(),
            Step::Locked(lock, accesses) => self.locked(lock, &accesses, fenced),
            Step::Pause(time_ns) => {
                pause(time_ns);
                Ok(())
            }
        }
    }

    fn read(&mut self, word: u32, fenced: bool) -> Result<()> {
        let (words, at) = self.place(word);
        self.timed(fenced, |_, zero| match words.get(at + zero) {
            Ok(value) => Ok(Ok(Action::Read { word, value })),
            Err(error) => blame(error, Action::Read { word, value: 0 }),
        })
    }

    fn write(&mut self, word: u32, fenced: bool) -> Result<()> {
        let (words, at) = self.place(word);
        self.timed(fenced, |value, zero| {
            let action = Action::Write { word, value };
            match words.set(at + zero, value) {
                Ok(()) => Ok(Ok(action)),
                Err(error) => blame(error, action),
            }
        })
    }

    fn atomic(
        &mut self,
        word: u32,
        access: impl FnOnce(&SharedSlice<u64>, usize, u64) -> Result<Action, AccessError>,
    ) -> Result<()> {
        let (words, at) = self.place(word);
        self.timed(true, |value, zero| match access(words, at + zero, value) {
            Ok(action) => Ok(Ok(action)),
            Err(error) => blame(error, Action::Swap { word, found: 0, value }),
        })
    }

    fn step_fence(&mut self) -> Result<()> {
        self.timed(true, |_, _| Ok(Ok(Action::Fence)))
    }

    fn locked(&mut self, lock: u32, accesses: &[(u32, bool)], fenced: bool) -> Result<()> {
        let mutex = self.stage.mesh.lock(lock.into());
        let mut guard = None;
        self.timed(true, |_, _| {
            let action = Action::Acquire { lock };
            let loss = |kind, node: NodeId| Ok(Err((action, Loss { kind, node: node.index() as u16 })));
            match mutex.acquire() {
                Ok(held) => {
                    guard = Some(held);
                    Ok(Ok(action))
                }
                Err(SyncError::OwnerDied { node, .. }) => loss(LossKind::Holder, node),
                Err(SyncError::PeerLost { node, .. }) => loss(LossKind::Peer, node),
                Err(error) => Err(error.into()),
            }
        })?;
        let Some(guard) = guard else { return Ok(()) };
        for (word, writes) in accesses {
            if *writes { self.write(*word, fenced)? } else { self.read(*word, fenced)? }
        }
        self.timed(true, |_, _| {
            drop(guard);
            Ok(Ok(Action::Release { lock }))
        })
    }

    fn place(&self, word: u32) -> (&'stage SharedSlice<u64>, usize) {
        let place = self.stage.world.place(word);
        (&self.stage.words[place.region], place.byte / 8)
    }

    /// Does an operation between two looks at the clock, and records it. The operation is given the value that is its own,
    /// and a 0 to add to its word's number, so that it is not done before the first look.
    fn timed(&mut self, settled: bool, operation: impl FnOnce(u64, usize) -> Result<Tried>) -> Result<()> {
        let value = unique_value(self.by, self.sequence);
        let call_ns = now_ns();
        let tried = operation(value, nothing_since(call_ns))?;
        if settled {
            fence(Ordering::SeqCst);
        }
        let return_ns = now_ns();
        let (action, loss) = match tried {
            Ok(action) => (action, None),
            Err((action, loss)) => (action, Some(loss)),
        };
        if let (Some(word), None) = (action.word(), loss)
            && let Some(value) = action.wrote().or(action.found())
        {
            self.seen.insert(word, value);
        }
        let event = Event { by: self.by, sequence: self.sequence, call_ns, return_ns, settled, action, loss };
        self.sequence += 1;
        if self.at_once {
            event.write(&mut *self.report.lock().unwrap_or_else(PoisonError::into_inner))?;
        } else {
            self.events.push(event);
        }
        Ok(())
    }
}

/// A failure that a node's death explains is part of the history; any other is none.
fn blame(error: AccessError, action: Action) -> Result<Tried> {
    let (kind, node) = match error {
        AccessError::PageLost { node, .. } => (LossKind::Page, node),
        AccessError::PeerLost { node, .. } => (LossKind::Peer, node),
        other => return Err(other.into()),
    };
    Ok(Err((action, Loss { kind, node: node.index() as u16 })))
}
