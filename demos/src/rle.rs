//! The run-length encoded pattern format (`.rle`) that Life programs share, read and written.
//!
//! A file is any number of `#` comment lines, a header such as `x = 3, y = 3, rule = B3/S23`, and then runs: an
//! optional count followed by `b` (dead), `o` (alive) or `$` (end of the row), until `!`. What follows the `!` is not
//! read. Cells that a row leaves out are dead. Lines may be wrapped anywhere.
//!
//! Accepted besides: `.` for `b` and `A` for `o` (what programs for several states write), comments between the lines
//! of runs, the rule's other spellings (`b3s23`, `S23/B3`, and `23/3` from before letters were used), Windows line ends,
//! and bytes that are not UTF-8 in comments. A file whose rule is anything else is refused, since it would run wrong.

use std::fmt::Write as _;
use std::io;

use crate::grid::{Grid, GridSize, GridSizeError};

/// Lines that [`write`] produces are at most this long, as the format asks.
const LINE_CHARACTERS_MAX: usize = 70;

/// Why a file was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct RleError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in bytes, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: RleProblem,
}

/// What can be wrong in a pattern file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RleProblem {
    /// The first line that is not a comment is no header, or there is none.
    #[error("expected the header, such as `x = 3, y = 3, rule = B3/S23`")]
    HeaderMissing,
    /// A part of the header is not understood.
    #[error(
        "`{found}` is not a part of a header; expected `x = WIDTH`, `y = HEIGHT` and, if given, `rule = B3/S23`"
    )]
    HeaderMalformed {
        /// The part as it stands in the file.
        found: String,
    },
    /// The width or height is missing, or out of bounds.
    #[error(transparent)]
    Size(GridSizeError),
    /// The pattern is for another rule.
    #[error("the pattern is for the rule `{found}`; only B3/S23, Conway's Life, is played here")]
    Rule {
        /// The rule as it stands in the file.
        found: String,
    },
    /// A byte that stands for nothing.
    #[error(
        "`{found}` means nothing in a pattern; expected a count, b (dead), o (alive), $ (end of row) or ! (end)"
    )]
    UnknownTag {
        /// The byte, escaped if it cannot be printed.
        found: String,
    },
    /// A count of zero or of more cells than any grid has.
    #[error("the run count {found} is out of bounds; a count is from 1 to {}", crate::grid::SIDE_CELLS_MAX)]
    CountOutOfBounds {
        /// The count as it stands in the file.
        found: String,
    },
    /// A count with no cell or row end after it.
    #[error("a run count must be followed by b, o or $")]
    CountWithoutTag,
    /// A live cell past the width that the header gives.
    #[error("a live cell lies outside the {size} cells that the header gives; correct the header")]
    OutsideHeader {
        /// The size that the header gives.
        size: GridSize,
    },
    /// The file ends before the `!`.
    #[error("the file ends without the `!` that ends a pattern; it may be cut short")]
    EndMissing,
}

/// One line of the file, and where it stands.
#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    bytes: &'a [u8],
}

impl Line<'_> {
    fn error(self, index: usize, problem: RleProblem) -> RleError {
        RleError { line: self.number, column: index + 1, problem }
    }

    fn first_byte(self) -> Option<u8> {
        self.bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace())
    }

    /// The text from `start` to `end` without the blanks around it, and the index where it begins.
    fn trimmed(&self, start: usize, end: usize) -> (usize, &[u8]) {
        let part = &self.bytes[start..end];
        (start + part.len() - part.trim_ascii_start().len(), part.trim_ascii())
    }
}

/// Reads a pattern; its size is what the header says.
///
/// # Errors
/// [`RleError`], with the line and column, for anything the format does not allow.
pub fn parse(file: &[u8]) -> Result<Grid, RleError> {
    let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
    let mut lines = file
        .split(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, bytes)| Line { number: index + 1, bytes: bytes.strip_suffix(b"\r").unwrap_or(bytes) });
    let mut last = Line { number: 1, bytes: &[] };
    let size = loop {
        let Some(line) = lines.next() else {
            return Err(last.error(last.bytes.len(), RleProblem::HeaderMissing));
        };
        last = line;
        match line.first_byte() {
            None => {}
            Some(b'#') => check_comment(line)?,
            Some(_) => break parse_header(line)?,
        }
    };
    let mut body = Body::new(size);
    for line in lines {
        last = line;
        if line.first_byte() == Some(b'#') {
            check_comment(line)?;
        } else if body.line(line)? {
            return Ok(body.grid);
        }
    }
    Err(last.error(last.bytes.len(), RleProblem::EndMissing))
}

/// A comment may give the rule: `#r 23/3`.
fn check_comment(line: Line<'_>) -> Result<(), RleError> {
    let hash = line.bytes.iter().position(|&byte| byte == b'#').unwrap_or(0);
    if line.bytes.get(hash + 1) == Some(&b'r') && line.bytes.get(hash + 2).is_none_or(u8::is_ascii_whitespace)
    {
        let (start, rule) = line.trimmed((hash + 2).min(line.bytes.len()), line.bytes.len());
        check_rule(line, start, rule)?;
    }
    Ok(())
}

fn check_rule(line: Line<'_>, start: usize, rule: &[u8]) -> Result<(), RleError> {
    const SPELLINGS: [&[u8]; 6] = [b"b3/s23", b"b3s23", b"s23/b3", b"23/3", b"life", b"conway's life"];
    if SPELLINGS.contains(&rule.to_ascii_lowercase().as_slice()) {
        return Ok(());
    }
    Err(line.error(start, RleProblem::Rule { found: shown(rule) }))
}

/// Text from a file, fit to stand in a message.
fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 60;
    if bytes.len() > SHOWN_BYTES_MAX {
        return format!("{}...", bytes[..SHOWN_BYTES_MAX].escape_ascii());
    }
    bytes.escape_ascii().to_string()
}

fn parse_header(line: Line<'_>) -> Result<GridSize, RleError> {
    let (mut width, mut height) = (None, None);
    let mut from = 0;
    while from <= line.bytes.len() {
        let comma = line.bytes[from..].iter().position(|&byte| byte == b',');
        let mut until = comma.map_or(line.bytes.len(), |comma| from + comma);
        let (start, part) = line.trimmed(from, until);
        let Some(equals) = part.iter().position(|&byte| byte == b'=') else {
            let problem = match from {
                0 => RleProblem::HeaderMissing,
                _ => RleProblem::HeaderMalformed { found: shown(part) },
            };
            return Err(line.error(start, problem));
        };
        let (key, value) =
            (part[..equals].trim_ascii().to_ascii_lowercase(), part[equals + 1..].trim_ascii());
        match (key.as_slice(), number(value)) {
            (b"x", number @ Some(_)) if width.is_none() => width = number,
            (b"y", number @ Some(_)) if height.is_none() => height = number,
            (b"rule", _) => {
                // Rules of bounded planes have commas of their own.
                until = line.bytes.len();
                let (rule_start, rule) = line.trimmed(start + equals + 1, until);
                check_rule(line, rule_start, rule)?;
            }
            _ => return Err(line.error(start, RleProblem::HeaderMalformed { found: shown(part) })),
        }
        from = until + 1;
    }
    let (Some(width), Some(height)) = (width, height) else {
        return Err(line.error(line.bytes.len(), RleProblem::HeaderMissing));
    };
    GridSize::new(width, height).map_err(|error| line.error(0, RleProblem::Size(error)))
}

/// A whole number; one that is too large for 64 bits counts as the largest, which no bound allows.
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The runs read so far.
struct Body {
    grid: Grid,
    column: usize,
    row: usize,
    count: Option<Count>,
}

/// A run count whose cell or row end is still to come.
struct Count {
    digits: Vec<u8>,
    /// A blank has ended the number. The end of a line does not: lines are wrapped anywhere.
    ended: bool,
}

impl Body {
    fn new(size: GridSize) -> Self {
        Self { grid: Grid::new(size), column: 0, row: 0, count: None }
    }

    /// Reads one line of runs; returns whether the pattern ended in it.
    fn line(&mut self, line: Line<'_>) -> Result<bool, RleError> {
        for (index, &byte) in line.bytes.iter().enumerate() {
            match byte {
                b'0'..=b'9' => self.digit(byte).map_err(|problem| line.error(index, problem))?,
                b'!' if self.count.is_some() => return Err(line.error(index, RleProblem::CountWithoutTag)),
                b'!' => return Ok(true),
                b'b' | b'.' | b'o' | b'A' | b'$' => {
                    self.run(byte).map_err(|problem| line.error(index, problem))?;
                }
                _ if byte.is_ascii_whitespace() => {
                    if let Some(count) = &mut self.count {
                        count.ended = true;
                    }
                }
                _ => return Err(line.error(index, RleProblem::UnknownTag { found: shown(&[byte]) })),
            }
        }
        Ok(false)
    }

    fn digit(&mut self, digit: u8) -> Result<(), RleProblem> {
        const DIGITS_MAX: usize = 20;
        let count = self.count.get_or_insert_with(|| Count { digits: Vec::new(), ended: false });
        if count.ended {
            return Err(RleProblem::CountWithoutTag);
        }
        count.digits.push(digit);
        if count.digits.len() > DIGITS_MAX {
            return Err(RleProblem::CountOutOfBounds { found: shown(&count.digits) });
        }
        Ok(())
    }

    fn run(&mut self, tag: u8) -> Result<(), RleProblem> {
        let count = match self.count.take() {
            None => 1,
            Some(count) => {
                let found = shown(&count.digits);
                match found.parse() {
                    Ok(count @ 1..=crate::grid::SIDE_CELLS_MAX) => count,
                    _ => return Err(RleProblem::CountOutOfBounds { found }),
                }
            }
        };
        match tag {
            b'$' => {
                self.row = self.row.saturating_add(count);
                self.column = 0;
            }
            b'o' | b'A' => {
                let size = self.grid.size();
                if self.row >= size.height() || self.column.saturating_add(count) > size.width() {
                    return Err(RleProblem::OutsideHeader { size });
                }
                for column in self.column..self.column + count {
                    self.grid.set(column, self.row, true);
                }
                self.column += count;
            }
            _ => self.column = self.column.saturating_add(count),
        }
        Ok(())
    }
}

/// Writes a grid in the format that [`parse`] reads, rule B3/S23, lines of at most 70 characters.
///
/// # Errors
/// What `out` reports.
pub fn write(grid: &Grid, out: &mut impl io::Write) -> io::Result<()> {
    let size = grid.size();
    writeln!(out, "x = {}, y = {}, rule = B3/S23", size.width(), size.height())?;
    let mut wrapped = Wrapped { out, line: String::new() };
    let mut rows_to_end = 0;
    for row in 0..size.height() {
        let mut column = 0;
        let mut live = grid.live_columns(row).peekable();
        while let Some(start) = live.next() {
            let mut end = start + 1;
            while live.next_if_eq(&end).is_some() {
                end += 1;
            }
            wrapped.run(rows_to_end, '$')?;
            wrapped.run(start - column, 'b')?;
            wrapped.run(end - start, 'o')?;
            (rows_to_end, column) = (0, end);
        }
        rows_to_end += 1;
    }
    wrapped.item("!")?;
    writeln!(wrapped.out, "{}", wrapped.line)
}

/// Puts runs on lines, and never breaks one.
struct Wrapped<'a, W> {
    out: &'a mut W,
    line: String,
}

impl<W: io::Write> Wrapped<'_, W> {
    fn run(&mut self, count: usize, tag: char) -> io::Result<()> {
        match count {
            0 => Ok(()),
            1 => self.item(tag.encode_utf8(&mut [0; 4])),
            _ => self.item(&format!("{count}{tag}")),
        }
    }

    fn item(&mut self, item: &str) -> io::Result<()> {
        if self.line.len() + item.len() > LINE_CHARACTERS_MAX {
            writeln!(self.out, "{}", self.line)?;
            self.line.clear();
        }
        self.line.write_str(item).map_err(io::Error::other)
    }
}
