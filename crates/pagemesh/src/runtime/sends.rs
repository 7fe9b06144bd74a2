//! What a shard's actions send, and what is counted of it.

use super::Runtime;
use super::shard::Shard;
use crate::stats::count;
use pagemesh_memory::PAGE_BYTES;
use pagemesh_net::Switch;
use pagemesh_protocol::{ByteRange, Collect, Hint, Message, NodeId, PageAddress, View};
use std::sync::atomic::Ordering;

/// With more than this waiting to be sent to a node, updates are left out: it need not have them, and is behind.
const UPDATE_ROOM_BYTES: usize = 8 << 20;

impl Shard {
    pub(super) fn send(
        &self,
        runtime: &Runtime,
        to: NodeId,
        message: &Message,
        payload: Option<PageAddress>,
    ) {
        let view = self.engine.view();
        let Some(page) = payload else {
            match message {
                Message::Invalidate { .. }
                | Message::Collect { step: Collect::Drop { again: false, .. }, .. } => {
                    count(&runtime.counters.invalidations_sent);
                }
                Message::Hint { step: Hint::Got(true), .. } => count(&runtime.counters.owner_hints_right),
                Message::LendReply { taken: true, .. } => count(&runtime.counters.pages_borrowed),
                _ => {}
            }
            enqueue(&runtime.switch, view, to, message);
            return;
        };
        if matches!(message, Message::Update { .. }) {
            if runtime.switch.queued(to.get()) > UPDATE_ROOM_BYTES {
                return;
            }
            count(&runtime.counters.updates_sent);
        }
        count(&runtime.counters.pages_sent);
        if matches!(message, Message::Return { .. }) {
            count(&runtime.counters.pages_returned);
        }
        let mut bytes = [0; Message::MAX_BYTES];
        let length = message.encode(view, &mut bytes);
        let mapping = self.mapped(page);
        // A link that has ended is reported to whoever receives, and from there to the engine.
        let _ = runtime.switch.enqueue_with(to.get(), &bytes[..length], PAGE_BYTES, |payload| {
            mapping.service().read(page.page as usize * PAGE_BYTES, payload);
        });
    }

    pub(super) fn send_bytes(&self, runtime: &Runtime, to: NodeId, message: &Message, range: ByteRange) {
        let mut bytes = [0; Message::MAX_BYTES];
        let length = message.encode(self.engine.view(), &mut bytes);
        let mapping = self.mapped(PageAddress::new(range.region, range.start / PAGE_BYTES as u64));
        runtime.counters.range_bytes.fetch_add(range.bytes, Ordering::Relaxed);
        // A link that has ended is reported to whoever receives, and from there to the engine.
        let _ = runtime.switch.enqueue_with(to.get(), &bytes[..length], range.bytes as usize, |payload| {
            mapping.service().read(range.start as usize, payload);
        });
    }
}

/// Queues a message without payload. A link that has ended is reported to whoever receives, and from there to the engine.
pub(super) fn enqueue(switch: &Switch, view: View, to: NodeId, message: &Message) {
    let mut bytes = [0; Message::MAX_BYTES];
    let length = message.encode(view, &mut bytes);
    let _ = if message.may_wait() {
        switch.enqueue_late(to.get(), &bytes[..length])
    } else {
        switch.enqueue(to.get(), &bytes[..length], &[])
    };
}
