//! Messages that no engine would send.

use super::mesh::{Mesh, PAGES, REGIONS, spec};
use crate::script::Script;
use pagemesh_protocol::{Message, View, limits};

/// The bytes of every message's fixed part.
const FIXED_BYTES: usize = 32;
/// Where the properties of a region begin in the messages that have them.
const PROPERTIES: std::ops::Range<usize> = FIXED_BYTES..Message::MAX_BYTES;
/// Kinds of messages: all below this number, some of which the decoder refuses, and those of release regions.
const KINDS: usize = 50;
/// A number below it that no kind has stands for EVICT, which lies beyond.
const STANDS_FOR_EVICT: usize = 47;
const EVICT: usize = 70;
const RELEASE_KINDS: std::ops::Range<usize> = 64..70;

impl Mesh {
    /// The liar says something to another node. Fields are mostly such that they could be meant: what is plainly wrong is
    /// refused at once and leads nowhere.
    pub(super) fn lie(&mut self, script: &mut Script<'_>) {
        let Some(liar) = self.liar() else { return };
        let to = (liar + 1 + script.below(self.nodes.len() - 1)) % self.nodes.len();
        let kind = match script.below(KINDS + RELEASE_KINDS.len()) {
            STANDS_FOR_EVICT => EVICT,
            kind if kind < KINDS => kind,
            kind => RELEASE_KINDS.start + kind - KINDS,
        };
        let mut bytes = [0; Message::MAX_BYTES];
        bytes[0] = kind as u8;
        bytes[1] = script.byte() & 3;
        bytes[2] = script.below(REGIONS.len() + 1) as u8;
        bytes[4] = 1;
        bytes[8] = script.below(PAGES as usize + 2) as u8;
        bytes[16..20].copy_from_slice(&self.word(script).to_le_bytes());
        bytes[20] = script.below(self.nodes.len() + 1) as u8;
        bytes[22] = script.below(3) as u8;
        bytes[24] = script.below(4) as u8;
        bytes[PROPERTIES].copy_from_slice(&properties(script));
        // Now and then one byte is anything.
        if script.below(4) == 0 {
            let place = script.below(bytes.len());
            bytes[place] = script.byte();
        }
        let long = Message::decode(&bytes);
        let Ok((view, message)) = long.or_else(|_| Message::decode(&bytes[..FIXED_BYTES])) else { return };
        let view = if script.below(16) == 0 { view } else { View::FIRST };
        self.tell(liar, to, view, &message);
    }

    /// A request's number or a ticket: one that was used, or any small one.
    fn word(&self, script: &mut Script<'_>) -> u32 {
        let which = script.below(32);
        self.overheard.get(which).copied().unwrap_or_else(|| script.byte() as u32)
    }
}

/// The properties of a region as they lie on the wire.
fn properties(script: &mut Script<'_>) -> [u8; Message::MAX_BYTES - FIXED_BYTES] {
    let (protocol, placement) = script.pick(&REGIONS);
    let pages = script.pick(&[PAGES, 1, 2, 0, 1 << 12, limits::REGION_PAGES]);
    let mut spec = spec(script.below(6), pages, protocol, placement);
    spec.address = match script.below(4) {
        0 => 0,
        1 => u64::MAX - 4095,
        2 => u64::from(script.byte()),
        _ => limits::REGION_BASE + limits::REGION_ALIGN * script.below(4) as u64,
    };
    let ticket = pagemesh_protocol::Ticket::new(0, 0);
    let mut bytes = [0; Message::MAX_BYTES];
    Message::RegionOpen { ticket, create: true, spec }.encode(View::FIRST, &mut bytes);
    let mut properties = [0; Message::MAX_BYTES - FIXED_BYTES];
    properties.copy_from_slice(&bytes[PROPERTIES]);
    properties
}
