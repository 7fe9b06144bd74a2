//! Several nodes write different bytes of one page, and each sends what it wrote as a diff. Whatever the order, whoever writes
//! at the same moment, and whatever rubbish a broken node sends: every byte is that of the one who wrote it. Programs with
//! false sharing are only right if this holds.

mod common;

use common::{DEADLINE, refuse};
use pagemesh_memory::diff::{self, Scanner};
use pagemesh_memory::{
    DIFF_MOST, Diff, Mapping, MappingOptions, PAGE_BYTES, PageBytes, PagerKind, RegionKey,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

/// A region; what the app view allows plays no part here.
fn region(pages: usize) -> Arc<Mapping> {
    common::region_at(MappingOptions::new(RegionKey(1), pages * PAGE_BYTES).pager(PagerKind::Sigsegv), refuse)
        .0
}

fn scanners() -> impl Iterator<Item = Scanner> {
    [Some(Scanner::PORTABLE), Scanner::avx2()].into_iter().flatten()
}

/// The diff, as each scanner writes it.
fn encode(current: &PageBytes, twin: &PageBytes) -> Vec<u8> {
    let mut out = [0; DIFF_MOST];
    let all = scanners().map(|scanner| {
        let bytes = diff::encode_with(scanner, current, twin, &mut out);
        out[..bytes].to_vec()
    });
    let mut all = all.collect::<Vec<_>>();
    all.dedup();
    assert_eq!(all.len(), 1, "the scanners differ");
    all.remove(0)
}

/// The length of the shortest form, told from the definition.
fn shortest(current: &PageBytes, twin: &PageBytes) -> usize {
    let differs: Vec<bool> = current.iter().zip(twin).map(|(one, other)| one != other).collect();
    let changed = differs.iter().filter(|differs| **differs).count();
    if changed == 0 || changed == PAGE_BYTES {
        return changed + changed / PAGE_BYTES;
    }
    let number = |number: usize| if number < 128 { 1 } else { 2 };
    let (mut runs, mut gap, mut length) = (1 + changed, 0, 0);
    for differs in differs.into_iter().chain([false]) {
        if differs {
            length += 1;
            continue;
        }
        if length > 0 {
            runs += number(gap) + number(length);
            (gap, length) = (0, 0);
        }
        gap += 1;
    }
    runs.min(1 + 512 + changed)
}

/// Two pages that differ in runs of any length and distance, in single bytes, everywhere or nowhere.
fn pages() -> impl Strategy<Value = (PageBytes, PageBytes)> {
    let step = prop_oneof![4 => 1_usize..20, 2 => 100_usize..300, 1 => 1_usize..4096];
    let steps = prop::collection::vec((step.clone(), step), 0..700);
    (any::<u64>(), steps, 0_usize..2).prop_map(|(seed, steps, first)| {
        let twin: PageBytes = std::array::from_fn(|index| (seed >> (index % 57)) as u8 ^ (index / 64) as u8);
        let mut current = twin;
        let mut position = 0;
        for (number, (gap, length)) in steps.into_iter().enumerate() {
            position += if number == 0 { gap * first } else { gap };
            for byte in current.iter_mut().skip(position).take(length) {
                *byte = byte.wrapping_add((seed % 255) as u8 + 1);
            }
            position += length;
        }
        (current, twin)
    })
}

/// Diffs with something changed, cut off or added, and bytes that never were one.
fn rubbish() -> impl Strategy<Value = Vec<u8>> {
    let broken =
        (pages(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<i8>());
    let broken = broken.prop_map(|((current, twin), changes, longer)| {
        let mut diff = encode(&current, &twin);
        let bytes = diff.len().saturating_add_signed(longer.into());
        diff.resize(bytes, 1);
        for (index, value) in changes {
            if !diff.is_empty() {
                let index = index.index(diff.len());
                diff[index] = value;
            }
        }
        diff
    });
    let runs =
        prop::collection::vec(prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..60).prop_map(|mut diff| {
            diff.insert(0, 1);
            diff
        });
    prop_oneof![2 => broken, 2 => runs, 1 => prop::collection::vec(any::<u8>(), 0..DIFF_MOST + 9)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_diff_is_the_shortest_and_brings_the_twin_up_to_the_page((current, twin) in pages()) {
        let diff = encode(&current, &twin);
        prop_assert_eq!(diff.len(), shortest(&current, &twin));
        prop_assert!(diff.len() <= DIFF_MOST);
        let mut patched = twin;
        if current == twin {
            prop_assert!(diff.is_empty());
        } else {
            diff::patch(&mut patched, &diff).unwrap();
            let changed = current.iter().zip(&twin).filter(|(one, other)| one != other).count();
            prop_assert_eq!(Diff::parse(&diff).unwrap().changed_bytes(), changed);
        }
        prop_assert!(patched == current);
    }

    #[test]
    fn what_two_nodes_wrote_is_there_in_either_order(
        (first, twin) in pages(), (second, other) in pages(), seed in any::<u8>(),
    ) {
        // The second node wrote where its two pages differ and the first node did not write.
        let second: PageBytes = std::array::from_fn(|index| {
            let its_own = second[index] != other[index] && first[index] == twin[index];
            twin[index].wrapping_add(u8::from(its_own) * (seed | 1))
        });
        let both: PageBytes =
            std::array::from_fn(|index| if second[index] == twin[index] { first[index] } else { second[index] });
        let diffs = [encode(&first, &twin), encode(&second, &twin)];
        for order in [[0, 1], [1, 0]] {
            let mut home = twin;
            for diff in order.map(|index| &diffs[index]).into_iter().filter(|diff| !diff.is_empty()) {
                diff::patch(&mut home, diff).unwrap();
            }
            prop_assert!(home == both);
        }
    }

    #[test]
    fn rubbish_changes_nothing_or_no_more_than_it_names(diff in rubbish()) {
        let page = [0x5a; PAGE_BYTES];
        let mut patched = page;
        if let Err(error) = diff::patch(&mut patched, &diff) {
            prop_assert!(patched == page, "{}", error);
            prop_assert_eq!(Diff::parse(&diff).unwrap_err(), error);
        } else {
            let changed = patched.iter().filter(|byte| **byte != 0x5a).count();
            prop_assert!(changed <= Diff::parse(&diff).unwrap().changed_bytes());
        }
    }
}

#[test]
fn a_page_of_a_region_is_read_and_changed_like_any_other() {
    let mapping = region(3);
    let service = mapping.service();
    let twin = common::remote_page(1);
    service.write_page(1, &twin);
    let mut out = [0; DIFF_MOST];
    assert_eq!(service.diff_page(1, &twin, &mut out), 0);
    service.write(PAGE_BYTES + 100, &[!twin[100], !twin[101]]);
    service.write(2 * PAGE_BYTES - 1, &[!twin[4095]]);
    let bytes = service.diff_page(1, &twin, &mut out);
    service.write_page(2, &twin);
    service.apply_diff(2, &out[..bytes]).unwrap();
    let [mut changed, mut copy] = [[0; PAGE_BYTES]; 2];
    service.read_page(1, &mut changed);
    service.read_page(2, &mut copy);
    assert_eq!(copy, changed);
    assert!(service.apply_diff(2, &[1, 0]).is_err());
    service.read_page(2, &mut copy);
    assert_eq!(copy, changed);
}

/// Who writes a byte of the contested page: so that owners meet within every word, and long runs occur too.
fn owner(index: usize) -> u8 {
    const OWNERS: usize = 3;
    let owner = if index < 2048 { index } else { index / 40 };
    (owner % OWNERS) as u8
}

/// Two home threads apply diffs, of bitmaps and runs, and a third stores by itself; each looks, after every round, whether
/// its bytes are what it last made them. A store that writes back a neighbour it had read would undo someone's byte.
#[test]
fn diffs_applied_and_stores_made_at_the_same_moment_undo_nothing_of_each_other() {
    const ROUNDS: u32 = 20_000;
    let mapping = region(1);
    mapping.service().zero_page(0);
    let failed = AtomicBool::new(false);
    let begin = Instant::now();
    thread::scope(|scope| {
        for me in 0..3_u8 {
            let (mapping, failed) = (&mapping, &failed);
            scope.spawn(move || {
                let service = mapping.service();
                let (mut mine, mut seen, mut out) = ([0_u8; PAGE_BYTES], [0; PAGE_BYTES], [0; DIFF_MOST]);
                for round in 1..=ROUNDS {
                    let before = mine;
                    for (index, byte) in mine.iter_mut().enumerate().filter(|(index, _)| owner(*index) == me)
                    {
                        // Some rounds change everything of mine, some one half, some single bytes.
                        let change = match round % 4 {
                            0 => true,
                            1 => index < 2048,
                            2 => index >= 2048,
                            _ => index % 211 == round as usize % 211,
                        };
                        *byte = byte.wrapping_add(u8::from(change));
                    }
                    if me < 2 {
                        let bytes = diff::encode(&mine, &before, &mut out);
                        if bytes > 0 {
                            service.apply_diff(0, &out[..bytes]).unwrap();
                        }
                    } else {
                        for index in (0..PAGE_BYTES).filter(|index| mine[*index] != before[*index]) {
                            // SAFETY: a byte of the page, which is mapped as long as `mapping`.
                            unsafe { service.page_pointer(0).add(index).write_volatile(mine[index]) };
                        }
                    }
                    service.read_page(0, &mut seen);
                    let wrong =
                        (0..PAGE_BYTES).find(|index| owner(*index) == me && seen[*index] != mine[*index]);
                    if let Some(index) = wrong {
                        failed.store(true, Ordering::SeqCst);
                        panic!("round {round}: byte {index} is {}, not {}", seen[index], mine[index]);
                    }
                    if failed.load(Ordering::SeqCst) {
                        return;
                    }
                    assert!(begin.elapsed() < DEADLINE, "{round} rounds in {DEADLINE:?}");
                }
            });
        }
    });
}

/// The page is read while it is written: whatever a diff has of it, the twin brought up to the diff has too, and so the next
/// diff has the rest.
#[test]
fn diffs_made_while_the_page_is_written_lose_nothing() {
    const ROUNDS: u32 = 20_000;
    let mapping = region(2);
    mapping.service().zero_page(0);
    mapping.service().zero_page(1);
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    let service = mapping.service();
    let (mut twin, mut out) = ([0; PAGE_BYTES], [0; DIFF_MOST]);
    let mut ship = || {
        let bytes = service.diff_page(0, &twin, &mut out);
        if bytes > 0 {
            diff::patch(&mut twin, &out[..bytes]).unwrap();
            service.apply_diff(1, &out[..bytes]).unwrap();
        }
    };
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number: u32 = 0;
            while !done.load(Ordering::SeqCst) {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (offset, length) = (number as usize % PAGE_BYTES, number as usize / 8192 % 40);
                let end = PAGE_BYTES.min(offset + length);
                service.write(offset, &[(number >> 24) as u8; PAGE_BYTES][offset..end]);
            }
        });
        for _ in 0..ROUNDS {
            ship();
            assert!(begin.elapsed() < DEADLINE || writer.is_finished());
        }
        done.store(true, Ordering::SeqCst);
    });
    ship();
    let [mut written, mut shipped] = [[0; PAGE_BYTES]; 2];
    service.read_page(0, &mut written);
    service.read_page(1, &mut shipped);
    assert_eq!(written, shipped);
}
