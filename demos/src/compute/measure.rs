//! Runs programs sequentially, on plain memory and on a mesh, in turn, and checks every answer. The nodes of the mesh are the processes on
//! plain memory as well: it makes no difference to them but what memory they use.

use std::time::{Duration, Instant};

use pagemesh::{Mesh, Protocol, RegionOptions, SharedSlice};

use super::plain::PlainGround;
use super::report::{Memory, Report, Row};
use super::team::{Cost, Team, TeamError, Work};
use super::workload::{Kind, Workload};
use super::{Fibonacci, Histogram, Jacobi, Matrix, Program, Quicksort, Salesman};

const WORK_WORDS: usize = 4;

/// What to measure. All nodes must have the same.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The programs, one after the other.
    pub workloads: Vec<Workload>,
    /// Each under these.
    pub protocols: Vec<Protocol>,
    /// How often; medians are reported.
    pub repeats: usize,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// An answer is not that of the sequential program.
    #[error("{program} on {memory} has a wrong answer: {what}")]
    WrongAnswer {
        /// The program.
        program: Kind,
        /// Where it ran.
        memory: Memory,
        /// What is wrong.
        what: String,
    },
    /// Shared memory failed.
    #[error("{program} on {memory} came to no end")]
    Failed {
        /// The program.
        program: Kind,
        /// Where it ran.
        memory: Memory,
        /// What failed.
        source: TeamError,
    },
    /// The nodes could not tell each other what they did.
    #[error("the nodes cannot exchange what they counted")]
    Exchange(#[source] TeamError),
}

/// Does this node's part of everything in `plan`, in which every node of `mesh` must take part, as must the members of `plain`, which
/// are the same, with the same numbers. Returns the report on node 0, and `None` elsewhere.
///
/// # Errors
/// A wrong answer (on node 0 only; the others end well), or failing shared memory.
pub fn run(mesh: &Mesh, plain: &PlainGround, plan: &Plan) -> Result<Option<Report>, MeasureError> {
    let exchange = Exchange::new(mesh).map_err(MeasureError::Exchange)?;
    let mut rows = Vec::new();
    for workload in &plan.workloads {
        let (size, rounds, seed) = (workload.size(), workload.rounds(), workload.seed());
        let bench = Bench { mesh, plain, exchange: &exchange, plan, kind: workload.kind() };
        let more = match workload.kind() {
            Kind::Jacobi => bench.run(&Jacobi { side: size, sweeps: rounds })?,
            Kind::Matrix => bench.run(&Matrix { side: size })?,
            Kind::Salesman => bench.run(&Salesman { cities: size, seed })?,
            Kind::Quicksort => bench.run(&Quicksort { items: size, seed })?,
            Kind::Histogram => bench.run(&Histogram { pages: size, rounds, seed, members: mesh.nodes() })?,
            Kind::Fibonacci => bench.run(&Fibonacci { numbers: size })?,
        };
        let Some(more) = more else { return Ok(None) };
        rows.extend(more);
    }
    let is_first = mesh.node().index() == 0;
    Ok(is_first.then(|| Report { workloads: plan.workloads.clone(), nodes: mesh.nodes(), rows }))
}

/// How the nodes tell each other what they did, and node 0 whether to go on.
struct Exchange<'a> {
    mesh: &'a Mesh,
    words: SharedSlice<u64>,
}

impl<'a> Exchange<'a> {
    fn new(mesh: &'a Mesh) -> Result<Self, TeamError> {
        let len = 1 + mesh.nodes() * WORK_WORDS;
        let words = mesh.region("what the nodes did", RegionOptions::new(len * 8))?.slice(0, len)?;
        Ok(Self { mesh, words })
    }

    fn barrier(&self) -> Result<(), TeamError> {
        Ok(self.mesh.barrier(0).wait()?)
    }

    /// Whether node 0 wants to go on.
    fn goes_on(&self, is_well: bool) -> Result<bool, TeamError> {
        if self.mesh.node().index() == 0 {
            self.words.set(0, u64::from(!is_well))?;
        }
        self.barrier()?;
        Ok(self.words.get(0)? == 0)
    }

    /// The sum of what all nodes did.
    fn sum(&self, work: Work) -> Result<Work, TeamError> {
        let place = |node| 1 + node * WORK_WORDS;
        self.words.write(place(self.mesh.node().index()), &work.words())?;
        self.barrier()?;
        let mut sum = Work::default();
        for node in 0..self.mesh.nodes() {
            let mut words = [0; WORK_WORDS];
            self.words.read(place(node), &mut words)?;
            sum = sum.plus(words);
        }
        // What comes next writes there.
        self.barrier()?;
        Ok(sum)
    }
}

/// The runs of one program.
struct Bench<'a> {
    mesh: &'a Mesh,
    plain: &'a PlainGround,
    exchange: &'a Exchange<'a>,
    plan: &'a Plan,
    kind: Kind,
}

/// What the runs of one program took, on each memory.
struct Samples(Vec<(Memory, Vec<(Duration, Work)>)>);

impl Samples {
    fn add(&mut self, memory: Memory, elapsed: Duration, work: Work) {
        let known = self.0.iter_mut().find(|(other, _)| *other == memory);
        match known {
            Some((_, samples)) => samples.push((elapsed, work)),
            None => self.0.push((memory, vec![(elapsed, work)])),
        }
    }

    fn rows(self, program: Kind) -> Vec<Row> {
        let median = |mut samples: Vec<(Duration, Work)>| {
            samples.sort_by_key(|(elapsed, _)| *elapsed);
            samples[(samples.len() - 1) / 2]
        };
        self.0
            .into_iter()
            .map(|(memory, samples)| {
                let (elapsed, work) = median(samples);
                Row { program, memory, elapsed, work }
            })
            .collect()
    }
}

impl Bench<'_> {
    fn failed(&self, memory: Memory) -> impl FnOnce(TeamError) -> MeasureError {
        let program = self.kind;
        move |source| MeasureError::Failed { program, memory, source }
    }

    fn check<P: Program>(
        &self,
        program: &P,
        memory: Memory,
        reference: &P::Answer,
        found: &P::Answer,
    ) -> Result<(), MeasureError> {
        let wrong = |what| MeasureError::WrongAnswer { program: self.kind, memory, what };
        program.check(reference, found).map_err(wrong)
    }

    /// Runs everything in turn. Node 0 has rows; the others none, and `None` when node 0 wants no more.
    fn run<P: Program>(&self, program: &P) -> Result<Option<Vec<Row>>, MeasureError> {
        let is_first = self.mesh.node().index() == 0;
        let mut samples = Samples(Vec::new());
        let mut outcome = Ok(());
        let mut reference = None;
        for _ in 0..self.plan.repeats {
            if is_first {
                let answer = alone(program, &mut samples);
                reference.get_or_insert(answer);
            }
            let meshes = self.plan.protocols.iter().copied().map(Memory::Mesh);
            for memory in std::iter::once(Memory::Plain).chain(meshes) {
                if !self.exchange.goes_on(outcome.is_ok()).map_err(MeasureError::Exchange)? {
                    return outcome.map(|()| None);
                }
                let (answer, elapsed, work) = match memory {
                    Memory::Mesh(protocol) => self.on_mesh(program, protocol)?,
                    _ => self.on_plain_memory(program)?,
                };
                samples.add(memory, elapsed, work);
                if let (Some(reference), Some(answer)) = (&reference, &answer) {
                    outcome = self.check(program, memory, reference, answer);
                }
            }
        }
        if !self.exchange.goes_on(outcome.is_ok()).map_err(MeasureError::Exchange)? {
            return outcome.map(|()| None);
        }
        Ok(Some(if is_first { samples.rows(self.kind) } else { Vec::new() }))
    }

    fn on_mesh<P: Program>(&self, program: &P, protocol: Protocol) -> Result<Outcome<P>, MeasureError> {
        let team = Team::of_nodes(self.mesh, self.kind.name(), protocol);
        let (answer, cost) = program.take_part(&team).map_err(self.failed(Memory::Mesh(protocol)))?;
        let work = self.exchange.sum(cost.stats).map_err(MeasureError::Exchange)?;
        Ok((answer, cost.elapsed, work))
    }

    fn on_plain_memory<P: Program>(&self, program: &P) -> Result<Outcome<P>, MeasureError> {
        let played = program.take_part(&Team::on_plain_memory(self.mesh, self.plain));
        let played = played.and_then(|(answer, Cost { elapsed, .. })| {
            // Whoever is here has ended the timed part, and so have the others; only the first has read after that.
            self.plain.clear()?;
            Ok((answer, elapsed, Work::default()))
        });
        played.map_err(|error| {
            self.plain.fail();
            self.failed(Memory::Plain)(error)
        })
    }
}

/// An answer on the first node, how long it took, and what all did.
type Outcome<P> = (Option<<P as Program>::Answer>, Duration, Work);

/// What node 0 runs while the others wait: the sequential program.
fn alone<P: Program>(program: &P, samples: &mut Samples) -> P::Answer {
    let prepared = program.prepare();
    let started = Instant::now();
    let answer = program.sequential(prepared);
    samples.add(Memory::Private, started.elapsed(), Work::default());
    answer
}

#[cfg(test)]
mod tests {
    use pagemesh::Config;

    use super::super::Scale;
    use super::super::plain::file_for;
    use super::*;

    fn small(kind: Kind) -> Workload {
        Workload::new(kind, Scale::Small, None, None, 1).unwrap()
    }

    fn plain(workloads: &[Workload]) -> PlainGround {
        PlainGround::open(file_for(workloads).unwrap(), 0, 1).unwrap()
    }

    #[test]
    fn a_mesh_of_one_measures_every_program() {
        let protocols = vec![Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release];
        let plan = Plan { workloads: Kind::ALL.map(small).to_vec(), protocols, repeats: 2 };
        let mesh = Mesh::join(Config::single()).unwrap();
        // Plain memory has room for the largest, and for no more.
        let report = run(&mesh, &plain(&plan.workloads), &plan).unwrap().unwrap();
        mesh.leave().unwrap();
        assert_eq!(report.rows.len(), Kind::ALL.len() * 5);
    }

    /// A program that is wrong somewhere.
    struct Wrong {
        is_wrong_on_a_mesh: bool,
    }

    impl Program for Wrong {
        type Answer = u64;
        type Prepared = ();

        fn prepare(&self) {}

        fn sequential(&self, (): ()) -> u64 {
            1
        }

        fn take_part(&self, team: &Team<'_>) -> Result<(Option<u64>, Cost), TeamError> {
            let cost = team.start_clock()?.stop()?;
            let is_mesh = format!("{team:?}").contains("protocol");
            Ok((Some(if is_mesh == self.is_wrong_on_a_mesh { 2 } else { 1 }), cost))
        }

        fn check(&self, reference: &u64, found: &u64) -> Result<(), String> {
            if reference == found { Ok(()) } else { Err(format!("{found}, not {reference}")) }
        }
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        let mesh = Mesh::join(Config::single()).unwrap();
        let exchange = Exchange::new(&mesh).unwrap();
        let plan = Plan { workloads: Vec::new(), protocols: vec![Protocol::Release], repeats: 1 };
        let plain = plain(&[]);
        let bench =
            Bench { mesh: &mesh, plain: &plain, exchange: &exchange, plan: &plan, kind: Kind::Matrix };
        for (is_wrong_on_a_mesh, memory) in [(true, "release"), (false, "plain")] {
            let error = bench.run(&Wrong { is_wrong_on_a_mesh }).unwrap_err();
            assert_eq!(error.to_string(), format!("matrix on {memory} has a wrong answer: 2, not 1"));
        }
        mesh.leave().unwrap();
    }
}
