//! A failure that cannot be repeated cannot be understood: nothing but the seed may decide what happens.

use pagemesh_sim::{Config, Options, Sabotage, TraceMode, run};

#[test]
fn the_same_seed_gives_the_same_trace_to_the_byte() {
    let options = Options { trace: TraceMode::Full, ..Options::default() };
    for seed in 0..40 {
        let traces = [0, 1].map(|_| match run(seed, options) {
            Ok(report) => report.trace.join("\n"),
            Err(failed) => panic!("{failed}"),
        });
        assert!(traces[0].lines().count() > 10, "seed {seed} does hardly anything");
        assert_eq!(traces[0], traces[1], "seed {seed} differs from itself");
    }
}

#[test]
fn a_trace_does_not_change_what_happens() {
    for seed in 0..40 {
        let counts = [TraceMode::Off, TraceMode::Tail(5), TraceMode::Full].map(|trace| {
            let options = Options { trace, ..Options::default() };
            run(seed, options).map(|report| report.counts).map_err(|failed| failed.to_string())
        });
        assert_eq!(counts[0], counts[1]);
        assert_eq!(counts[0], counts[2]);
    }
}

#[test]
fn a_failure_names_its_seed_and_repeats() {
    let options = Options { sabotage: Some(Sabotage::SkipFill), ..Options::default() };
    let failing = (0..100).find_map(|seed| run(seed, options).err());
    let failed = failing.expect("a skipped fill is caught");
    let seed = failed.config.seed;
    let report = failed.to_string();
    assert!(report.contains(&format!("--seed {seed}")), "{report}");
    assert!(report.contains("Fill"), "the event that failed is in the trace: {report}");
    assert!(!failed.trace.is_empty());
    let again = run(seed, options).expect_err("it fails again");
    assert_eq!(again.to_string(), report);
    assert_eq!(Config::draw(seed), failed.config);
}
