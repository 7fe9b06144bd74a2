//! A ratio to a baseline means something only if both were measured under the same conditions. When the baseline's own median
//! differs between rounds by more than the stated bound, the machine did something else meanwhile: the report must say so, and
//! must print no ratio that somebody could quote.

mod made_up;

use made_up::{figure, report};
use pagemesh_bench::{BASELINE_MOVES_MOST, Ratio, Target, document};

#[test]
fn a_steady_baseline_gives_the_median_of_the_rounds_with_its_spread() {
    let steady = figure("read", &[20.0, 22.0, 30.0], Some(&[10.0, 10.0, 12.0]));
    assert_eq!(steady.ratio(), Ratio::Of { median: 2.2, low: 2.0, high: 2.5 });
    let text = report(vec![steady]).to_string();
    assert!(text.contains("2.20 (2.00 - 2.50)"), "{text}");
}

#[test]
fn a_baseline_at_the_bound_is_steady_and_beyond_it_moved() {
    let at = figure("read", &[20.0, 20.0], Some(&[10.0, 10.0 * BASELINE_MOVES_MOST]));
    assert!(matches!(at.ratio(), Ratio::Of { .. }), "{:?}", at.ratio());
    let mut beyond = figure("read", &[20.0, 20.0], Some(&[10.0, 13.0]));
    beyond.target = Some(Target::Ratio(5.0));
    assert_eq!(beyond.ratio(), Ratio::BaselineMoved(1.3));
    assert_eq!(beyond.meets_target(), None, "there is nothing to hold against the target");
    let moved = report(vec![beyond]);
    let text = moved.to_string();
    assert!(text.contains("no ratio: baseline moved 1.30x > 1.25x"), "{text}");
    assert!(!text.contains("2.00"), "{text}");
    let document = document::with_tables("<!-- bench tables: begin --><!-- bench tables: end -->", &moved);
    assert!(document.unwrap().contains("no ratio: baseline moved 1.30x > 1.25x"));
}

#[test]
fn a_target_in_microseconds_needs_no_baseline() {
    let mut found = figure("lock", &[0.2, 0.2], None);
    found.target = Some(Target::P50(0.1));
    assert_eq!(found.ratio(), Ratio::None);
    assert_eq!(found.meets_target(), Some(false));
    found.target = Some(Target::P50(0.2));
    assert_eq!(found.meets_target(), Some(true));
}

#[test]
fn a_target_of_two_ratios_needs_both() {
    // Every 99th percentile that is made up here is three times its median.
    let mut found = figure("read", &[20.0, 20.0], Some(&[10.0, 10.0]));
    found.target = Some(Target::Tail { p50: 2.0, p99: 3.0 });
    assert_eq!(found.tail_ratio(), Some(2.0));
    assert_eq!(found.meets_target(), Some(true));
    found.target = Some(Target::Tail { p50: 2.0, p99: 1.9 });
    assert_eq!(found.meets_target(), Some(false));
    let text = report(vec![found.clone()]).to_string();
    assert!(text.contains("p99 2.00") && text.contains("2.00x, p99 1.90x missed"), "{text}");
    found.target = Some(Target::Tail { p50: 1.9, p99: 3.0 });
    assert_eq!(found.meets_target(), Some(false));
}

#[test]
fn rounds_that_were_left_out_are_counted() {
    let mut found = figure("read", &[20.0, 20.0], Some(&[10.0, 10.0]));
    found.left_out = 3;
    let text = report(vec![found]).to_string();
    assert!(text.contains("2.00 (2.00 - 2.00) [3]"), "{text}");
    assert!(text.contains("so many more rounds, in which the baseline moved, are left out"), "{text}");
}
