//! The layout to the byte, and the bound.

use super::*;

/// A page of zeros in which `change` made the changes.
fn changed(change: impl FnOnce(&mut PageBytes)) -> PageBytes {
    let mut page = [0; PAGE_BYTES];
    change(&mut page);
    page
}

/// What every scanner writes for the changes of a page of zeros.
fn encoded(current: &PageBytes) -> Vec<u8> {
    let mut written = [Some(Scanner::PORTABLE), Scanner::avx2()].into_iter().flatten().map(|scanner| {
        let mut out = [0xee; DIFF_MOST];
        let bytes = encode_with(scanner, current, &[0; PAGE_BYTES], &mut out);
        out[..bytes].to_vec()
    });
    let first = written.next().unwrap();
    assert!(written.all(|other| other == first), "the scanners differ");
    first
}

#[test]
fn runs_are_written_as_the_layout_says() {
    let page = changed(|page| {
        page[300] = 7;
        page[302..304].copy_from_slice(&[8, 9]);
        page[4095] = 1;
    });
    let [gap_low, gap_high] = [(4095 - 304) as u8 | 128, ((4095 - 304) >> 7) as u8];
    assert_eq!(encoded(&page), [1, 0xac, 0x02, 1, 7, 1, 2, 8, 9, gap_low, gap_high, 1, 1]);
    assert_eq!(encoded(&changed(|page| page[0] = 5)), [1, 0, 1, 5]);
    assert_eq!(encoded(&[0; PAGE_BYTES]), [0; 0]);
}

#[test]
fn a_bitmap_is_written_as_the_layout_says() {
    let page =
        changed(|page| page.iter_mut().step_by(2).zip(0_u32..).for_each(|(byte, n)| *byte = n as u8 | 1));
    let diff = encoded(&page);
    assert_eq!(diff.len(), 1 + 512 + 2048);
    assert_eq!(diff[0], 2);
    assert!(diff[1..513].iter().all(|bits| *bits == 0b0101_0101));
    assert!(diff[513..].iter().zip(0_u32..).all(|(byte, n)| *byte == n as u8 | 1));
}

#[test]
fn only_a_page_of_which_every_byte_changed_is_sent_whole() {
    let page = changed(|page| page.fill(3));
    let diff = encoded(&page);
    assert_eq!((diff[0], diff.len()), (3, 4097));
    let page = changed(|page| page[1..].fill(3));
    let diff = encoded(&page);
    assert_eq!((diff[0], diff.len()), (1, 1 + 3 + 4095));
}

#[test]
fn marks_are_where_bytes_changed_and_stay_where_they_were() {
    let every_second = changed(|page| page.iter_mut().step_by(2).for_each(|byte| *byte = 4));
    let few = changed(|page| page[17..300].fill(1));
    for page in [every_second, few, [3; PAGE_BYTES], changed(|page| page[4095] = 1)] {
        let diff = encoded(&page);
        let mut marks = [0; PAGE_BYTES];
        marks[5] = 1;
        Diff::parse(&diff).unwrap().mark(&mut marks);
        let expected = |place: usize| u8::from(page[place] != 0 || place == 5);
        assert!(marks.iter().enumerate().all(|(place, mark)| *mark == expected(place)));
    }
}

#[test]
fn the_bound_is_reached_and_not_passed() {
    // What the shortest form needs, for as many runs as there are and as many of them as are long, with one byte between
    // two: a wider gap costs more than the one byte that it can cost in the diff.
    let needed = |runs: usize, long: usize| {
        let changed = PAGE_BYTES - (runs - 1);
        let room = long * 128 + (runs - long) <= changed;
        room.then(|| 1 + changed + (2 * runs + long).min(BITMAP_BYTES))
    };
    let all = (1..=PAGE_BYTES / 2).flat_map(|runs| (0..=runs).filter_map(move |long| needed(runs, long)));
    assert_eq!(all.max(), Some(DIFF_MOST));
    // 242 runs, of which 28 have 128 bytes and one takes what is left.
    let mut page = [9; PAGE_BYTES];
    let mut end = 0;
    for run in 0..241 {
        end += if run < 28 { 128 } else { 1 };
        page[end] = 0;
        end += 1;
    }
    assert_eq!(PAGE_BYTES - end, 3855 - 28 * 128 - 213);
    assert_eq!(encoded(&page).len(), DIFF_MOST);
}

#[test]
fn everything_that_is_no_diff_is_refused_with_what_is_wrong() {
    let bitmap = |first: u8, bytes: usize| {
        let mut diff = vec![0; 513 + bytes];
        (diff[0], diff[1]) = (2, first);
        diff
    };
    let length = |form, expected, found| DiffError::Length { form, expected, found };
    let cases: [(Vec<u8>, DiffError); 17] = [
        (vec![], DiffError::Size { found: 0 }),
        (vec![1], DiffError::Size { found: 1 }),
        (vec![1; DIFF_MOST + 1], DiffError::Size { found: DIFF_MOST + 1 }),
        (vec![0, 0, 1, 5], DiffError::UnknownForm { found: 0 }),
        (vec![4, 0, 1, 5], DiffError::UnknownForm { found: 4 }),
        (vec![1, 0], DiffError::CutOff { at: 1 }),
        (vec![1, 0, 2, 5], DiffError::CutOff { at: 1 }),
        (vec![1, 0, 1, 5, 1], DiffError::CutOff { at: 4 }),
        (vec![1, 0x85, 0, 1, 5], DiffError::Number { at: 1 }),
        (vec![1, 0x85, 0x81, 1, 5], DiffError::Number { at: 1 }),
        (vec![1, 5, 0], DiffError::EmptyRun { at: 1 }),
        (vec![1, 5, 1, 7, 0, 1, 7], DiffError::Touching { at: 4, offset: 6 }),
        (vec![1, 0xff, 0x1f, 2, 7, 7], DiffError::BeyondPage { at: 1, start: 4095, end: 4097 }),
        (vec![3; 4096], length(DiffForm::Whole, 4096, 4095)),
        (vec![2; 400], length(DiffForm::Bitmap, 512, 399)),
        (bitmap(3, 1), length(DiffForm::Bitmap, 514, 513)),
        (bitmap(0, 0), DiffError::EmptyBitmap),
    ];
    for (diff, error) in cases {
        let mut page = [6; PAGE_BYTES];
        assert_eq!(patch(&mut page, &diff), Err(error), "{diff:?}");
        assert_eq!(page, [6; PAGE_BYTES], "{diff:?} changed something");
    }
    let trailing = bitmap(1, 2);
    assert_eq!(Diff::parse(&trailing).unwrap_err(), length(DiffForm::Bitmap, 513, 514));
}

#[test]
fn a_diff_tells_its_form_and_how_much_it_changes() {
    for (page, form, bytes) in [
        (changed(|page| page[9..12].fill(1)), DiffForm::Runs, 3),
        (changed(|page| page.iter_mut().step_by(3).for_each(|byte| *byte = 1)), DiffForm::Bitmap, 1366),
        (changed(|page| page.fill(1)), DiffForm::Whole, 4096),
    ] {
        let diff = encoded(&page);
        let diff = Diff::parse(&diff).unwrap();
        assert_eq!((diff.form(), diff.changed_bytes()), (form, bytes));
    }
}

#[test]
fn the_wire_document_lists_the_same_forms() {
    let document = include_str!("../../../../docs/wire.md");
    let (_, section) = document.split_once("## Diffs\n").expect("docs/wire.md has a section on diffs");
    for (form, name) in [(DiffForm::Runs, "runs"), (DiffForm::Bitmap, "bitmap"), (DiffForm::Whole, "whole")] {
        let row = format!("| {} | {name} |", form as u8);
        assert!(section.lines().any(|line| line.starts_with(&row)), "docs/wire.md lacks the row {row}");
    }
    assert!(section.contains(&format!("2 to {DIFF_MOST} bytes")));
}
