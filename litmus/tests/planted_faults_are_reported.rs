//! A checker that never complains is worth nothing. Here a right history is spoilt in one place each, in every way in which shared
//! memory has been known to fail, and the checker must name the operations that conflict. Small histories are also decided by trying
//! every order, and both must agree.

use pagemesh_litmus::Random;
use pagemesh_litmus::history::{
    Action, Event, History, Loss, LossKind, ThreadName, Violation, World, unique_value,
};

const WORLD: World = World { nodes: 3, regions: 2, released: 1 };
const WORD: u32 = 4;
const COUNTER: u32 = 6;

/// A history under construction: every operation takes 10 ns and comes after the one before.
#[derive(Default, Clone)]
struct Script {
    events: Vec<Event>,
    now_ns: u64,
}

const fn thread(node: u16) -> ThreadName {
    ThreadName { node, thread: 0 }
}

impl Script {
    fn sequence(&self, by: ThreadName) -> u32 {
        self.events.iter().filter(|event| event.by == by).count() as u32
    }

    /// Adds an operation, and returns its place.
    fn add(&mut self, node: u16, action: Action) -> usize {
        let by = thread(node);
        let (call_ns, return_ns) = (self.now_ns + 1, self.now_ns + 10);
        self.now_ns = return_ns;
        let sequence = self.sequence(by);
        self.events.push(Event { by, sequence, call_ns, return_ns, settled: true, action, loss: None });
        self.events.len() - 1
    }

    /// Writes a new value to `word` and returns it.
    fn write(&mut self, node: u16, word: u32) -> u64 {
        let value = unique_value(thread(node), self.sequence(thread(node)));
        self.add(node, Action::Write { word, value });
        value
    }

    fn read(&mut self, node: u16, word: u32, value: u64) -> usize {
        self.add(node, Action::Read { word, value })
    }

    fn check(&self, killed: Option<u16>) -> Vec<Violation> {
        History::new(WORLD, killed, self.events.clone()).check().violations
    }

    /// The only violation.
    fn violation(&self) -> Violation {
        let mut violations = self.check(None);
        assert_eq!(violations.len(), 1, "{violations:?}");
        violations.remove(0)
    }
}

/// The events that a circle is made of.
fn in_circle(violation: &Violation) -> Vec<Event> {
    let Violation::NoOrder { word: WORD, circle } = violation else { panic!("{violation}") };
    circle.iter().flat_map(|(before, after, _)| [*before, *after]).flatten().collect()
}

#[test]
fn a_right_history_is_right() {
    let mut script = Script::default();
    script.read(2, WORD, 0);
    let first = script.write(0, WORD);
    script.read(1, WORD, first);
    let second = script.write(1, WORD);
    script.read(0, WORD, second);
    script.add(2, Action::CompareExchange { word: WORD, expected: second, found: second, value: 77 << 48 });
    script.add(0, Action::CompareExchange { word: WORD, expected: second, found: 77 << 48, value: 78 << 48 });
    script.add(1, Action::Swap { word: WORD, found: 77 << 48, value: 79 << 48 });
    script.add(0, Action::Increment { word: COUNTER, found: 0 });
    script.add(1, Action::Increment { word: COUNTER, found: 1 });
    script.read(0, COUNTER, 2);
    assert_eq!(script.check(None), []);
}

#[test]
fn a_lost_write_is_reported() {
    let mut script = Script::default();
    let kept = script.write(0, WORD);
    script.write(1, WORD);
    let wrong = script.read(0, WORD, kept);
    let blamed = in_circle(&script.violation());
    assert!(blamed.contains(&script.events[wrong]) && blamed.contains(&script.events[1]), "{blamed:?}");
}

#[test]
fn a_stale_read_is_reported() {
    let mut script = Script::default();
    let old = script.write(0, WORD);
    script.read(1, WORD, old);
    let new = script.write(0, WORD);
    let fresh = script.read(2, WORD, new);
    let stale = script.read(1, WORD, old);
    let blamed = in_circle(&script.violation());
    assert!(blamed.contains(&script.events[stale]), "{blamed:?}");
    assert!(blamed.iter().any(|event| [script.events[2], script.events[fresh]].contains(event)));
    // The zero of the start is as stale.
    let mut script = Script::default();
    script.write(0, WORD);
    let stale = script.read(1, WORD, 0);
    assert!(in_circle(&script.violation()).contains(&script.events[stale]));
}

#[test]
fn a_write_that_comes_late_is_reported() {
    let mut script = Script::default();
    let late = script.write(0, WORD);
    let second = script.write(1, WORD);
    script.read(2, WORD, second);
    let wrong = script.read(2, WORD, late);
    let blamed = in_circle(&script.violation());
    assert!(blamed.contains(&script.events[wrong]) && blamed.contains(&script.events[1]), "{blamed:?}");
}

#[test]
fn a_store_that_is_not_settled_may_be_late_until_its_thread_fences() {
    let mut script = Script::default();
    let value = script.write(0, WORD);
    script.events[0].settled = false;
    script.read(1, WORD, 0);
    script.read(1, WORD, value);
    assert_eq!(script.check(None), [], "the processor may keep it in its buffer");
    script.add(0, Action::Fence);
    assert_eq!(script.check(None), []);
    let stale = script.read(1, WORD, 0);
    // Older than what this thread saw before, and than the fence.
    assert!(in_circle(&script.violation()).contains(&script.events[stale]));
    let mut script = Script::default();
    script.write(0, WORD);
    script.events[0].settled = false;
    script.add(0, Action::Fence);
    let stale = script.read(1, WORD, 0);
    assert!(in_circle(&script.violation()).contains(&script.events[stale]));
}

#[test]
fn a_thread_sees_its_own_stores_before_others_do() {
    let mut script = Script::default();
    let value = script.write(0, WORD);
    script.read(0, WORD, value);
    for event in &mut script.events {
        event.settled = false;
    }
    script.read(1, WORD, 0);
    assert_eq!(script.check(None), [], "it was taken from the buffer");
    script.read(0, WORD, 0);
    let last = script.events.len() - 1;
    script.events[last].settled = false;
    assert!(in_circle(&script.violation()).contains(&script.events[last]), "but never an older one");
}

#[test]
fn an_atomic_that_found_the_same_value_twice_is_reported() {
    let mut script = Script::default();
    script.add(0, Action::Increment { word: COUNTER, found: 0 });
    let one = script.add(1, Action::Increment { word: COUNTER, found: 1 });
    let other = script.add(2, Action::Increment { word: COUNTER, found: 1 });
    let (first, second) = (script.events[one], script.events[other]);
    assert_eq!(script.violation(), Violation::FoundTwice { first, second });
    let mut script = Script::default();
    let one = script.add(0, Action::Swap { word: WORD, found: 0, value: 50 << 48 });
    let other = script.add(1, Action::Swap { word: WORD, found: 0, value: 51 << 48 });
    let (first, second) = (script.events[one], script.events[other]);
    assert_eq!(script.violation(), Violation::FoundTwice { first, second });
}

#[test]
fn increments_out_of_time_are_reported() {
    let mut script = Script::default();
    let late = script.add(0, Action::Increment { word: COUNTER, found: 1 });
    let early = script.add(1, Action::Increment { word: COUNTER, found: 0 });
    let violation = script.violation();
    let told = violation.to_string();
    assert!(matches!(violation, Violation::Future { .. } | Violation::NoOrder { .. }), "{told}");
    for event in [late, early] {
        assert!(told.contains(&script.events[event].to_string()), "{told}");
    }
}

#[test]
fn a_store_between_an_atomics_read_and_write_is_reported() {
    let mut script = Script::default();
    let old = script.write(0, WORD);
    let between = script.write(1, WORD);
    script.read(2, WORD, between);
    let atomic = script.add(0, Action::Swap { word: WORD, found: old, value: 60 << 48 });
    let blamed = in_circle(&script.violation());
    assert!(blamed.contains(&script.events[atomic]), "{blamed:?}");
}

#[test]
fn values_of_nobody_and_of_the_future_are_reported() {
    let mut script = Script::default();
    let wrong = script.read(0, WORD, 99 << 48);
    assert_eq!(script.violation(), Violation::UnknownValue { found: script.events[wrong] });
    let mut script = Script::default();
    let found = script.read(0, WORD, unique_value(thread(1), 0));
    script.write(1, WORD);
    let (found, written) = (script.events[found], script.events[1]);
    assert_eq!(script.violation(), Violation::Future { found, written });
}

#[test]
fn a_lock_held_twice_is_reported() {
    let mut script = Script::default();
    let first = script.add(0, Action::Acquire { lock: 2 });
    script.add(1, Action::Acquire { lock: 3 });
    let second = script.add(1, Action::Acquire { lock: 2 });
    script.add(0, Action::Release { lock: 2 });
    script.add(1, Action::Release { lock: 2 });
    script.add(1, Action::Release { lock: 3 });
    let (first, second) = (script.events[first], script.events[second]);
    assert_eq!(script.violation(), Violation::HeldTwice { first, second });
    script.events.retain(|event| event.by == thread(0));
    assert_eq!(script.check(None), []);
}

#[test]
fn a_barrier_that_lets_one_through_is_reported() {
    let mut script = Script::default();
    let early = script.add(0, Action::Barrier { barrier: 1 });
    let late = script.add(1, Action::Barrier { barrier: 1 });
    let passed = Violation::BarrierPassed { early: script.events[early], late: script.events[late] };
    assert_eq!(script.violation(), passed);
    script.events[early].return_ns = script.events[late].call_ns;
    assert_eq!(script.check(None), []);
}

/// A history in which node 2 was killed, and the others were told of what it alone had.
fn with_a_killed_node() -> Script {
    let mut script = Script::default();
    for node in 0..2 {
        for home in 0..WORLD.nodes {
            let place = script.read(node, WORLD.will(home), 0);
            let kind = if home == 2 { LossKind::Peer } else { LossKind::Page };
            script.events[place].loss = Some(Loss { kind, node: 2 });
        }
    }
    script
}

#[test]
fn failures_are_right_only_where_a_node_was_killed() {
    let script = with_a_killed_node();
    assert_eq!(script.check(Some(2)), []);
    assert_eq!(script.check(None).len(), 6);
    assert!(script.check(Some(1)).iter().any(|found| matches!(found, Violation::WronglyFailed { .. })));
}

#[test]
fn a_lost_page_that_is_not_reported_or_comes_back_is_reported() {
    let mut script = with_a_killed_node();
    let event = Event { loss: None, ..script.events[0] };
    script.events[0] = event;
    assert_eq!(script.check(Some(2)), [Violation::NotLost { event }]);
    let mut script = with_a_killed_node();
    script.events.remove(5);
    assert_eq!(script.check(Some(2)), [Violation::NotTold { node: 1, word: WORLD.will(2) }]);
    let mut script = with_a_killed_node();
    let failed = script.read(1, WORD, 0);
    script.events[failed].loss = Some(Loss { kind: LossKind::Page, node: 2 });
    // Another word of that page, at another node and at the same.
    script.read(0, WORD + 1, 0);
    assert_eq!(script.check(Some(2)), []);
    let later = script.read(1, WORD + 1, 0);
    let (failed, later) = (script.events[failed], script.events[later]);
    assert_eq!(script.check(Some(2)), [Violation::CameBack { failed, later }]);
}

#[test]
fn what_a_failed_store_was_to_write_is_never_found() {
    let mut script = with_a_killed_node();
    let value = script.write(0, WORD);
    let failed = script.events.len() - 1;
    script.events[failed].loss = Some(Loss { kind: LossKind::Page, node: 2 });
    assert_eq!(script.check(Some(2)), []);
    let found = script.read(1, WORD, value);
    let (failed, found) = (script.events[failed], script.events[found]);
    assert_eq!(script.check(Some(2)), [Violation::FailedButDone { failed, found }]);
}

#[test]
fn the_last_operation_of_the_killed_may_be_done_or_not() {
    let mut script = with_a_killed_node();
    script.write(2, WORD);
    let next = unique_value(thread(2), script.sequence(thread(2)));
    let place = script.read(0, WORD, next);
    assert_eq!(script.check(Some(2)), [], "there is no record of a store that was under way");
    // But only one, and none of a thread that lived on.
    script.events[place].action = Action::Read { word: WORD, value: next + 1 };
    assert!(matches!(script.check(Some(2))[..], [Violation::UnknownValue { .. }]));
    script.events[place].action = Action::Read { word: WORD, value: unique_value(thread(1), 1000) };
    assert!(matches!(script.check(Some(2))[..], [Violation::UnknownValue { .. }]));
    script.events[place].action = Action::Read { word: COUNTER, value: 1 };
    assert_eq!(script.check(Some(2)), []);
    script.events[place].action = Action::Read { word: COUNTER, value: 2 };
    assert!(matches!(script.check(Some(2))[..], [Violation::UnknownValue { .. }]));
}

/// Whether some order of all `events` on one word explains what they found and agrees with time and with each thread's program.
fn has_an_order(events: &[Event], done: &mut Vec<bool>, value: u64) -> bool {
    if done.iter().all(|done| *done) {
        return true;
    }
    for next in 0..events.len() {
        let is_first = |other: usize| {
            let (one, two) = (&events[other], &events[next]);
            done[other]
                || other == next
                || (one.return_ns >= two.call_ns && (one.by != two.by || one.sequence > two.sequence))
        };
        let action = events[next].action;
        let fits = action.found().is_none_or(|found| found == value);
        if done[next] || !fits || !(0..events.len()).all(is_first) {
            continue;
        }
        done[next] = true;
        if has_an_order(events, done, action.wrote().unwrap_or(value)) {
            return true;
        }
        done[next] = false;
    }
    false
}

/// A few operations of three threads on one word, with times that overlap much, and values that may be wrong.
fn small_history(random: &mut Random) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut now_ns = [0_u64; 3];
    let mut values = vec![0];
    for _ in 0..4 + random.below(4) {
        let by = thread(random.below(3) as u16);
        let now_ns = &mut now_ns[usize::from(by.node)];
        let call_ns = *now_ns + 1 + random.below(6) as u64;
        let return_ns = call_ns + random.below(12) as u64;
        *now_ns = return_ns;
        let sequence = events.iter().filter(|event| event.by == by).count() as u32;
        let (value, found) = (unique_value(by, sequence), values[random.below(values.len())]);
        let action = match random.below(4) {
            0 => Action::Write { word: WORD, value },
            1 => Action::Swap { word: WORD, found, value },
            _ => Action::Read { word: WORD, value: found },
        };
        values.extend(action.wrote());
        events.push(Event { by, sequence, call_ns, return_ns, settled: true, action, loss: None });
    }
    events
}

/// A word of the release region, which lock 0 protects, and one that belongs to a writer until the next barrier.
const PROTECTED: u32 = 51;
const PHASED: u32 = 48;

/// Each node in its turn takes lock 0, finds in [`PROTECTED`] what `found` says of the values written before, and writes a new one.
fn passed_on(found: impl Fn(&[u64]) -> u64) -> Script {
    let (mut script, mut values) = (Script::default(), vec![0]);
    for node in [0, 1, 2, 0] {
        script.add(node, Action::Acquire { lock: 0 });
        script.read(node, PROTECTED, found(&values));
        values.push(script.write(node, PROTECTED));
        script.add(node, Action::Release { lock: 0 });
    }
    script
}

#[test]
fn a_lock_that_does_not_bring_what_its_last_holder_wrote_is_reported() {
    let last = |values: &[u64]| values[values.len() - 1];
    assert_eq!(passed_on(last).check(None), []);
    // A diff that was lost, and a notice that was missed: the copy is as before.
    let lost = passed_on(|values| if values.len() == 3 { values[1] } else { last(values) });
    let stale = passed_on(|values| if values.len() == 4 { values[1] } else { last(values) });
    for script in [lost, stale] {
        assert!(matches!(script.violation(), Violation::NoOrder { word: PROTECTED, .. }));
    }
    // A diff that was applied again, later.
    let mut again = passed_on(last);
    let first = again.events[2].action.wrote().expect("the first turn writes");
    again.add(1, Action::Acquire { lock: 0 });
    again.read(1, PROTECTED, first);
    assert!(matches!(again.violation(), Violation::NoOrder { word: PROTECTED, .. }));
}

#[test]
fn a_barrier_that_does_not_bring_what_was_written_before_is_reported() {
    for lost in [false, true] {
        let mut script = Script::default();
        let mut value = 0;
        for barrier in 1..5 {
            let old = std::mem::replace(&mut value, script.write(barrier as u16 % 3, PHASED));
            for node in 0..3 {
                script.add(node, Action::Barrier { barrier: 2 * barrier });
            }
            // All meet at one time.
            let met = script.events.len() - 3;
            script.events[met..].iter_mut().for_each(|event| event.call_ns = script.now_ns - 30);
            script.events[met..].iter_mut().for_each(|event| event.return_ns = script.now_ns);
            for node in 0..3 {
                script.read(node, PHASED, if lost && barrier == 3 && node == 2 { old } else { value });
            }
        }
        if lost {
            assert!(matches!(script.violation(), Violation::NoOrder { word: PHASED, .. }));
        } else {
            assert_eq!(script.check(None), []);
        }
    }
}

#[test]
fn small_histories_are_judged_as_by_trying_every_order() {
    let mut random = Random::new(11);
    let mut counts = [0, 0];
    for round in 0..40_000 {
        let events = small_history(&mut random);
        let right = has_an_order(&events, &mut vec![false; events.len()], 0);
        let found = History::new(WORLD, None, events.clone()).check().violations;
        assert_eq!(found.is_empty(), right, "history {round}: {events:#?}\n{found:#?}");
        counts[usize::from(right)] += 1;
    }
    assert!(counts[0] > 4000 && counts[1] > 4000, "{counts:?} wrong and right ones");
}
