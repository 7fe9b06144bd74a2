//! `pagemesh bench compare` is there to say whether a change made something slower. It must not call noise a change, nor miss one
//! that every round shows; and where one of the reports has no ratio it must not make one up.

mod made_up;

use made_up::{figure, report};
use pagemesh_bench::{Comparison, Figure, Verdict};

const BASE: &[f64] = &[10.0, 10.0, 10.0];

fn verdict(before: Figure, after: Figure) -> Verdict {
    let compared = Comparison::new(&report(vec![before]), &report(vec![after]));
    assert_eq!((compared.rows.len(), compared.gone.len(), compared.new.len()), (1, 0, 0));
    compared.rows[0].verdict
}

#[test]
fn what_every_round_shows_has_moved() {
    let before = || figure("read", &[20.0, 21.0, 22.0], Some(BASE));
    assert_eq!(verdict(before(), figure("read", &[42.0, 41.0, 43.0], Some(BASE))), Verdict::Slower(2.0));
    assert_eq!(verdict(before(), figure("read", &[10.5, 10.0, 11.0], Some(BASE))), Verdict::Faster(0.5));
}

#[test]
fn rounds_that_lie_among_each_other_have_not_moved() {
    let before = figure("read", &[20.0, 20.0, 25.0], Some(BASE));
    assert_eq!(verdict(before, figure("read", &[24.0, 24.0, 30.0], Some(BASE))), Verdict::Within(1.2));
}

#[test]
fn what_the_machine_did_to_both_is_left_out() {
    let before = figure("read", &[20.0, 20.0, 20.0], Some(BASE));
    let twice = figure("read", &[40.0, 40.0, 40.0], Some(&[20.0, 20.0, 20.0]));
    assert_eq!(verdict(before, twice), Verdict::Within(1.0));
}

#[test]
fn without_a_baseline_times_are_compared() {
    let before = figure("lock", &[20.0, 21.0, 22.0], None);
    assert_eq!(verdict(before, figure("lock", &[0.2, 0.21, 0.22], None)), Verdict::Faster(0.01));
}

#[test]
fn without_a_ratio_nothing_is_said() {
    let steady = || figure("read", &[20.0, 20.0, 20.0], Some(BASE));
    let moved = || figure("read", &[90.0, 90.0, 90.0], Some(&[10.0, 20.0, 10.0]));
    let bare = || figure("read", &[90.0, 90.0, 90.0], None);
    for (before, after) in [(steady(), moved()), (moved(), steady()), (steady(), bare()), (bare(), steady())]
    {
        assert_eq!(verdict(before, after), Verdict::Unknown);
    }
}

#[test]
fn figures_that_only_one_report_has_are_named() {
    let before = report(vec![figure("old", BASE, None), figure("read", BASE, None)]);
    let mut after = report(vec![figure("read", BASE, None), figure("young", BASE, None)]);
    after.machine.cores = 64;
    let compared = Comparison::new(&before, &after);
    assert_eq!(compared.gone, ["fault one-core TCP 4: old"]);
    assert_eq!(compared.new, ["fault one-core TCP 4: young"]);
    assert!(compared.other_machine);
    let text = compared.to_string();
    for line in ["different machines", "gone             fault one-core TCP 4: old", "0 of 1 figures moved"] {
        assert!(text.contains(line), "{text}");
    }
}
