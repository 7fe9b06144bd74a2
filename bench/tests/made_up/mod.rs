//! Reports that nobody measured.

#![allow(unreachable_pub, dead_code, reason = "each test file uses its part")]

use pagemesh_bench::{Baseline, Figure, Machine, Measured, Mode, Report, Run, SCHEMA, Statistics};

/// Rounds with these medians.
pub fn measured(medians: &[f64]) -> Measured {
    let of = |p50: f64| Statistics { samples: 100, min: p50 / 2.0, p50, p90: p50 * 2.0, p99: p50 * 3.0 };
    let mut sorted = medians.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Measured {
        all: of(sorted[(sorted.len() - 1) / 2]),
        rounds: medians.iter().map(|median| of(*median)).collect(),
    }
}

/// A figure with these medians in its rounds, and its baseline with those.
pub fn figure(name: &str, medians: &[f64], baseline: Option<&[f64]>) -> Figure {
    let baseline = baseline.map(|medians| Baseline { name: "raw".to_owned(), measured: measured(medians) });
    Figure {
        name: name.to_owned(),
        measured: measured(medians),
        baseline,
        target: None,
        bytes: None,
        left_out: 0,
    }
}

/// A report of one run with these figures.
pub fn report(figures: Vec<Figure>) -> Report {
    Report {
        schema: SCHEMA,
        pagemesh: "0.1.0".to_owned(),
        machine: Machine { processor: "made up".to_owned(), cores: 2, kernel: "6.18".to_owned() },
        runs: vec![Run {
            suite: "fault".to_owned(),
            mode: Mode::OneCore,
            nodes: 4,
            pager: "sigbus".to_owned(),
            transport: "TCP".to_owned(),
            load_before: 0.5,
            load_after: 0.5,
            figures,
            stages: Vec::new(),
        }],
    }
}
