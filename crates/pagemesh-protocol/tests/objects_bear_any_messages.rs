//! Peers that break the protocol must not break an engine: whatever they say about reader-writer locks, semaphores and conditions, in
//! whatever order, a call ends at most once, no message makes the engine panic, and its own calls can still be given up and made
//! anew.

mod common;

use common::{Subject, node, number_at, ticket};
use pagemesh_protocol::{
    Access, Action, Actions, ConditionId, HandOver, LockId, Message, Named, RwLockId, SemaphoreId, Ticket,
    View,
};
use proptest::prelude::*;

const THIS: u16 = 1;
const COUNT: u16 = 3;
/// Calls of this node at a time.
const SLOTS: u16 = 4;

/// One of two numbers, whose homes are this node and another.
fn number(which: u8) -> u64 {
    number_at(u16::from(which % 2) + 1, COUNT, 0)
}

fn message(kind: u8, which: u8, slot: u8, flag: bool) -> Message {
    let (lock, semaphore) = (RwLockId(number(which)), SemaphoreId(number(which)));
    let (condition, mutex) = (ConditionId(number(which)), LockId(number(which)));
    let ticket = ticket(u16::from(slot) % SLOTS);
    let access = if flag { Access::Write } else { Access::Read };
    let died = flag.then(|| node(0));
    let step = match slot / 4 % 4 {
        0 => HandOver::Next { node: node(0), ticket },
        1 => HandOver::Passed { count: 1 },
        2 => HandOver::Forget,
        _ => HandOver::Forgotten,
    };
    let named = [Named::Left, Named::LetIn, Named::KeptInMind][usize::from(slot) % 3];
    match kind % 36 {
        0 => Message::RwAcquire { lock, ticket, access, waits: slot < 128 },
        1 => Message::RwGrant { lock, ticket, died },
        2 => Message::RwBusy { lock, ticket },
        3 => Message::RwRelease { lock, ticket },
        4 => Message::SemaphoreInit { semaphore, ticket, value: u32::from(flag) },
        5 => Message::SemaphoreWait { semaphore, ticket, waits: flag },
        6 => Message::SemaphoreGrant { semaphore, ticket },
        7 => Message::SemaphoreBusy { semaphore, ticket },
        8 => Message::SemaphoreCancel { semaphore, ticket },
        9 => Message::SemaphorePost { semaphore, ticket },
        10 => Message::SemaphoreReturn { semaphore },
        11 => Message::SemaphoreDone { semaphore, ticket },
        12 => Message::SemaphoreMismatch { semaphore, ticket, first: 7 },
        13 => Message::SemaphoreFull { semaphore, ticket },
        14 => Message::ConditionWait { condition, ticket },
        15 => Message::ConditionQueued { condition, ticket },
        16 => Message::ConditionSignal { condition, all: flag },
        17 => Message::ConditionWoken { condition, ticket },
        18 => Message::ConditionCancel { condition, ticket },
        19 => Message::ConditionWithdrawn { condition, ticket },
        20 => Message::LockGrant { lock: mutex, ticket, died },
        21 => Message::LockRelease {
            lock: mutex,
            ticket,
            died,
            wanted: (slot < 128).then_some((node(0), ticket)),
        },
        22 => Message::LockForward { lock: mutex, ticket, node: node(0), wanted: ticket, waits: flag },
        23 => Message::LockQuery { lock: mutex, round: 1 },
        24 => Message::LockState { lock: mutex, round: 1, state: Some((ticket, flag)) },
        25 => Message::LockHeld { lock: mutex, ticket, node: node(0) },
        26 => Message::LockCut { node: node(0) },
        27 => Message::LockAcquire { lock: mutex, ticket },
        28 => Message::LockTry { lock: mutex, ticket },
        29 => Message::LockBusy { lock: mutex, ticket },
        30 => Message::RwLeave { lock, ticket, access },
        31 => Message::RwRecall { lock, next: flag.then_some((node(0), ticket)) },
        32 => Message::RwHold { lock, ticket, access },
        33 => Message::RwYield { lock, next: named },
        34 => Message::RwHandOver { lock, ticket, step },
        _ => Message::SyncRefused { ticket },
    }
}

/// What the application of this node does.
fn call(subject: &mut Subject, kind: u8, which: u8, ticket: Ticket, out: &mut Actions) {
    let (engine, number) = (&mut subject.engine, number(which));
    match kind % 8 {
        5 => engine.on_lock_acquire(ticket, LockId(number), out),
        6 => engine.on_lock_try(ticket, LockId(number), out),
        0 => engine.on_rw_acquire(ticket, RwLockId(number), Access::Write, true, out),
        1 => engine.on_rw_acquire(ticket, RwLockId(number), Access::Read, true, out),
        2 => engine.on_semaphore_wait(ticket, SemaphoreId(number), true, out),
        3 => engine.on_semaphore_post(ticket, SemaphoreId(number), out),
        4 => engine.on_semaphore_init(ticket, SemaphoreId(number), 1, out),
        _ => {
            let held = (LockId(number), Ticket::new(ticket.slot, 0));
            engine.on_condition_wait(ticket, ConditionId(number), held, out);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn calls_end_at_most_once_whatever_others_say(
        events in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>(), 0u8..8), 1..120)
    ) {
        let mut subject = Subject::new(THIS, COUNT);
        let mut waiting = [false; SLOTS as usize];
        let mut out = Actions::new();
        for (kind, which, slot, flag, what) in events {
            let place = usize::from(slot) % waiting.len();
            let name = ticket(place as u16);
            match what {
                0 | 1 if !waiting[place] => {
                    waiting[place] = true;
                    call(&mut subject, kind, which, name, &mut out);
                }
                0 => subject.engine.on_condition_give_up(name, &mut out),
                1 if flag => {
                    waiting[place] = false;
                    subject.engine.on_cancel(name, &mut out);
                }
                2 if kind == 0 => subject.engine.on_peer_lost(node(2 * u16::from(flag)), &mut out),
                _ => {
                    let from = node(2 * u16::from(flag));
                    let message = message(kind, which, slot, flag);
                    let _ = subject.engine.on_message(from, View::FIRST, &message, &mut out);
                }
            }
            for action in out.drain(..) {
                if let Action::Complete { ticket, .. } = action {
                    prop_assert!(std::mem::take(&mut waiting[ticket.slot as usize]), "{ticket:?} ended twice");
                }
            }
        }
        for place in 0..SLOTS {
            subject.engine.on_cancel(ticket(place), &mut out);
        }
        // Whom it has asked where a lock is, and who has not said so, is gone then.
        for other in (0..COUNT).filter(|other| *other != THIS) {
            subject.engine.on_peer_lost(node(other), &mut out);
        }
        prop_assert!(subject.engine.is_quiet());
    }
}
