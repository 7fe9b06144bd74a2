//! The content of a page: text up to the first zero byte.

use std::fmt;

/// The size of a page in bytes.
pub const PAGE_BYTES: usize = 4096;

/// The longest message in bytes: a page less the zero byte that ends it.
pub const MAX_BYTES: usize = PAGE_BYTES - 1;

/// A message that fits a page. It is bytes: what is not UTF-8 is kept as it was typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    text: Vec<u8>,
    cut: Option<Cut>,
}

/// Why a message is shorter than what was typed. Its `Display` is the notice for the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cut {
    /// The message had `typed_bytes`; only `kept_bytes` fit.
    TooLong {
        /// The bytes of the line that was read.
        typed_bytes: usize,
        /// The bytes of the message now.
        kept_bytes: usize,
    },
    /// The terminal handed over as much as it can of one line; whether there was more cannot be known.
    TerminalLimit {
        /// The bytes of the message now.
        kept_bytes: usize,
    },
    /// A zero byte ends the content of a page, and the line had one after `kept_bytes`.
    ZeroByte {
        /// The bytes of the message now.
        kept_bytes: usize,
    },
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::TooLong { typed_bytes, kept_bytes } => write!(
                f,
                "The message has {typed_bytes} bytes, a page holds {MAX_BYTES}: cut after {kept_bytes} bytes."
            ),
            Cut::TerminalLimit { kept_bytes } => write!(
                f,
                "A terminal hands over at most {MAX_BYTES} bytes of a line: the message has {kept_bytes} bytes, and \
                 anything typed beyond is cut."
            ),
            Cut::ZeroByte { kept_bytes } => {
                write!(f, "A zero byte ends the message: cut after {kept_bytes} bytes.")
            }
        }
    }
}

impl Message {
    /// The message in a line of `total_bytes`, of which `line` is all or at least the first `PAGE_BYTES`. A terminal's
    /// line of [`MAX_BYTES`] was probably cut by the kernel, perhaps inside a character.
    pub fn from_line(line: &[u8], total_bytes: usize, from_terminal: bool) -> Message {
        let mut text = line;
        let mut cut = None;
        if total_bytes > MAX_BYTES {
            text = whole_characters(&line[..line.len().min(MAX_BYTES)]);
            cut = Some(Cut::TooLong { typed_bytes: total_bytes, kept_bytes: text.len() });
        } else if from_terminal && total_bytes == MAX_BYTES {
            text = whole_characters(line);
            cut = Some(Cut::TerminalLimit { kept_bytes: text.len() });
        }
        if let Some(kept_bytes) = text.iter().position(|&byte| byte == 0) {
            text = &text[..kept_bytes];
            cut = Some(Cut::ZeroByte { kept_bytes });
        }
        Message { text: text.to_vec(), cut }
    }

    /// The bytes of the message, at most [`MAX_BYTES`], none of them zero.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Why the message is shorter than what was typed.
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// The whole page that says this message and nothing else: the rest is zeros, so that nothing of an older and longer
    /// message stays behind.
    pub fn page(&self) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        page[..self.text.len()].copy_from_slice(&self.text);
        page
    }
}

/// What a page says: its bytes up to the first zero.
pub fn content(page: &[u8; PAGE_BYTES]) -> &[u8] {
    let end = page.iter().position(|&byte| byte == 0).unwrap_or(PAGE_BYTES);
    &page[..end]
}

/// `text` without the last character if that one is incomplete. Bytes that are no UTF-8 at all stay.
fn whole_characters(text: &[u8]) -> &[u8] {
    let continuations = text.iter().rev().take_while(|&&byte| byte & 0xC0 == 0x80).count();
    let Some(lead_at) = text.len().checked_sub(continuations + 1) else { return text };
    let needed = match text[lead_at] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return text,
    };
    if continuations + 1 < needed { &text[..lead_at] } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_stream(line: &[u8]) -> Message {
        Message::from_line(line, line.len(), false)
    }

    #[test]
    fn a_message_that_fits_is_kept_to_the_byte() {
        let longest = vec![b'x'; MAX_BYTES];
        for line in [&b""[..], b"Hello Userfaultfd!", "žluťoučký kůň".as_bytes(), b"\xff\xc3", &longest]
        {
            let message = from_stream(line);
            assert_eq!(message.text(), line);
            assert_eq!(message.cut(), None);
            assert_eq!(content(&message.page()), line);
            assert!(message.page()[line.len()..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_long_message_is_cut_at_a_character_boundary() {
        for (character, kept) in [("a", 4095), ("é", 4094), ("€", 4095), ("🦀", 4092)] {
            let line = character.repeat(5000);
            let message = from_stream(line.as_bytes());
            assert_eq!(message.text().len(), kept, "{character}");
            assert!(std::str::from_utf8(message.text()).is_ok());
            assert_eq!(
                message.cut(),
                Some(&Cut::TooLong { typed_bytes: character.len() * 5000, kept_bytes: kept })
            );
        }
        // Every alignment of a four-byte character across the limit.
        for lead in 4088..=4095 {
            let line = "a".repeat(lead) + "🦀" + "tail that does not fit";
            let kept = if lead + 4 <= MAX_BYTES { MAX_BYTES } else { lead };
            assert_eq!(from_stream(line.as_bytes()).text(), &line.as_bytes()[..kept], "lead {lead}");
        }
    }

    #[test]
    fn exactly_one_byte_too_many() {
        let message = from_stream(&[b'y'; PAGE_BYTES]);
        assert_eq!(message.text().len(), MAX_BYTES);
        assert!(message.cut().is_some());
    }

    #[test]
    fn bytes_that_are_no_text_are_cut_at_the_limit() {
        for byte in [0x80, 0xFF, 0xC0] {
            assert_eq!(from_stream(&[byte; 5000]).text().len(), MAX_BYTES);
        }
    }

    #[test]
    fn a_full_line_from_a_terminal_may_have_been_longer() {
        let line = "a".repeat(4094) + "é";
        let message = Message::from_line(&line.as_bytes()[..MAX_BYTES], MAX_BYTES, true);
        assert_eq!(message.text(), &line.as_bytes()[..4094]);
        assert_eq!(message.cut(), Some(&Cut::TerminalLimit { kept_bytes: 4094 }));
        assert_eq!(Message::from_line(b"short", 5, true).cut(), None);
    }

    #[test]
    fn a_zero_byte_ends_a_message() {
        let message = from_stream(b"one\0two");
        assert_eq!(message.text(), b"one");
        assert_eq!(message.cut(), Some(&Cut::ZeroByte { kept_bytes: 3 }));
    }

    #[test]
    fn a_page_without_a_zero_byte_is_all_content() {
        assert_eq!(content(&[b'z'; PAGE_BYTES]).len(), PAGE_BYTES);
        assert_eq!(content(&[0; PAGE_BYTES]), b"");
    }
}
