//! Messages that no engine would send.

use super::mesh::{Mesh, PAGES, REGIONS, spec};
use crate::script::Script;
use pagemesh_protocol::{Message, View, limits};

/// The bytes of every message's fixed part.
const FIXED_BYTES: usize = 32;
/// Where the properties of a region begin in the messages that have them.
const PROPERTIES: std::ops::Range<usize> = FIXED_BYTES..Message::MAX_BYTES;
/// What a choice stands for; some of these the decoder refuses. Inputs mean what they say here, so nothing in it moves.
const FIRST_KINDS: [u8; 56] = first_kinds();
/// Choices from here on pick one of [`LATER_KINDS`].
const LATER: u8 = 4 * FIRST_KINDS.len() as u8;
/// Kinds that came later: new ones are added at the end.
const LATER_KINDS: [u8; 76] = [
    80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104,
    110, 111, 112, 113, 120, 121, 122, 123, 124, 125, 126, 127, 140, 141, 142, 143, 144, 145, 146, 147, 148,
    149, 156, 157, 158, 159, 170, 171, 172, 173, 180, 181, 182, 165, 166, 167, 168, 150, 151, 190, 210, 211,
    212, 213, 214, 215, 220, 221, 222, 223, 224,
];

const fn first_kinds() -> [u8; 56] {
    let mut kinds = [0; 56];
    let mut at = 0;
    while at < kinds.len() {
        kinds[at] = match at as u8 {
            // A number that no kind has stands for EVICT.
            47 => 70,
            low @ ..50 => low,
            // From DIFF to SETTLED.
            high => high + 14,
        };
        at += 1;
    }
    kinds
}

fn kind(script: &mut Script<'_>) -> u8 {
    match script.byte() {
        LATER.. => script.pick(&LATER_KINDS),
        choice => FIRST_KINDS[choice as usize % FIRST_KINDS.len()],
    }
}

impl Mesh {
    /// The liar says something to another node. Fields are mostly such that they could be meant: what is plainly wrong is
    /// refused at once and leads nowhere.
    pub(super) fn lie(&mut self, script: &mut Script<'_>) {
        let Some(liar) = self.liar() else { return };
        let to = (liar + 1 + script.below(self.nodes.len() - 1)) % self.nodes.len();
        let mut bytes = [0; Message::MAX_BYTES];
        bytes[0] = kind(script);
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
        let lengths = [bytes.len(), FIXED_BYTES + 8, FIXED_BYTES];
        let mut read = lengths.iter().filter_map(|length| Message::decode(&bytes[..*length]).ok());
        let Some((view, message)) = read.next() else { return };
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

#[cfg(test)]
mod tests {
    use super::*;
    use pagemesh_protocol::DecodeError;
    use std::collections::BTreeSet;

    /// A kind that the liar never says is a kind that nobody is known to survive.
    #[test]
    fn the_liar_says_every_kind() {
        let said: BTreeSet<u8> = FIRST_KINDS.into_iter().chain(LATER_KINDS).collect();
        let is_known = |kind: &u8| {
            let mut bytes = [0; Message::MAX_BYTES];
            bytes[0] = *kind;
            let lengths = [FIXED_BYTES, Message::MAX_BYTES];
            lengths.iter().any(|length| {
                !matches!(
                    Message::decode(&bytes[..*length]),
                    Err(DecodeError::Kind(_) | DecodeError::Length { .. })
                )
            })
        };
        let unsaid: Vec<u8> = (0..=u8::MAX).filter(is_known).filter(|kind| !said.contains(kind)).collect();
        assert_eq!(unsaid, [], "add these to LATER_KINDS");
    }
}
