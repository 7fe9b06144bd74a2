//! Plays the threads of litmus tests on this node.

use crate::clock::{now_ns, pause, wait_until};
use crate::plan::{LitmusRun, RoundPlan, region_pages};
use crate::program::{Instruction, Litmus, Outcome};
use crate::random::Random;
use crate::results::{Part, Record};
use anyhow::Result;
use pagemesh::{Mesh, Placement, Protocol, RegionOptions, SharedSlice};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::thread;

/// The longest pause is 2 to this power, in microseconds: about the time that a page needs to come.
const PAUSE_POWERS: usize = 6;

/// Instances that the threads of a round in step play before they wait for each other's time.
const STEP_INSTANCES: usize = 8;

/// How often a thread looks for others of its node before it goes on without them: some microseconds.
const COMPANY_LOOKS: usize = 300;

/// The first step begins at a multiple of this, in nanoseconds; leaving a barrier together takes less.
const STEP_START_NS: u64 = 1_000_000;

/// Plays this node's part of `run`, and writes what its threads observed to `results`.
///
/// What was observed stays with the thread until its round is over, and does not travel through the memory that is tested.
///
/// # Errors
/// When the mesh cannot share memory, a node is lost, or `results` cannot be written.
pub fn play(mesh: &Mesh, run: &LitmusRun, results: &mut impl Write) -> Result<()> {
    for (protocol_number, protocol) in run.protocols.iter().enumerate() {
        let words = open(mesh, protocol_number, *protocol)?;
        let mut stage = Stage { mesh, words, round: 0 };
        for (test_number, test) in run.tests.iter().enumerate() {
            for round in 0..run.rounds().len() {
                let plan = run.round(protocol_number, test_number, round, mesh.nodes());
                let at = [protocol_number as u32, test_number as u32, round as u32];
                for (part, values) in stage.play(test, &plan)? {
                    Record { at, part, values }.write(results)?;
                }
            }
        }
    }
    results.flush()?;
    Ok(())
}

fn open(mesh: &Mesh, number: usize, protocol: Protocol) -> Result<SharedSlice<u64>> {
    let bytes = region_pages(mesh.nodes()) * 4096;
    let options = RegionOptions::new(bytes).protocol(protocol).placement(Placement::Cyclic);
    let region = mesh.region(&format!("litmus {number}"), options)?;
    Ok(region.slice(0, bytes / 8)?)
}

/// Barriers of a round.
#[derive(Clone, Copy)]
enum Turn {
    /// The round before was judged.
    Over = 1,
    /// The variables are 0.
    Zero = 2,
    /// Who was to have copies has them.
    Copied = 3,
    /// The threads are ready.
    Start = 4,
    /// The threads are done.
    Done = 5,
}

/// The threads of one node in a round. They can see each other's progress, which those of other nodes cannot.
struct Company {
    threads: usize,
    arrived: AtomicUsize,
}

impl Company {
    fn new(threads: usize) -> Company {
        Company { threads, arrived: AtomicUsize::new(0) }
    }

    /// Comes to instance number `turn`, and waits a moment for the others: where each has a processor, they go on within
    /// some ten nanoseconds of each other.
    fn wait(&self, turn: usize) {
        let all = (turn + 1) * self.threads;
        let mut arrived = self.arrived.fetch_add(1, Ordering::Relaxed) + 1;
        for _ in 0..COMPANY_LOOKS {
            if arrived >= all {
                break;
            }
            std::hint::spin_loop();
            arrived = self.arrived.load(Ordering::Relaxed);
        }
    }
}

/// Where the threads meet.
struct Stage<'mesh> {
    mesh: &'mesh Mesh,
    words: SharedSlice<u64>,
    /// Rounds played on these words.
    round: u64,
}

impl Stage<'_> {
    fn turn(&self, turn: Turn) -> Result<()> {
        Ok(self.mesh.barrier(turn as u64).wait()?)
    }

    /// What stands for `value` in memory in this round: no other round's values look like this one's.
    fn stored(&self, value: u8) -> u64 {
        self.round << 8 | u64::from(value)
    }

    /// The value that a word of memory stands for.
    fn value(&self, word: u64) -> u8 {
        if word >> 8 == self.round { word as u8 } else { Outcome::FOREIGN }
    }

    /// Plays a round, and returns the values that this node is to report.
    fn play(&mut self, test: &Litmus, plan: &RoundPlan) -> Result<Vec<(Part, Vec<u8>)>> {
        self.round += 1;
        let (here, variables) = (self.mesh.node().index(), test.variables());
        let each_word = || {
            (0..plan.order.len()).flat_map(|instance| (0..variables).map(move |var| plan.word(instance, var)))
        };
        self.turn(Turn::Over)?;
        if plan.initialiser == here {
            for word in each_word() {
                self.words.set(word, self.stored(0))?;
            }
        }
        self.turn(Turn::Zero)?;
        if plan.readers[here] {
            for word in each_word() {
                self.words.get(word)?;
            }
        }
        self.turn(Turn::Copied)?;
        let mut found = self.run_threads(test, plan)?;
        self.turn(Turn::Done)?;
        if plan.judge == here {
            let end: Result<Vec<u8>> =
                each_word().map(|word| Ok(self.value(self.words.get(word)?))).collect();
            found.push((Part::End, end?));
        }
        Ok(found)
    }

    /// Runs those threads that have their place here.
    fn run_threads(&self, test: &Litmus, plan: &RoundPlan) -> Result<Vec<(Part, Vec<u8>)>> {
        let here = self.mesh.node().index();
        let mine = plan.places.iter().enumerate().filter(|(_, place)| **place == here);
        let company = &Company::new(mine.clone().count());
        thread::scope(|scope| {
            let threads: Vec<_> = mine
                .map(|(thread, _)| {
                    (thread, scope.spawn(move || self.run_thread(test, plan, thread, company)))
                })
                .collect();
            let joined = threads.into_iter().map(|(thread, running)| {
                let observed = running.join().expect("a playing thread does not panic")?;
                Ok((Part::Thread(thread as u32), observed))
            });
            joined.collect()
        })
    }

    /// Plays one thread of all instances; returns what it observed, by instance.
    fn run_thread(
        &self,
        test: &Litmus,
        plan: &RoundPlan,
        thread: usize,
        company: &Company,
    ) -> Result<Vec<u8>> {
        let mut random = Random::part(plan.seed, &[thread as u64]);
        let program = &test.threads[thread];
        let each = test.observations(thread);
        let mut observed = vec![0; each * plan.order.len()];
        self.mesh.barrier_of(Turn::Start as u64, test.threads.len() as u32).wait()?;
        // All threads compute the same time, or a round is played without being in step.
        let begin_ns = (now_ns() + STEP_START_NS / 2).next_multiple_of(STEP_START_NS);
        for (turn, instance) in plan.order.iter().map(|instance| *instance as usize).enumerate() {
            if let Some(step_ns) = plan.step_ns.filter(|_| turn.is_multiple_of(STEP_INSTANCES)) {
                wait_until(begin_ns + (turn / STEP_INSTANCES) as u64 * step_ns);
            }
            if plan.together {
                company.wait(turn);
            }
            let mut register = instance * each;
            for instruction in program {
                if random.once_in(plan.pauses) {
                    let most = 1 << random.below(PAUSE_POWERS);
                    pause(1 + random.below(most * 1000) as u64);
                }
                if let Some(found) = self.perform(plan, instance, *instruction)? {
                    observed[register] = self.value(found);
                    register += 1;
                }
            }
        }
        Ok(observed)
    }

    fn perform(&self, plan: &RoundPlan, instance: usize, instruction: Instruction) -> Result<Option<u64>> {
        let word = |variable| plan.word(instance, variable);
        Ok(match instruction {
            Instruction::Load(variable) => Some(self.words.get(word(variable))?),
            Instruction::Store(variable, value) => {
                self.words.set(word(variable), self.stored(value))?;
                None
            }
            Instruction::Swap(variable, value) => Some(self.words.swap(word(variable), self.stored(value))?),
            Instruction::FetchAdd(variable, value) => {
                Some(self.words.fetch_add(word(variable), value.into())?)
            }
            Instruction::Fence => {
                fence(Ordering::SeqCst);
                None
            }
        })
    }
}
