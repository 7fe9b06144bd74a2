//! Whole programs: on a mesh, beside as many processes on one plain mapping and beside their sequential versions.

use crate::ground::Ground;
use crate::plan::Plan as BenchPlan;
use crate::report::{Baseline, Figure, Measured};
use crate::samples::Samples;
use anyhow::{Context, Result};
use pagemesh::Protocol;
use pagemesh_demos::compute::measure::{self, Plan};
use pagemesh_demos::compute::plain::{self, PlainGround};
use pagemesh_demos::compute::report::{Memory, Row};
use pagemesh_demos::compute::{Kind, Scale, Workload};
use rustix::fd::OwnedFd;

/// With fewer samples asked for, the programs are small.
const SAMPLES_FOR_LARGE: usize = 100;

const PROTOCOLS: [Protocol; 2] = [Protocol::WriteInvalidate, Protocol::Release];

/// The plain memory of all nodes.
pub(crate) fn plain_memory(plan: &BenchPlan) -> Result<OwnedFd> {
    Ok(plain::file_for(&workloads(plan)?)?)
}

/// Measures all programs; node 0 has the figures.
pub(super) fn measure(ground: &Ground, plain: OwnedFd) -> Result<Vec<Figure>> {
    let plain = PlainGround::open(plain, ground.node().index(), ground.mesh.nodes())?;
    let plan = Plan { workloads: workloads(&ground.plan)?, protocols: PROTOCOLS.to_vec(), repeats: 1 };
    let mut rounds = Vec::new();
    for _ in 0..ground.plan.rounds {
        rounds.extend(measure::run(&ground.mesh, &plain, &plan)?.map(|report| report.rows));
    }
    if rounds.is_empty() {
        return Ok(Vec::new());
    }
    let mut figures = Vec::new();
    for kind in Kind::ALL {
        let beside = |memory, other| figure(&rounds, kind, memory, other);
        figures.push(beside(Memory::Plain, Memory::Private)?);
        for protocol in PROTOCOLS {
            figures.push(beside(Memory::Mesh(protocol), Memory::Plain)?);
        }
    }
    Ok(figures)
}

fn workloads(plan: &BenchPlan) -> Result<Vec<Workload>> {
    let is_large = plan.samples >= SAMPLES_FOR_LARGE;
    Kind::ALL.into_iter().map(|kind| workload(kind, is_large)).collect()
}

/// Sizes at which a round of all programs takes some seconds.
fn workload(kind: Kind, is_large: bool) -> Result<Workload> {
    let (size, rounds) = match kind {
        Kind::Jacobi => (Some(1024), Some(30)),
        Kind::Matrix => (Some(512), None),
        Kind::Salesman => (Some(13), None),
        Kind::Quicksort => (Some(1 << 20), None),
        Kind::Histogram => (Some(64), Some(2)),
        Kind::Fibonacci => (Some(1000), None),
    };
    Ok(if is_large {
        Workload::new(kind, Scale::Default, size, rounds, 1)?
    } else {
        Workload::new(kind, Scale::Small, None, None, 1)?
    })
}

fn figure(rounds: &[Vec<Row>], kind: Kind, memory: Memory, other: Memory) -> Result<Figure> {
    let of = |wanted: Memory| {
        let mut samples = Vec::new();
        for rows in rounds {
            let row = rows.iter().find(|row| row.program == kind && row.memory == wanted);
            let mut sample = Samples::default();
            sample.add(row.context("every program runs on every memory")?.elapsed);
            samples.push(sample);
        }
        Measured::from_rounds(&samples).context("every round has a time")
    };
    let called = |memory: Memory| match memory {
        Memory::Private => "the sequential program".to_owned(),
        Memory::Plain => "as many processes on one mapping".to_owned(),
        Memory::Mesh(_) => memory.to_string(),
    };
    Ok(Figure {
        name: format!("{kind}, {}", called(memory)),
        measured: of(memory)?,
        baseline: Some(Baseline { name: called(other), measured: of(other)? }),
        target: None,
        bytes: None,
        left_out: 0,
    })
}
