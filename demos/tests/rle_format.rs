//! A pattern file is either read exactly or refused with the place that is wrong: a pattern that is silently misread
//! would make a shared run look broken when it is not.

use pagemesh_demos::rle::{self, RleError, RleProblem};
use pagemesh_demos::{Grid, GridSize};
use proptest::prelude::*;

fn size(width: u64, height: u64) -> GridSize {
    GridSize::new(width, height).expect("a valid size")
}

/// A picture of the pattern: `O` for alive, `.` for dead.
fn picture(file: impl AsRef<[u8]>) -> Vec<String> {
    let grid = rle::parse(file.as_ref()).unwrap_or_else(|error| panic!("{error}"));
    (0..grid.size().height())
        .map(|row| {
            (0..grid.size().width())
                .map(|column| if grid.is_alive(column, row) { 'O' } else { '.' })
                .collect()
        })
        .collect()
}

fn refused(file: impl AsRef<[u8]>) -> RleError {
    rle::parse(file.as_ref()).expect_err("the file is wrong")
}

#[track_caller]
fn assert_refused(file: impl AsRef<[u8]>, line: usize, column: usize, says: &str) {
    let error = refused(file);
    assert_eq!((error.line, error.column), (line, column), "{error}");
    assert!(error.to_string().contains(says), "`{error}` should say `{says}`");
    assert!(error.to_string().starts_with(&format!("line {line}, column {column}: ")), "{error}");
}

const GLIDER: [&str; 3] = [".O.", "..O", "OOO"];

#[test]
fn a_plain_file_is_read() {
    assert_eq!(picture("x = 3, y = 3, rule = B3/S23\nbob$2bo$3o!\n"), GLIDER);
}

#[test]
fn what_real_files_contain_is_read() {
    let file = b"#N Glider\r\n#O Someone, caf\xE9\r\n#CXRLE Pos=0,-1\r\n#C any, thing = at all!\r\n\r\n\
                 x=3,y=3,rule=b3/s23\r\nbo\r\n$2b\r\n# between\r\n\r\no\t$ 3o ! and whatever follows: 5z\r\n#C end";
    assert_eq!(picture(file), GLIDER);
    assert_eq!(picture("\u{FEFF}x = 3, y = 3\n.A.$..A$3A!"), GLIDER);
    assert_eq!(picture("#r 23/3\nX = 3 , Y = 3\nbob$2bo$3o!"), GLIDER);
}

#[test]
fn lines_are_wrapped_anywhere_even_within_a_count() {
    assert_eq!(picture("x = 14, y = 1\n1\n2b2\no!"), ["............OO"]);
}

#[test]
fn rows_may_be_skipped_and_left_short() {
    assert_eq!(picture("x = 2, y = 5\n$o3$bo$!"), ["..", "O.", "..", "..", ".O"]);
    assert_eq!(picture("x = 2, y = 1\n!"), [".."]);
    // Dead cells and row ends past the header change nothing.
    assert_eq!(picture("x = 2, y = 1\no9b$5b$$!"), ["O."]);
}

#[test]
fn every_spelling_of_the_rule_is_known_and_no_other_rule() {
    for rule in ["B3/S23", "b3/s23", "B3S23", "S23/B3", "23/3", "Life"] {
        assert_eq!(picture(format!("x = 3, y = 3, rule = {rule}\nbob$2bo$3o!")), GLIDER, "{rule}");
    }
    for rule in ["B36/S23", "3/23", "B3/S2", "B3/S23:T10,10", "HighLife", "", "B3/S23/3"] {
        assert_refused(format!("#C\nx = 3, y = 3, rule = {rule}\no!"), 2, 22, "B3/S23");
    }
    assert_refused("#r 1357/1357\nx = 3, y = 3\no!", 1, 4, "1357/1357");
}

#[test]
fn errors_name_the_line_and_the_column() {
    assert_refused("", 1, 1, "expected the header");
    assert_refused("#C only a comment", 1, 18, "expected the header");
    assert_refused("bob$2bo$3o!", 1, 1, "expected the header");
    assert_refused("#N a\n  bob$2bo$3o!", 2, 3, "expected the header");
    assert_refused("x = 3\no!", 1, 6, "expected the header");
    assert_refused("x = 3, y = 3, z = 1\no!", 1, 15, "`z = 1`");
    assert_refused("x = 3, x = 3\no!", 1, 8, "`x = 3`");
    assert_refused("x = -3, y = 3\no!", 1, 1, "`x = -3`");
    assert_refused("x = 3, y = \no!", 1, 8, "`y =`");
    assert_refused("x = 3, y = 3,\no!", 1, 14, "part of a header");
    assert_refused("x = 0, y = 3\no!", 1, 1, "0x3");
    assert_refused("x = 3, y = 99999999999999999999\no!", 1, 1, "32768");
    assert_refused("x = 3, y = 3\nbob$2bo$3o", 2, 11, "without the `!`");
    assert_refused("x = 3, y = 3\nbob$\n2bo$z3o!", 3, 5, "`z`");
    assert_refused("x = 3, y = 3\nbob$\n2bo$é!".as_bytes(), 3, 5, "\\xc3");
    assert_refused("x = 3, y = 3\nB3o!", 2, 1, "`B`");
    assert_refused("x = 3, y = 3\n4o!", 2, 2, "3x3");
    assert_refused("x = 3, y = 3\n3$o!", 2, 3, "3x3");
    assert_refused("x = 3, y = 3\n0o!", 2, 2, "run count 0");
    assert_refused("x = 3, y = 3\no99999b!", 2, 7, "run count 99999");
    assert_refused(format!("x = 3, y = 3\n{}o!", "9".repeat(500)), 2, 21, "out of bounds");
    assert_refused("x = 3, y = 3\no3!", 2, 3, "followed by");
    assert_refused("x = 3, y = 3\n1 2b!", 2, 3, "followed by");
}

#[test]
fn a_refusal_can_be_told_apart_by_a_program() {
    assert!(
        matches!(refused("x = 1, y = 1, rule = B2/S").problem, RleProblem::Rule { found } if found == "B2/S")
    );
}

#[test]
fn the_writer_keeps_lines_short() {
    let mut grid = Grid::new(size(501, 101));
    for row in 0..101 {
        (0..501)
            .filter(|column| (column * column + row) % 3 == 0)
            .for_each(|column| grid.set(column, row, true));
    }
    let mut file = Vec::new();
    rle::write(&grid, &mut file).expect("a vector takes everything");
    let text = String::from_utf8(file).expect("the format is ASCII");
    assert!(text.starts_with("x = 501, y = 101, rule = B3/S23\n"), "{text}");
    assert!(text.ends_with("!\n"));
    assert!(text.lines().all(|line| line.len() <= 70));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        width in 1_u64..150,
        height in 1_u64..20,
        cells in prop::collection::vec((0_usize..150, 0_usize..20), 0..300),
    ) {
        let mut grid = Grid::new(size(width, height));
        for (column, row) in cells {
            if column < grid.size().width() && row < grid.size().height() {
                grid.set(column, row, true);
            }
        }
        let mut file = Vec::new();
        rle::write(&grid, &mut file).expect("a vector takes everything");
        prop_assert!(rle::parse(&file) == Ok(grid));
    }

    #[test]
    fn no_file_makes_the_reader_panic(body in "[0-9bo$!# \n\tAz.,=xy]{0,80}", header in any::<bool>()) {
        let file = if header { format!("x = 9, y = 9\n{body}") } else { body };
        let lines = file.split('\n').count();
        if let Err(error) = rle::parse(file.as_bytes()) {
            prop_assert!((1..=lines).contains(&error.line));
        }
    }
}
