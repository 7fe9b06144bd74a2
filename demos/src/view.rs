//! The running game drawn on a terminal or as plain text, each cell marked with the node that owns its page.
//!
//! On a terminal every character shows two blocks of cells, one above the other, in the colour of the page's owner:
//! bright where something lives, dark where nothing does, so that the borders between the nodes can be seen. As plain
//! text a live block is the owner's digit (0 to 9, then a to z, A to Z, `+` and `-`), a dead one a dot.
//!
//! Frames are drawn in place on the ordinary screen, not on the alternate one: the last frame stays, and so does what
//! the nodes report on standard error when something goes wrong.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, MoveToColumn, MoveUp, Show};
use crossterm::style::{Color, Print, ResetColor, SetBackgroundColor, SetForegroundColor};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use crossterm::{QueueableCommand, queue};

use crate::grid::Grid;
use crate::picture::{Block, Picture};

/// Shortest time between two frames: more than 25 a second only flickers and slows the game.
const FRAME_INTERVAL: Duration = Duration::from_millis(40);

/// Size of a frame in characters when nobody tells how large the terminal is.
const PLAIN_SIZE: (u16, u16) = (80, 24);

/// Lines below the cells: where the game stands, and which colour is which node.
const CAPTION_LINES: u16 = 2;

/// Bright and dark colours of the nodes, from the 256-colour palette; node 8 looks like node 0 again.
const COLOURS: [(u8, u8); 8] =
    [(203, 52), (83, 22), (75, 17), (227, 58), (213, 53), (87, 23), (215, 94), (255, 238)];

const OWNER_DIGITS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-";

/// How frames are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Style {
    /// In place, in colour; the output is a terminal.
    Colour,
    /// In place, owners as digits; the output is a terminal without colours.
    Digits,
    /// One frame after the other, owners as digits; the output may be anything.
    Plain,
}

impl Style {
    fn is_terminal(self) -> bool {
        self != Self::Plain
    }
}

/// What a frame shows besides the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caption {
    /// Generations that have passed.
    pub generation: u64,
    /// Generations that the run will have at its end.
    pub generations: u64,
    /// Nodes that take part.
    pub nodes: usize,
}

/// Draws frames on `out`; dropping it gives the terminal back as it was.
pub struct View<W: Write> {
    out: W,
    style: Style,
    /// Asks the terminal for its columns and rows.
    measure: Box<dyn Fn() -> Option<(u16, u16)>>,
    generation_time_min: Duration,
    last_frame: Option<Instant>,
    last_generation: Option<Instant>,
    /// Size of the terminal and height of the frame that stands above the cursor, in characters.
    on_screen: Option<((u16, u16), u16)>,
}

impl<W: Write> View<W> {
    /// A view that draws frames of at most 80 by 24 characters as fast as generations pass, but not more than 25 a
    /// second.
    pub fn new(out: W, style: Style) -> Self {
        Self {
            out,
            style,
            measure: Box::new(|| None),
            generation_time_min: Duration::ZERO,
            last_frame: None,
            last_generation: None,
            on_screen: None,
        }
    }

    /// Draws frames as large as the terminal is: `measure` is asked for its columns and rows before each frame.
    #[must_use]
    pub fn measured_by(mut self, measure: impl Fn() -> Option<(u16, u16)> + 'static) -> Self {
        self.measure = Box::new(measure);
        self
    }

    /// Lets at most this many generations pass in a second; zero counts as one.
    #[must_use]
    pub fn generations_per_second_max(mut self, rate: u32) -> Self {
        self.generation_time_min = Duration::from_secs(1) / rate.max(1);
        self
    }

    /// Whether it is time for another frame.
    pub fn is_due(&self) -> bool {
        self.last_frame.is_none_or(|last| last.elapsed() >= FRAME_INTERVAL)
    }

    /// Waits until the next generation may pass.
    pub fn pace(&mut self) {
        if let Some(last) = self.last_generation {
            std::thread::sleep(self.generation_time_min.saturating_sub(last.elapsed()));
        }
        self.last_generation = Some(Instant::now());
    }

    /// Draws one frame.
    ///
    /// The packed rows of the grid lie in shared memory one after the other from the start of a page on; `owner` is
    /// asked for the owner of each page that is drawn, counted from that one.
    ///
    /// # Errors
    /// What `owner` reports, or [`io::Error`] made into `E` if the frame cannot be written.
    pub fn draw<E: From<io::Error>>(
        &mut self,
        grid: &Grid,
        caption: Caption,
        owner: impl FnMut(usize) -> Result<Option<usize>, E>,
    ) -> Result<(), E> {
        let size = (self.measure)().filter(|&(columns, rows)| columns > 0 && rows > 0).unwrap_or(PLAIN_SIZE);
        // One line stays free for the cursor: a frame that fills the screen would scroll it.
        let lines_max = usize::from(size.1.saturating_sub(CAPTION_LINES + 1).max(1));
        let blocks_per_line = if self.style == Style::Colour { 2 } else { 1 };
        let picture = Picture::new(grid, usize::from(size.0), lines_max * blocks_per_line, owner)?;
        let lines = self.lines(&picture, &captions(caption, grid, &picture), usize::from(size.0))?;
        self.put(&lines, size)?;
        self.last_frame = Some(Instant::now());
        Ok(())
    }

    /// The frame's lines, with colours but without anything that moves the cursor.
    fn lines(&self, picture: &Picture, captions: &[String], columns: usize) -> io::Result<Vec<Vec<u8>>> {
        let rows: Vec<&[Block]> = picture.rows().collect();
        let mut lines = if self.style == Style::Colour {
            rows.chunks(2).map(coloured_line).collect::<io::Result<Vec<_>>>()?
        } else {
            rows.iter().map(|row| row.iter().map(|&block| digit(block)).collect()).collect()
        };
        lines.extend(
            captions.iter().map(|caption| caption.chars().take(columns).collect::<String>().into_bytes()),
        );
        if self.style == Style::Colour
            && let Some(legend) = lines.last_mut()
        {
            *legend = coloured_legend(legend)?;
        }
        Ok(lines)
    }

    fn put(&mut self, lines: &[Vec<u8>], size: (u16, u16)) -> io::Result<()> {
        if !self.style.is_terminal() {
            for line in lines {
                self.out.write_all(line)?;
                self.out.write_all(b"\n")?;
            }
            self.out.write_all(b"\n")?;
            return self.out.flush();
        }
        let height = lines.len() as u16;
        // The frame goes out in one write: whatever else is written to the terminal falls between frames.
        let mut frame = Vec::new();
        queue!(frame, BeginSynchronizedUpdate, Hide)?;
        match self.on_screen {
            Some((last_size, last_height)) if last_size == size && last_height == height => {
                queue!(frame, MoveToColumn(0), MoveUp(height))?;
            }
            // A terminal that changed its size has broken its lines anew.
            Some(_) => {
                queue!(frame, Clear(ClearType::All), MoveTo(0, 0))?;
            }
            None => {}
        }
        for line in lines {
            frame.write_all(line)?;
            queue!(frame, ResetColor, Clear(ClearType::UntilNewLine), Print("\r\n"))?;
        }
        queue!(frame, EndSynchronizedUpdate)?;
        self.on_screen = Some((size, height));
        self.out.write_all(&frame)?;
        self.out.flush()
    }
}

impl<W: Write> Drop for View<W> {
    fn drop(&mut self) {
        if self.on_screen.is_some() {
            // There is nobody left to tell if the terminal is gone.
            let _ = restore(&mut self.out);
        }
    }
}

/// Gives a terminal back its cursor and colours, for a view that was killed before it could.
///
/// # Errors
/// What `out` reports.
pub fn restore(out: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    queue!(bytes, EndSynchronizedUpdate, ResetColor, Show)?;
    out.write_all(&bytes)?;
    out.flush()
}

fn captions(caption: Caption, grid: &Grid, picture: &Picture) -> [String; CAPTION_LINES as usize] {
    let mut status = format!(
        "generation {} of {}, population {}",
        caption.generation,
        caption.generations,
        grid.population()
    );
    if picture.scale() > 1 {
        // Writing to a string cannot fail.
        let _ = write!(status, ", blocks of {0}x{0} cells", picture.scale());
    }
    let mut legend = "owned by node".to_owned();
    for node in 0..caption.nodes {
        let _ = write!(legend, " {node}");
    }
    [status, legend]
}

/// The legend with each node's number in its colour.
fn coloured_legend(legend: &[u8]) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    for word in String::from_utf8_lossy(legend).split(' ') {
        if let Ok(node) = word.parse() {
            line.queue(SetForegroundColor(colour(Block { alive: true, owner: Some(node) })))?;
        }
        queue!(line, Print(word), Print(' '))?;
    }
    Ok(line)
}

fn digit(block: Block) -> u8 {
    match block {
        Block { alive: false, .. } => b'.',
        Block { owner: Some(node), .. } => OWNER_DIGITS.get(node).copied().unwrap_or(b'?'),
        Block { owner: None, .. } => b'?',
    }
}

fn colour(block: Block) -> Color {
    let Some(node) = block.owner else { return if block.alive { Color::White } else { Color::Reset } };
    let (bright, dark) = COLOURS[node % COLOURS.len()];
    Color::AnsiValue(if block.alive { bright } else { dark })
}

/// One line of characters from a row of blocks and, unless it is the last, the row below it.
fn coloured_line(rows: &[&[Block]]) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut current = (Color::Reset, Color::Reset);
    for (column, &upper) in rows[0].iter().enumerate() {
        let lower = rows.get(1).map_or(Color::Reset, |row| colour(row[column]));
        let upper = colour(upper);
        // The terminal's own background has no foreground counterpart: turn the character upside down.
        let (character, wanted) =
            if upper == Color::Reset { ('▄', (lower, upper)) } else { ('▀', (upper, lower)) };
        if wanted.0 != current.0 {
            line.queue(SetForegroundColor(wanted.0))?;
        }
        if wanted.1 != current.1 {
            line.queue(SetBackgroundColor(wanted.1))?;
        }
        current = wanted;
        line.queue(Print(if wanted == (Color::Reset, Color::Reset) { ' ' } else { character }))?;
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::GridSize;

    const CAPTION: Caption = Caption { generation: 7, generations: 9, nodes: 2 };

    fn grid() -> Grid {
        let mut grid = Grid::new(GridSize::new(3, 3).expect("a valid size"));
        for (column, row) in [(1, 0), (2, 1), (0, 2)] {
            grid.set(column, row, true);
        }
        grid
    }

    fn drawn(style: Style, frames: usize) -> String {
        let mut out = Vec::new();
        let mut view = View::new(&mut out, style);
        for _ in 0..frames {
            view.draw(&grid(), CAPTION, |_| Ok::<_, io::Error>(Some(1))).expect("a vector takes everything");
        }
        drop(view);
        String::from_utf8(out).expect("frames are text")
    }

    #[test]
    fn plain_frames_show_owners_and_no_escape_sequences() {
        let frame = ".1.\n..1\n1..\ngeneration 7 of 9, population 3\nowned by node 0 1\n\n";
        assert_eq!(drawn(Style::Plain, 2), frame.repeat(2));
    }

    #[test]
    fn frames_on_a_terminal_replace_each_other_and_the_cursor_comes_back() {
        for style in [Style::Colour, Style::Digits] {
            let text = drawn(style, 3);
            assert_eq!(text.matches("\x1b[?25l").count(), 3, "the cursor is hidden: {text:?}");
            let lines = if style == Style::Colour { 2 } else { 3 } + usize::from(CAPTION_LINES);
            assert_eq!(text.matches(&format!("\x1b[{lines}A")).count(), 2, "drawn in place: {text:?}");
            assert!(text.ends_with("\x1b[?25h"), "the cursor is shown at the end: {text:?}");
        }
        assert_eq!(drawn(Style::Colour, 0), "", "a view that drew nothing leaves the terminal alone");
    }

    #[test]
    fn frames_fit_the_terminal_and_follow_its_size() {
        let mut out = Vec::new();
        let sizes = std::cell::RefCell::new(vec![(2, 4), (2, 4), (80, 24), (0, 0), (1, 1)]);
        let mut view = View::new(&mut out, Style::Digits).measured_by(move || sizes.borrow_mut().pop());
        for _ in 0..5 {
            view.draw(&grid(), CAPTION, |_| Ok::<_, io::Error>(Some(1))).expect("a vector takes everything");
        }
        drop(view);
        let text = String::from_utf8(out).expect("frames are text");
        // From 1x1 to 80x24, which (0, 0) counts as, and on to 2x4.
        assert_eq!(text.matches("\x1b[2J").count(), 2, "{text:?}");
        assert_eq!(text.matches("generation 7 of 9, population 3").count(), 2, "{text:?}");
        assert!(text.contains("\x1b[3A"), "one row of blocks and two lines of caption: {text:?}");
    }

    #[test]
    fn cells_have_the_colour_of_their_owner() {
        let row = [Some(0), Some(1), None].map(|owner| Block { alive: true, owner });
        let below = [Some(0), Some(1), None].map(|owner| Block { alive: false, owner });
        let line = String::from_utf8(coloured_line(&[&row, &below]).expect("in memory")).expect("text");
        for sequence in ["38;5;203m", "48;5;52m", "38;5;83m", "48;5;22m"] {
            assert!(line.contains(sequence), "{line:?} should contain {sequence}");
        }
        assert_eq!(line.matches('▀').count(), 3);
    }

    #[test]
    fn owners_have_one_character_each() {
        let block = |node| digit(Block { alive: true, owner: Some(node) });
        assert_eq!((block(0), block(10), block(63), block(64)), (b'0', b'a', b'-', b'?'));
    }
}
