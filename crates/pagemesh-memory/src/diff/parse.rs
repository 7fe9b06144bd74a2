//! Reading a diff, which comes from another node and may be anything.

use super::{BITMAP_BYTES, DIFF_MOST};
use crate::{PAGE_BYTES, PageBytes};
use std::fmt;

/// How a diff says which bytes changed; the first byte of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum DiffForm {
    /// Runs of changed bytes.
    Runs = 1,
    /// A bit for each byte of the page.
    Bitmap = 2,
    /// All of them.
    Whole = 3,
}

impl fmt::Display for DiffForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiffForm::Runs => "runs",
            DiffForm::Bitmap => "bitmap",
            DiffForm::Whole => "whole page",
        })
    }
}

/// What is wrong with a diff. Its sender is broken, or no node of this mesh: nothing of the diff was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// It has none of the lengths that a diff can have.
    #[error(
        "asked for a diff of 2 to {DIFF_MOST} bytes and found one of {found}; drop the node that sent it"
    )]
    Size {
        /// Its bytes.
        found: usize,
    },
    /// It begins with something else.
    #[error("asked for a diff, form 1 to 3, and found form {found}; drop the node that sent it")]
    UnknownForm {
        /// The first byte.
        found: u8,
    },
    /// What its beginning says and its length do not fit.
    #[error(
        "a diff by {form} has {found} bytes after its form, but {expected} belong there; drop the node that sent it"
    )]
    Length {
        /// By which form.
        form: DiffForm,
        /// What would fit.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// It ends within a run.
    #[error("a diff by runs ends within the run that begins at its byte {at}; drop the node that sent it")]
    CutOff {
        /// Where the run begins in the diff.
        at: usize,
    },
    /// A number of a run takes two bytes where one does, or more than two.
    #[error(
        "the run at byte {at} of a diff has a number that is not written as it should be; drop the node that sent it"
    )]
    Number {
        /// Where the run begins in the diff.
        at: usize,
    },
    /// A run has no bytes.
    #[error("the run at byte {at} of a diff is empty; drop the node that sent it")]
    EmptyRun {
        /// Where the run begins in the diff.
        at: usize,
    },
    /// A run goes on where the one before it ended.
    #[error(
        "the run at byte {at} of a diff touches the one before it, at byte {offset} of the page; drop the node that sent it"
    )]
    Touching {
        /// Where the run begins in the diff.
        at: usize,
        /// Where it begins in the page.
        offset: usize,
    },
    /// A run goes beyond the page.
    #[error(
        "the run at byte {at} of a diff goes from byte {start} to byte {end} of a page of {PAGE_BYTES}; drop the node that sent it"
    )]
    BeyondPage {
        /// Where the run begins in the diff.
        at: usize,
        /// Where it begins in the page.
        start: usize,
        /// Where it would end.
        end: usize,
    },
    /// No bit of a bitmap is set.
    #[error("a diff by bitmap names no byte; drop the node that sent it")]
    EmptyBitmap,
}

/// A diff that was checked.
#[derive(Clone, Copy, Debug)]
pub struct Diff<'a> {
    pub(super) body: Body<'a>,
}

/// A diff by its form. What its constructor checked holds: applying it stays within the page.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    Runs(&'a [u8]),
    /// As many bytes as there are bits.
    Bitmap(&'a [u8; BITMAP_BYTES], &'a [u8]),
    Whole(&'a [u8; PAGE_BYTES]),
}

impl<'a> Diff<'a> {
    /// Checks all of it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(diff: &'a [u8]) -> Result<Diff<'a>, DiffError> {
        let (form, body) = match diff {
            [form, body @ ..] if !body.is_empty() && diff.len() <= DIFF_MOST => (*form, body),
            _ => return Err(DiffError::Size { found: diff.len() }),
        };
        let body = match form {
            1 => Body::Runs(checked_runs(body)?),
            2 => checked_bitmap(body)?,
            3 => Body::Whole(body.try_into().map_err(|_| DiffError::Length {
                form: DiffForm::Whole,
                expected: PAGE_BYTES,
                found: body.len(),
            })?),
            found => return Err(DiffError::UnknownForm { found }),
        };
        Ok(Diff { body })
    }

    /// Its form.
    pub fn form(&self) -> DiffForm {
        match self.body {
            Body::Runs(_) => DiffForm::Runs,
            Body::Bitmap(..) => DiffForm::Bitmap,
            Body::Whole(_) => DiffForm::Whole,
        }
    }

    /// Writes a 1 to each byte of `marks` whose place it names, and leaves the others.
    pub fn mark(&self, marks: &mut PageBytes) {
        match self.body {
            Body::Runs(runs) => {
                for run in Runs::new(runs).flatten() {
                    marks[run.offset..run.offset + run.bytes.len()].fill(1);
                }
            }
            Body::Bitmap(bitmap, _) => {
                for (place, mark) in marks.iter_mut().enumerate() {
                    *mark |= bitmap[place / 8] >> (place % 8) & 1;
                }
            }
            Body::Whole(_) => marks.fill(1),
        }
    }

    /// How many bytes it changes: 1 to [`PAGE_BYTES`].
    pub fn changed_bytes(&self) -> usize {
        match self.body {
            Body::Runs(runs) => Runs::new(runs).flatten().map(|run| run.bytes.len()).sum(),
            Body::Bitmap(_, bytes) => bytes.len(),
            Body::Whole(bytes) => bytes.len(),
        }
    }
}

fn checked_runs(body: &[u8]) -> Result<&[u8], DiffError> {
    Runs::new(body).try_for_each(|run| run.map(drop))?;
    Ok(body)
}

fn checked_bitmap(body: &[u8]) -> Result<Body<'_>, DiffError> {
    let form = DiffForm::Bitmap;
    let Some((bitmap, bytes)) = body.split_first_chunk::<BITMAP_BYTES>() else {
        return Err(DiffError::Length { form, expected: BITMAP_BYTES, found: body.len() });
    };
    let words = bitmap.as_chunks::<8>().0.iter();
    let named: usize = words.map(|word| u64::from_le_bytes(*word).count_ones() as usize).sum();
    if named != bytes.len() {
        return Err(DiffError::Length { form, expected: BITMAP_BYTES + named, found: body.len() });
    }
    if named == 0 { Err(DiffError::EmptyBitmap) } else { Ok(Body::Bitmap(bitmap, bytes)) }
}

/// Some changed bytes, and where they begin in the page.
pub(super) struct Run<'a> {
    pub(super) offset: usize,
    pub(super) bytes: &'a [u8],
}

/// The runs of a diff, each checked when it comes.
pub(super) struct Runs<'a> {
    body: &'a [u8],
    position: usize,
    /// Where the last run ended in the page.
    last_end: usize,
}

impl<'a> Runs<'a> {
    pub(super) fn new(body: &'a [u8]) -> Runs<'a> {
        Runs { body, position: 0, last_end: 0 }
    }

    fn read(&mut self) -> Result<Run<'a>, DiffError> {
        // In the diff, a byte comes before the body.
        let at = self.position + 1;
        let gap = self.number(at)?;
        let bytes = self.number(at)?;
        let (start, end) = (self.last_end + gap, self.last_end + gap + bytes);
        if bytes == 0 {
            return Err(DiffError::EmptyRun { at });
        }
        if gap == 0 && self.last_end != 0 {
            return Err(DiffError::Touching { at, offset: start });
        }
        if end > PAGE_BYTES {
            return Err(DiffError::BeyondPage { at, start, end });
        }
        let found = self.body.get(self.position..self.position + bytes).ok_or(DiffError::CutOff { at })?;
        self.position += bytes;
        self.last_end = end;
        Ok(Run { offset: start, bytes: found })
    }

    /// The next number: at most 16383.
    fn number(&mut self, at: usize) -> Result<usize, DiffError> {
        let mut byte = || {
            let byte = *self.body.get(self.position).ok_or(DiffError::CutOff { at })?;
            self.position += 1;
            Ok(usize::from(byte))
        };
        let low = byte()?;
        if low < 128 {
            return Ok(low);
        }
        match byte()? {
            high @ 1..128 => Ok(low - 128 + (high << 7)),
            _ => Err(DiffError::Number { at }),
        }
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Result<Run<'a>, DiffError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.body.len() {
            return None;
        }
        let run = self.read();
        if run.is_err() {
            self.position = self.body.len();
        }
        Some(run)
    }
}
