//! The judge of histories must find what is wrong and nothing else: each outcome that sequential consistency forbids (the litmus
//! tests of the literature among them) is planted and must be refused with its cycle, and its allowed neighbours must pass.

use pagemesh_protocol::{BarrierId, LockId, PageAddress, RegionId};
use pagemesh_sim::{
    Breach, Config, Deed, Disorder, Entry, History, Location, Options, Reason, Sabotage, run_config,
};

const X: Location = Location { page: PageAddress::new(RegionId(0), 0), word: 0 };
const Y: Location = Location { page: PageAddress::new(RegionId(0), 1), word: 0 };

fn read(location: Location, value: u64) -> Deed {
    Deed::Read { location, value }
}

/// A write of which only the value is known.
fn write(location: Location, value: u64) -> Deed {
    Deed::Write { location, value, replaced: None }
}

/// A write that tells what it replaced.
fn replace(location: Location, value: u64, before: u64) -> Deed {
    Deed::Write { location, value, replaced: Some(before) }
}

/// The deeds of each thread.
fn judge(threads: &[&[Deed]]) -> Result<(), Disorder> {
    let mut history = History::default();
    for (thread, deeds) in threads.iter().enumerate() {
        for (step, deed) in deeds.iter().enumerate() {
            let (thread, step) = (thread as u16, step as u64);
            history.push(Entry { step, node: thread, thread, deed: *deed });
        }
    }
    history.check()
}

/// The reasons of the cycle that refutes a history.
fn refuted(threads: &[&[Deed]]) -> Vec<Reason> {
    match judge(threads) {
        Err(Disorder::Cycle(path)) => path.into_iter().map(|(_, reason)| reason).collect(),
        other => panic!("a cycle was expected: {other:?}"),
    }
}

#[test]
fn store_buffering_is_refused() {
    let cycle = refuted(&[&[write(X, 1), read(Y, 0)], &[write(Y, 1), read(X, 0)]]);
    assert_eq!(cycle.len(), 4, "{cycle:?}");
    assert_eq!(cycle.iter().filter(|reason| **reason == Reason::ReadBefore).count(), 2);
    judge(&[&[write(X, 1), read(Y, 0)], &[write(Y, 1), read(X, 1)]]).expect("one of them may come first");
}

#[test]
fn a_message_that_overtakes_its_data_is_refused() {
    refuted(&[&[write(X, 1), write(Y, 1)], &[read(Y, 1), read(X, 0)]]);
    judge(&[&[write(X, 1), write(Y, 1)], &[read(Y, 1), read(X, 1)]]).expect("in order");
    judge(&[&[write(X, 1), write(Y, 1)], &[read(Y, 0), read(X, 1)]]).expect("between the two");
}

#[test]
fn two_readers_that_see_two_writes_in_different_order_are_refused() {
    let writers = [&[write(X, 1)][..], &[write(Y, 1)][..]];
    let one = [read(X, 1), read(Y, 0)];
    refuted(&[writers[0], writers[1], &one, &[read(Y, 1), read(X, 0)]]);
    judge(&[writers[0], writers[1], &one, &[read(X, 1), read(Y, 1)]]).expect("both saw X first");
}

#[test]
fn writes_of_one_word_have_one_order() {
    let writers = [&[write(X, 1)][..], &[write(X, 2)][..]];
    let one = [read(X, 1), read(X, 2)];
    refuted(&[writers[0], writers[1], &one, &[read(X, 2), read(X, 1)]]);
    judge(&[writers[0], writers[1], &one, &[read(X, 1), read(X, 2)]]).expect("1 came first");
}

#[test]
fn writes_whose_order_only_third_ones_tell_are_put_in_order() {
    // 2+2W: each thread's second write is overwritten by the other's first.
    refuted(&[
        &[write(X, 1), write(Y, 2)],
        &[write(Y, 1), write(X, 2)],
        &[read(X, 2), read(X, 1)],
        &[read(Y, 2), read(Y, 1)],
    ]);
}

#[test]
fn a_stale_read_is_refused() {
    let cycle = refuted(&[&[write(X, 1), write(X, 2), read(X, 1)]]);
    assert!(cycle.contains(&Reason::Overwrites) || cycle.contains(&Reason::ReadBefore), "{cycle:?}");
    refuted(&[&[replace(X, 1, 0), read(X, 0)]]);
    refuted(&[&[replace(X, 1, 0), replace(X, 2, 1)], &[read(X, 2), read(X, 1)]]);
}

#[test]
fn a_write_that_causes_another_is_seen_first() {
    // WRC: what was read before writing is known to whoever reads that write.
    refuted(&[&[write(X, 1)], &[read(X, 1), write(Y, 1)], &[read(Y, 1), read(X, 0)]]);
}

#[test]
fn values_out_of_thin_air_and_circles_of_them_are_refused() {
    assert!(matches!(judge(&[&[read(X, 7)]]), Err(Disorder::NeverWritten(_))));
    assert!(matches!(judge(&[&[replace(X, 7, 5)]]), Err(Disorder::NeverWritten(_))));
    // LB: each reads what the other writes later.
    refuted(&[&[read(X, 1), write(Y, 1)], &[read(Y, 1), write(X, 1)]]);
}

#[test]
fn a_lost_write_is_named() {
    let lost = judge(&[&[replace(X, 1, 0)], &[replace(X, 2, 0)]]);
    let Err(Disorder::LostWrite(pair)) = lost else { panic!("a lost write was expected: {lost:?}") };
    assert_eq!(pair.map(|entry| entry.thread), [0, 1]);
    let twice = judge(&[&[replace(X, 1, 0)], &[replace(X, 1, 0)]]);
    assert!(matches!(twice, Err(Disorder::WrittenTwice(..))), "{twice:?}");
}

#[test]
fn what_was_written_behind_a_lock_is_read_behind_it() {
    let lock = LockId(1);
    let first = [Deed::Acquire(lock), replace(X, 1, 0), Deed::Release(lock)];
    let cycle = refuted(&[&first, &[Deed::Acquire(lock), read(X, 0), Deed::Release(lock)]]);
    assert!(cycle.contains(&Reason::Lock), "{cycle:?}");
    judge(&[&first, &[Deed::Acquire(lock), read(X, 1), Deed::Release(lock)]]).expect("it is seen");
    judge(&[&first, &[read(X, 0)]]).expect("without the lock it may come before");
}

#[test]
fn what_was_written_before_a_barrier_is_read_after_it() {
    let barrier = BarrierId(1);
    let first = [replace(X, 1, 0), Deed::Arrive(barrier, 1), Deed::Pass(barrier, 1)];
    let other = |value| [Deed::Arrive(barrier, 1), Deed::Pass(barrier, 1), read(X, value)];
    assert!(refuted(&[&first, &other(0)]).contains(&Reason::Barrier));
    judge(&[&first, &other(1)]).expect("it is seen");
}

#[test]
fn a_refusal_tells_the_whole_story() {
    let wrong = judge(&[&[write(X, 1), read(Y, 0)], &[write(Y, 1), read(X, 0)]]);
    let story = wrong.expect_err("store buffering").to_string();
    for part in ["thread 0 of node 0 writes 0x1 to r0p0[0]", "reads 0x0 from r0p1[0]", "has not seen"] {
        assert!(story.contains(part), "{part} is missing in: {story}");
    }
}

/// With every check at the moment of access turned off, what the threads saw is all the judge has.
#[test]
fn faults_of_a_simulated_machine_are_seen_in_the_histories_alone() {
    std::panic::set_hook(Box::new(|_| {}));
    let hunts = [
        Sabotage::StaleData,
        Sabotage::SkipFill,
        Sabotage::SkipZero,
        Sabotage::SendBeforeUnmap,
        Sabotage::DoubleLockGrant,
    ]
    .map(|sabotage| {
        let options = Options { sabotage: Some(sabotage), ..Options::default() };
        let caught = (0..200).find_map(|seed| {
            let config = Config { instant_checks: false, ..Config::draw(seed) };
            run_config(&config, options).err()
        });
        (sabotage, caught)
    });
    let _ = std::panic::take_hook();
    for (sabotage, caught) in hunts {
        let failed = caught.unwrap_or_else(|| panic!("{sabotage:?} was not caught"));
        println!("{sabotage:?}: seed {}: {}", failed.config.seed, failed.breach);
        let data = matches!(sabotage, Sabotage::StaleData | Sabotage::SkipFill | Sabotage::SkipZero);
        assert!(!data || matches!(failed.breach, Breach::Order(_)), "{sabotage:?}: {}", failed.breach);
    }
    for seed in 0..200 {
        let config = Config { instant_checks: false, ..Config::draw(seed) };
        if let Err(failed) = run_config(&config, Options::default()) {
            panic!("{failed}");
        }
    }
}
