//! Which ways are seen, and what is asked for on them.

use super::*;
use std::collections::BTreeSet;
use std::ops::Range;

const PAGES: u64 = 1 << 20;

fn page(page: u64) -> PageAddress {
    PageAddress::new(RegionId(3), page)
}

/// Asks for all of what a miss calls for; returns those pages.
fn miss(ahead: &mut Ahead, at: u64) -> Vec<u64> {
    miss_in_units(ahead, at, 1)
}

fn miss_in_units(ahead: &mut Ahead, at: u64, grain: u64) -> Vec<u64> {
    ahead.forget(page(at));
    let Some(request) = ahead.missed(page(at), (grain, false), || true) else { return Vec::new() };
    let steps: Vec<u64> =
        (0..request.count).map_while(|step| Some(request.page(step, PAGES)?.page)).collect();
    let expected = if steps.is_empty() { 0 } else { u128::MAX >> (128 - steps.len()) };
    ahead.asked(&request, steps.len() as u32, expected);
    steps
}

/// The pages that are entered when `at` is, where all but `refused` may be.
fn mapped_with(ahead: &mut Ahead, at: u64, refused: Option<u64>) -> Range<u64> {
    let run = ahead.take_run(PageRange::one(at), RegionId(3), |page| Some(page.page) != refused);
    run.first()..run.end()
}

#[test]
fn a_way_is_seen_at_its_third_page_and_asked_for_in_growing_pieces() {
    let mut ahead = Ahead::default();
    assert_eq!(miss(&mut ahead, 100), []);
    assert_eq!(miss(&mut ahead, 101), []);
    assert_eq!(miss(&mut ahead, 102), (103..119).collect::<Vec<_>>());
    for arrived in 103..119 {
        assert!(ahead.arrives(page(arrived)));
    }
    // The fault on the next enters all that is there.
    assert_eq!(miss(&mut ahead, 103), []);
    assert_eq!(mapped_with(&mut ahead, 103, None), 103..119);
    assert_eq!(mapped_with(&mut ahead, 103, None), 103..104);
    assert_eq!(miss(&mut ahead, 119), (120..183).collect::<Vec<_>>());
    // Not before much of it is used, then up to as much again.
    assert_eq!(miss(&mut ahead, 120), []);
    assert_eq!(miss(&mut ahead, 140), (183..204).collect::<Vec<_>>());
    assert_eq!(miss(&mut ahead, 204), (205..268).collect::<Vec<_>>());
    assert_eq!(miss(&mut ahead, 268), (269..332).collect::<Vec<_>>());
    assert_eq!(miss(&mut ahead, 332), (333..396).collect::<Vec<_>>());
    // Two runs when it goes on for long, and one more whenever one is used.
    assert_eq!(miss(&mut ahead, 396), (397..524).collect::<Vec<_>>());
    assert_eq!(miss(&mut ahead, 459), []);
    assert_eq!(miss(&mut ahead, 460), (524..588).collect::<Vec<_>>());
    assert!((524..588).all(|arrived| ahead.arrives(page(arrived))));
}

#[test]
fn where_nothing_comes_while_the_thread_runs_more_is_asked_for_when_all_is_used() {
    let mut ahead = Ahead::default();
    let (mut at, mut runs) = (100, Vec::new());
    for _ in 0..1000 {
        if let Some(request) = ahead.missed(page(at), (1, false), || false) {
            let all_is_used = request.page(0, PAGES) == Some(page(at + 1));
            assert!(all_is_used || request.count <= FIRST, "{runs:?}, then {request:?} at {at}");
            ahead.asked(&request, request.count, 0);
            runs.push(request.count);
        }
        at += 1;
    }
    let growing = runs.iter().position(|run| *run == MORE).expect("more is asked for with time");
    assert!(runs[growing..].iter().all(|run| *run == MORE), "{runs:?}");
}

/// One more pass over so many pages, all of which were taken away since the last; returns how often something was missed.
fn pass(ahead: &mut Ahead, pages: u64, overlaps: bool) -> usize {
    let (mut here, mut missed) = (BTreeSet::new(), 0);
    for at in 0..pages {
        if here.contains(&at) {
            continue;
        }
        missed += 1;
        ahead.forget(page(at));
        let Some(request) = ahead.missed(page(at), (1, true), || overlaps) else { continue };
        let asked = (0..request.count).map_while(|step| request.page(step, pages));
        let asked: Vec<u64> = asked.map(|page| page.page).collect();
        ahead.asked(&request, asked.len() as u32, 0);
        here.extend(asked);
    }
    missed
}

#[test]
fn who_goes_the_same_way_again_has_it_asked_for_to_its_end() {
    for overlaps in [false, true] {
        let mut ahead = Ahead::default();
        let first = pass(&mut ahead, 1000, overlaps);
        for _ in 0..20 {
            let again = pass(&mut ahead, 1000, overlaps);
            assert!(again <= first + 8, "{first} misses in the first pass, and then {again}");
        }
    }
}

#[test]
fn ways_lead_down_and_over_gaps_and_end_with_the_region() {
    let mut ahead = Ahead::default();
    let down: Vec<Vec<u64>> = [50, 48, 46].into_iter().map(|at| miss(&mut ahead, at)).collect();
    assert_eq!(down[2], (0..16).map(|step| 44 - 2 * step).collect::<Vec<_>>());
    let last: Vec<Vec<u64>> =
        [PAGES - 4, PAGES - 3, PAGES - 2].into_iter().map(|at| miss(&mut ahead, at)).collect();
    assert_eq!(last[2], [PAGES - 1]);
    let first: Vec<Vec<u64>> = [4, 2, 0].into_iter().map(|at| miss(&mut ahead, at)).collect();
    assert_eq!(first[2], []);
}

#[test]
fn a_way_leads_on_where_another_shard_decides() {
    let (mut here, mut there) = (Ahead::default(), Ahead::default());
    (100..102).for_each(|at| drop(miss(&mut here, at)));
    let request = here.missed(page(102), (1, false), || true).unwrap();
    // The pages from 110 on are another's.
    here.asked(&request, 7, 0x7f);
    let rest = request.after(7, page(110));
    here.asked(&request, rest.count, 0);
    let rest = there.take_over(rest);
    assert_eq!((rest.first(), rest.count), (page(110), 9));
    there.asked(&rest, 9, 0x1ff);
    assert!(here.arrives(page(109)) && !here.arrives(page(110)));
    assert!(there.arrives(page(110)) && there.arrives(page(118)) && !there.arrives(page(119)));
    let further = here.missed(page(109), (1, false), || true).and_then(|request| request.page(0, PAGES));
    assert!(further.is_none_or(|next| next == page(119)), "what was asked for there is not asked for again");
    assert!(!miss(&mut there, 110).is_empty(), "the first miss there goes on at once");
}

#[test]
fn to_write_no_more_is_asked_for_than_was_written() {
    let mut ahead = Ahead::to_write();
    assert!((100..103).all(|at| miss(&mut ahead, at).is_empty()));
    let (mut at, mut written) = (103, 4);
    while written < 1000 {
        let asked = miss(&mut ahead, at);
        assert_eq!(asked, (at + 1..at + 1 + written.min(63)).collect::<Vec<_>>());
        assert!(asked.iter().all(|arrived| ahead.arrives(page(*arrived))));
        at += 1 + asked.len() as u64;
        written += 1 + asked.len() as u64;
    }
    // Those that go before the thread has come past them end the way.
    miss(&mut ahead, at);
    for gone in at + 1..at + 9 {
        ahead.arrives(page(gone));
        ahead.taken(page(gone));
    }
    assert!((at + 64..at + 74).all(|at| miss(&mut ahead, at).is_empty()));
    // Downwards, or with gaps, nothing is.
    let mut ahead = Ahead::to_write();
    assert!((0..50).all(|step| miss(&mut ahead, 5000 - step).is_empty()));
    assert!((0..50).all(|step| miss(&mut ahead, 9000 + 2 * step).is_empty()));
}

#[test]
fn where_units_are_larger_they_are_the_steps_of_a_way() {
    let mut ahead = Ahead::default();
    // The unit of a page that is missed is no business of this part.
    assert!([100, 112].into_iter().all(|at| miss_in_units(&mut ahead, at, 16).is_empty()));
    assert_eq!(miss_in_units(&mut ahead, 129, 16), (144..160).collect::<Vec<_>>());
    assert!((144..160).all(|arrived| ahead.arrives(page(arrived))));
    // In the middle of it, all of the unit is entered; with it, as many are asked for as make a run.
    assert_eq!(miss_in_units(&mut ahead, 147, 16), (160..208).collect::<Vec<_>>());
    assert_eq!(mapped_with(&mut ahead, 147, None), 144..160);
    assert_eq!(miss_in_units(&mut ahead, 160, 16), (208..224).collect::<Vec<_>>());
    assert_eq!(miss_in_units(&mut ahead, 208, 16), (224..272).collect::<Vec<_>>());
    // Those that are not of the way are not left for later.
    assert!(!ahead.arrives(page(129)) && ahead.arrives(page(271)) && !ahead.arrives(page(272)));
}

#[test]
fn ways_of_units_lead_down_and_over_gaps_and_are_not_proved_within_one() {
    let mut ahead = Ahead::default();
    let down: Vec<Vec<u64>> = [47, 43, 39].map(|at| miss_in_units(&mut ahead, at, 4)).into();
    assert_eq!(down[2], (0..12).map(|index| 32 - 4 * (index / 4) + index % 4).collect::<Vec<_>>());
    assert!(down[2].iter().all(|arrived| ahead.arrives(page(*arrived))));
    assert_eq!(miss_in_units(&mut ahead, 35, 4), [20, 21, 22, 23]);
    assert_eq!(mapped_with(&mut ahead, 35, None), 24..36);
    let gaps: Vec<Vec<u64>> = [400, 412, 424].map(|at| miss_in_units(&mut ahead, at, 4)).into();
    assert_eq!(gaps[2], [436, 437, 438, 439, 448, 449, 450, 451, 460, 461, 462, 463]);
    assert!((0..16).all(|offset| miss_in_units(&mut ahead, 8000 + offset * 7 % 16, 16).is_empty()));
    let last: Vec<Vec<u64>> =
        [PAGES - 12, PAGES - 8, PAGES - 4].map(|at| miss_in_units(&mut ahead, at, 4)).into();
    assert!(last.iter().all(Vec::is_empty));
}

#[test]
fn to_write_no_more_units_are_asked_for_than_were_written() {
    let mut ahead = Ahead::to_write();
    assert!((0..3).all(|unit| miss_in_units(&mut ahead, unit * 4, 4).is_empty()));
    // Four units were missed to be written, which are 16 pages: with the last of them, so many.
    assert_eq!(miss_in_units(&mut ahead, 12, 4), (16..28).collect::<Vec<_>>());
    assert_eq!(miss_in_units(&mut ahead, 28, 4), (32..60).collect::<Vec<_>>());
    assert_eq!(miss_in_units(&mut ahead, 60, 4), (64..124).collect::<Vec<_>>());
    assert_eq!(miss_in_units(&mut ahead, 124, 4).len(), 60, "with the unit that is missed it is a run");
}

#[test]
fn ways_that_are_forgotten_unused_make_others_prove_themselves_for_longer() {
    for grain in [1, 4, 16] {
        let mut ahead = Ahead::default();
        // Three steps upwards somewhere, and then three somewhere else.
        let three = |place: u64| (0..3).map(move |step| (place * 100 + step) * grain);
        let asked: Vec<u64> = (0..100)
            .map(|place| three(place).map(|at| miss_in_units(&mut ahead, at, grain).len() as u64).sum())
            .collect();
        assert!(asked[0] > 0);
        assert!(asked[10..].iter().all(|asked| *asked == 0), "steps of {grain}: {asked:?}");
        // Who goes on is believed all the same.
        let on: usize =
            (1 << 15..(1 << 15) + 100).map(|at| miss_in_units(&mut ahead, at * grain, grain).len()).sum();
        assert!(on > 0);
    }
}

#[test]
fn a_way_is_followed_while_other_threads_miss_pages_in_no_order() {
    for grain in [1, 4] {
        let (mut ahead, mut asked) = (Ahead::default(), BTreeSet::new());
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..4000 {
            for _ in 0..2 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                miss_in_units(&mut ahead, (1 << 16) + state % (PAGES / 2), grain);
            }
            // What was asked for is mapped with others, but for the first of them.
            if step % 16 == 0 || !asked.contains(&step) {
                let more = miss_in_units(&mut ahead, step * grain, grain);
                asked.extend(more.into_iter().map(|page| page / grain));
            }
        }
        let found = asked.range(..4000).count();
        assert!(found > 3500, "steps of {grain}: {found} of 4000");
    }
}

#[test]
fn several_ways_are_followed_at_a_time() {
    let mut ahead = Ahead::default();
    let mut asked = 0;
    for step in 0..3 {
        for way in 0..WAYS as u64 {
            asked += miss(&mut ahead, way * 1000 + step).len();
        }
    }
    assert_eq!(asked, WAYS * FIRST as usize);
}

#[test]
fn random_misses_ask_for_next_to_nothing() {
    for grain in [1, 4, 16] {
        let mut ahead = Ahead::default();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut asked = 0;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            asked += miss_in_units(&mut ahead, state % 16_384, grain).len();
        }
        assert!(asked < 2_000, "{asked} pages in 100,000 misses, with units of {grain}");
    }
}

#[test]
fn pages_that_go_before_they_are_used_end_a_way_and_make_the_next_prove_itself() {
    let mut ahead = Ahead::default();
    (100..103).for_each(|at| drop(miss(&mut ahead, at)));
    for arrived in 103..119 {
        assert!(ahead.arrives(page(arrived)));
        ahead.taken(page(arrived));
    }
    assert!((103..140).all(|at| miss(&mut ahead, at).is_empty()));
    assert!((500..503).all(|at| miss(&mut ahead, at).is_empty()), "three misses are not enough now");
    assert!(!miss(&mut ahead, 503).is_empty());
}

#[test]
fn what_somebody_asks_for_is_mapped_when_it_comes_and_what_may_not_be_is_not() {
    let mut ahead = Ahead::default();
    (100..103).for_each(|at| drop(miss(&mut ahead, at)));
    ahead.forget(page(105));
    assert!(!ahead.arrives(page(105)));
    assert!(ahead.arrives(page(103)) && ahead.arrives(page(104)));
    assert!(!ahead.arrives(page(4)));
    assert_eq!(mapped_with(&mut ahead, 102, Some(104)), 102..104);
    ahead.forget_region(RegionId(3));
    assert_eq!(mapped_with(&mut ahead, 103, None), 103..104);
}
