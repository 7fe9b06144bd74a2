//! What finding, writing and applying a diff costs, for pages with few and with many changes.
//!
//! ```text
//! cargo run --release -p pagemesh-memory --example diff_costs
//! ```
//!
//! All rows take turns in every round, and the yardstick with them: copying a page. Pages of a set that fits into the second
//! cache are used in turn. The figures are medians of the rounds, in nanoseconds, with the ratio to the copy in brackets.

use pagemesh_memory::diff::{self, Scanner};
use pagemesh_memory::{DIFF_MOST, DiffBytes, PAGE_BYTES, PageBytes};
use std::hint::black_box;
use std::time::Instant;

/// Pages and twins: 256 KiB.
const PAGES: usize = 32;
const ROUNDS: usize = 301;
const REPEATS: usize = 8;

/// Which bytes of a page changed.
type Pattern = (&'static str, fn(usize) -> bool);

const PATTERNS: [Pattern; 6] = [
    ("nothing", |_| false),
    ("1 byte", |index| index == 1_789),
    ("64 bytes together", |index| index / 64 == 29),
    ("1 word in 8", |index| index / 8 % 8 == 3),
    ("every other byte", |index| index % 2 == 0),
    ("the whole page", |_| true),
];

/// What one pattern is measured with.
struct Case {
    name: &'static str,
    changed: fn(usize) -> bool,
    pages: Vec<PageBytes>,
    diff: DiffBytes,
    diff_bytes: usize,
    /// Nanoseconds a page: of each scanner, and of applying.
    encoded: Vec<Vec<f64>>,
    applied: Vec<f64>,
}

impl Case {
    fn new((name, changed): Pattern, twins: &[PageBytes], scanners: usize) -> Case {
        let change = |twin: &PageBytes| std::array::from_fn(|index| twin[index] ^ u8::from(changed(index)));
        let pages: Vec<PageBytes> = twins.iter().map(change).collect();
        let mut diff = [0; DIFF_MOST];
        let diff_bytes = diff::encode(&pages[0], &twins[0], &mut diff);
        Case {
            name,
            changed,
            pages,
            diff,
            diff_bytes,
            encoded: vec![Vec::new(); scanners],
            applied: Vec::new(),
        }
    }

    fn round(&mut self, scanners: &[Scanner], twins: &[PageBytes]) {
        let mut out = [0; DIFF_MOST];
        for (scanner, times) in scanners.iter().zip(&mut self.encoded) {
            times.push(time(|index| {
                black_box(diff::encode_with(
                    *scanner,
                    black_box(&self.pages[index]),
                    &twins[index],
                    &mut out,
                ));
            }));
        }
        if self.diff_bytes > 0 {
            let diff = &self.diff[..self.diff_bytes];
            let pages = &mut self.pages;
            self.applied.push(time(|index| {
                diff::patch(&mut pages[index], black_box(diff)).expect("it was just encoded");
            }));
            // Applying has made all pages alike in these bytes; the next round is to find the changes again.
            for (page, twin) in self.pages.iter_mut().zip(twins) {
                *page = std::array::from_fn(|index| twin[index] ^ u8::from((self.changed)(index)));
            }
        }
    }
}

/// Nanoseconds a call, over all pages.
fn time(mut call: impl FnMut(usize)) -> f64 {
    let begin = Instant::now();
    for _ in 0..REPEATS {
        (0..PAGES).for_each(&mut call);
    }
    begin.elapsed().as_nanos() as f64 / (REPEATS * PAGES) as f64
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let twins: Vec<PageBytes> =
        (0..PAGES).map(|page| std::array::from_fn(|index| (page * 31 + index * 7) as u8)).collect();
    let scanners: Vec<Scanner> = [Some(Scanner::PORTABLE), Scanner::avx2()].into_iter().flatten().collect();
    let mut cases = PATTERNS.map(|pattern| Case::new(pattern, &twins, scanners.len()));
    let (mut copies, mut copy) = (Vec::new(), [0; PAGE_BYTES]);
    for _ in 0..ROUNDS {
        copies.push(time(|index| {
            copy.copy_from_slice(black_box(&twins[index]));
            black_box(&mut copy);
        }));
        for case in &mut cases {
            case.round(&scanners, &twins);
        }
    }
    let copy = median(&mut copies);
    println!("copying a page: {copy:.0} ns; others in ns a page, and as a multiple of that");
    print!("{:<18} {:>6}", "changed", "bytes");
    for scanner in &scanners {
        print!(" {:>16}", format!("{scanner:?}"));
    }
    println!(" {:>16}", "apply");
    for mut case in cases {
        let figure = |times: &mut [f64]| {
            let time = median(times);
            format!("{time:.0} ({:.1}x)", time / copy)
        };
        print!("{:<18} {:>6}", case.name, case.diff_bytes);
        for times in &mut case.encoded {
            print!(" {:>16}", figure(times));
        }
        println!(" {:>16}", if case.applied.is_empty() { "-".to_owned() } else { figure(&mut case.applied) });
    }
}
