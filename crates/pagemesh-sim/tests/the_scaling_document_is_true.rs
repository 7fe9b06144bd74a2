//! Numbers in a document are believed long after they have ceased to be true. docs/scaling.md tells what a mesh of many nodes
//! costs, so its tables and its drawing are made anew here and compared.

use pagemesh_protocol::{Protocol, limits};
use pagemesh_sim::scale::{self, Sample, Workload};
use std::fs;
use std::path::PathBuf;

fn document(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_tables_and_the_drawing_are_what_the_command_makes() {
    let lines = scale::measure(1024);
    let again = "make it anew: cargo run --release -p pagemesh-sim --bin pagemesh-scale -- --docs docs";
    let found = document("scaling.md");
    let made = scale::with_tables(&found, &lines).expect("docs/scaling.md has marks around its tables");
    for (found, made) in found.lines().zip(made.lines()) {
        assert_eq!(found, made, "docs/scaling.md; {again}");
    }
    assert!(found == made, "docs/scaling.md; {again}");
    assert!(document("scaling.svg") == scale::plot(&lines), "docs/scaling.svg; {again}");
    bounds_hold(&lines);
}

/// What the text says does not grow.
fn bounds_hold(lines: &[Vec<Sample>]) {
    for sample in lines.iter().flatten() {
        if sample.protocol == Some(Protocol::Release) && sample.notices > 1 {
            // Many writers: what grows there has a text of its own.
            continue;
        }
        let messages = sample.per_operation(sample.messages);
        let bound = match sample.workload {
            Workload::HotLock => 3.0,
            Workload::Barrier => 2.0,
            _ => 4.0,
        };
        assert!(messages <= bound, "{sample:?}: {messages} messages an operation");
        assert!(sample.directory_bytes <= 16 + 136, "{sample:?}");
        let narrow = !matches!(sample.workload, Workload::HotPage | Workload::HotPageRounds);
        assert!(!narrow || sample.directory_bytes <= 16, "{sample:?}");
        let untold = sample.workload != Workload::PrivateRounds || sample.notices == 0;
        assert!(untold, "{sample:?}");
    }
    let few = |sample: &&Sample| sample.workload == Workload::FalseSharingRounds && sample.nodes == 8;
    let mut of_eight = lines.iter().flatten().filter(few);
    let [Some(one), Some(many)] = [of_eight.next(), of_eight.next()] else {
        panic!("two protocols were measured")
    };
    assert_eq!(many.protocol, Some(Protocol::Release));
    assert!(many.waited_us < one.waited_us, "many writers cure what few nodes suffer: {one:?}, {many:?}");
}

/// What makes a barrier scale: however many nodes there are, none handles more than its neighbours' messages, and the way is short.
#[test]
fn a_gathered_barrier_asks_little_of_every_node() {
    let fan = limits::BARRIER_FAN;
    for nodes in scale::node_counts().filter(|nodes| *nodes > fan) {
        let round = scale::barrier_round(nodes, Some(fan));
        assert!(round.busiest <= 2 * (u64::from(fan) + 1), "{round:?}");
        let levels = (1..=10).find(|levels| u64::from(fan).pow(*levels) >= u64::from(nodes)).expect("few");
        assert!(round.depth <= 2 * levels, "{round:?}");
        assert_eq!(round.messages, 2 * (u64::from(nodes) - 1), "{round:?}");
        let alone = scale::barrier_round(nodes, None);
        assert!(nodes < 64 || round.waits_us < alone.waits_us, "{round:?}, {alone:?}");
    }
}

#[test]
fn a_sample_is_the_same_every_time() {
    for workload in Workload::ALL {
        for protocol in workload.protocols() {
            let once = scale::sample(workload, *protocol, 16);
            assert_eq!(once, scale::sample(workload, *protocol, 16));
            assert!(once.operations > 0, "{once:?}");
        }
    }
}

#[test]
fn the_values_have_a_line_for_every_sample() {
    let lines = scale::measure(8);
    let samples: usize = lines.iter().map(Vec::len).sum();
    let text = scale::csv(&lines);
    let fields = |line: &str| line.split(',').count();
    assert_eq!(text.lines().count(), samples + 1);
    assert!(text.lines().all(|line| fields(line) == 11), "{text}");
}
