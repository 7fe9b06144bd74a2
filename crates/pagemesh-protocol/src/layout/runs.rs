//! Runs: many messages about neighbouring pages, said by one.
//!
//! A run stands for its parts, one message for each of its pages, whose pages and request numbers follow each other; it means what
//! they would mean, one after the other. The engine knows nothing of it: whoever sends makes a run of what it says, and whoever
//! receives takes it apart.

use super::{DecodeError, FIXED_BYTES, Fields, access_bit, on_page};
use crate::ids::{Access, PageAddress, RequestId, View};
use crate::limits;
use crate::message::Message;

/// First byte of each; no message has these, and they are for ever.
const PAGE_REQUESTS: u8 = 205;
const PAGES: u8 = 206;

/// What the parts of a [`Run`] are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunKind {
    /// [`Message::PageRequest`].
    Requests,
    /// [`Message::Data`], whose pages are the payload, in order.
    Data,
}

/// So many messages about neighbouring pages in the place of one each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// What they are.
    pub kind: RunKind,
    /// The page of the first.
    pub first: PageAddress,
    /// The request number of the first.
    pub request: RequestId,
    /// What they all ask for, or bring.
    pub access: Access,
    /// How many there are, 1 to [`limits::RUN_PAGES`]; requests are at least 2.
    pub count: u32,
}

impl Run {
    /// Bytes of an encoded run.
    pub const BYTES: usize = FIXED_BYTES;

    /// A run of `message` alone, to be lengthened; `None` for a message that none is made of.
    pub fn of(message: &Message) -> Option<Run> {
        let (kind, first, request, access) = match *message {
            Message::PageRequest { page, request, access } => (RunKind::Requests, page, request, access),
            Message::Data { page, request, access } => (RunKind::Data, page, request, access),
            _ => return None,
        };
        Some(Run { kind, first, request, access, count: 1 })
    }

    /// Adds `message` if it is what comes next and there is room; false when it stands for itself.
    pub fn add(&mut self, message: &Message) -> bool {
        let is_next = self.count < limits::RUN_PAGES && self.part(self.count) == *message;
        self.count += u32::from(is_next);
        is_next
    }

    /// The message for the page that is `index` pages after the first.
    pub fn part(&self, index: u32) -> Message {
        let page = self.page(index);
        let request = RequestId(self.request.0.wrapping_add(index));
        match self.kind {
            RunKind::Requests => Message::PageRequest { page, request, access: self.access },
            RunKind::Data => Message::Data { page, request, access: self.access },
        }
    }

    /// The page that is `index` pages after the first.
    pub fn page(&self, index: u32) -> PageAddress {
        PageAddress::new(self.first.region, self.first.page + index as u64)
    }

    /// Whether `bytes` are to be decoded as a run rather than as a [`Message`].
    pub fn is_one(bytes: &[u8]) -> bool {
        matches!(bytes.first(), Some(&(PAGE_REQUESTS | PAGES)))
    }

    /// The run as sent by a member of `view`.
    pub fn encode(&self, view: View) -> [u8; Run::BYTES] {
        let kind = match self.kind {
            RunKind::Requests => PAGE_REQUESTS,
            RunKind::Data => PAGES,
        };
        let on_first = on_page(kind, self.first, self.request.0, access_bit(self.access));
        let mut bytes = [0; Run::BYTES];
        Fields { view: view.0, number: self.count as u64, ..on_first }.write(&mut bytes);
        bytes
    }

    /// Reads a run and the view that its sender was in.
    ///
    /// # Errors
    /// When the bytes are not exactly one run of a possible length whose pages a region could have.
    pub fn decode(bytes: &[u8]) -> Result<(View, Run), DecodeError> {
        let found = bytes.len();
        let kind = bytes.first().copied().unwrap_or(0);
        let fixed =
            bytes.try_into().map_err(|_| DecodeError::Length { kind, expected: Run::BYTES, found })?;
        let fields = Fields::read(fixed);
        let kind = match fields.kind {
            PAGE_REQUESTS => RunKind::Requests,
            PAGES => RunKind::Data,
            other => return Err(DecodeError::Kind(other)),
        };
        if fields.detail > 1 {
            return Err(fields.bad("access", fields.detail as u64));
        }
        let least = if kind == RunKind::Requests { 2 } else { 1 };
        let count = u32::try_from(fields.number).ok();
        let count = count.filter(|count| (least..=limits::RUN_PAGES).contains(count));
        let count = count.ok_or_else(|| fields.bad("count", fields.number))?;
        let first = fields.page();
        if first.page >= limits::REGION_PAGES - count as u64 {
            return Err(fields.bad("page", first.page));
        }
        let (request, access) = (fields.request(), fields.access());
        Ok((View(fields.view), Run { kind, first, request, access, count }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RegionId;
    use proptest::prelude::*;

    fn run(kind: RunKind, count: u32) -> Run {
        let first = PageAddress::new(RegionId(0x0103), 0x0102_0304);
        Run { kind, first, request: RequestId(u32::MAX - 1), access: Access::Write, count }
    }

    #[test]
    fn runs_survive_their_bytes_and_stand_for_their_parts() {
        for (kind, count) in [(RunKind::Requests, 2), (RunKind::Data, limits::RUN_PAGES)] {
            let run = run(kind, count);
            let bytes = run.encode(View(7));
            assert!(Run::is_one(&bytes) && Message::decode(&bytes).is_err());
            assert_eq!(Run::decode(&bytes), Ok((View(7), run)));
            let mut made = Run::of(&run.part(0)).unwrap();
            assert!(
                (1..count).all(|index| made.add(&run.part(index))),
                "numbers go on over the end of 32 bits"
            );
            assert_eq!(made, run);
            assert!(!made.add(&run.part(0)));
        }
        assert!(Run::of(&Message::Invalidate { page: run(RunKind::Data, 2).first }).is_none());
    }

    #[test]
    fn a_run_is_of_one_kind_and_no_longer_than_it_may_be() {
        let mut full = run(RunKind::Data, limits::RUN_PAGES);
        let next = full.part(limits::RUN_PAGES);
        assert!(!full.add(&next), "it is full");
        let mut short = run(RunKind::Requests, 3);
        assert!(!short.add(&run(RunKind::Data, 3).part(3)));
        assert!(!short.add(&short.part(4)) && !short.add(&Run { access: Access::Read, ..short }.part(3)));
        for count in [0, 1, limits::RUN_PAGES as u64 + 1, u64::MAX] {
            let mut bytes = short.encode(View(1));
            bytes[24..32].copy_from_slice(&count.to_le_bytes());
            assert!(matches!(Run::decode(&bytes), Err(DecodeError::Field { field: "count", .. })));
        }
        let mut bytes = short.encode(View(1));
        bytes[8..16].copy_from_slice(&(limits::REGION_PAGES - 3).to_le_bytes());
        assert!(matches!(Run::decode(&bytes), Err(DecodeError::Field { field: "page", .. })));
        bytes[1] = 2;
        assert!(matches!(Run::decode(&bytes), Err(DecodeError::Field { field: "access", .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..40), kind in 200u8..210) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Ok((view, run)) = Run::decode(&bytes) {
                prop_assert_eq!(Run::decode(&run.encode(view)), Ok((view, run)));
            }
        }
    }
}
