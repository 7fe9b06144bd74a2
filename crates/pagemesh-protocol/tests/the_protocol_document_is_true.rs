//! A document that has drifted from the code misleads exactly the reader who trusts it most. So the tables of
//! docs/protocol.md are the tables of the engine's own documentation, to the letter, and the engine is driven through
//! each row of each protocol: put into the row's state, given the row's event, and held to its actions, its next state or
//! its count.

mod common;

use common::mesh::Mesh;
use common::{
    INVALIDATE, PAGE, Subject, data, data_after, deny, drop_for, dropped, fetch, grant, grant_after, node,
    zero_grant,
};
use pagemesh_protocol::{
    Access, Action, Collect, Failure, Message, NodeId, Outcome, PageState, Placement, Protocol,
};

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md"));
const WRITE_INVALIDATE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/write_invalidate.rs"));
const MIGRATION: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/migration.rs"));

const RELEASE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/release.rs"));

const PROTOCOLS: [Protocol; 3] = [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release];

const HOLDERS_HEAD: [&str; 4] = ["state", "event", "actions", "next state"];
const HOMES_HEAD: [&str; 4] = ["directory", "request", "what happens", "messages"];

const HOME: u16 = 1;
const THIS: u16 = 2;
const OWNER: u16 = 3;
const OTHER: u16 = 4;

/// The part of the document that has the tables of `protocol`, and its source.
fn texts(protocol: Protocol) -> (&'static str, &'static str) {
    let (before, rest) = DOCUMENT.split_once("\n## Migration\n").expect("migration has a section");
    let (migration, rest) = rest.split_once("\n## Release\n").expect("release comes after it");
    let (release, _) = rest.split_once("\n## ").expect("others come after it");
    match protocol {
        Protocol::WriteInvalidate => (before, WRITE_INVALIDATE),
        Protocol::Migration => (migration, MIGRATION),
        Protocol::Release => (release, RELEASE),
        other => panic!("the test knows no protocol {other:?}"),
    }
}

/// The table of ranges has no states to put an engine into; `ranges_are_granted_in_line.rs` holds the engine to it.
#[test]
fn the_table_of_ranges_is_that_of_the_engine() {
    let rows = |text: &'static str| -> Vec<&'static str> {
        let bare = text.lines().map(|line| line.trim_start_matches("//!").trim());
        bare.skip_while(|line| *line != "| call | is granted when | comes with |")
            .take_while(|line| line.starts_with('|'))
            .collect()
    };
    let engine = rows(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/entry.rs")));
    assert_eq!(engine.len(), 4);
    assert_eq!(rows(DOCUMENT), engine);
}

/// The rows of the one table of `text` that begins with `head`, comment marks before it or not.
fn table(text: &str, head: [&str; 4]) -> Vec<[String; 4]> {
    let rows: Vec<Option<[String; 4]>> = text.lines().map(cells).collect();
    let heads: Vec<usize> =
        (0..rows.len()).filter(|at| rows[*at].as_ref().is_some_and(|row| *row == head)).collect();
    let [at] = heads[..] else { panic!("the table {head:?} stands there {} times", heads.len()) };
    let body = rows[at + 2..].iter().map_while(Clone::clone).collect::<Vec<_>>();
    assert!(!body.is_empty(), "the table {head:?} has no rows");
    body
}

fn cells(line: &str) -> Option<[String; 4]> {
    let line = line.trim_start().trim_start_matches("//!").trim_start_matches("///").trim();
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<String> = inner.split('|').map(|cell| cell.trim().to_owned()).collect();
    cells.try_into().ok()
}

#[test]
fn the_document_and_the_source_have_the_same_tables() {
    for protocol in PROTOCOLS {
        let (document, source) = texts(protocol);
        for head in [HOLDERS_HEAD, HOMES_HEAD] {
            assert_eq!(table(document, head), table(source, head), "{protocol:?}");
        }
    }
}

// The holder's table.

fn access(word: &str) -> Access {
    match word {
        "Read" | "read" => Access::Read,
        "Write" | "write" => Access::Write,
        other => panic!("{other} is no access"),
    }
}

/// What a row's event does to a node.
#[derive(Clone, Copy, Debug)]
enum Event {
    Fault(Access),
    /// An answer to the node's own request for this access.
    Answer(Access, u16, fn(u32, Access) -> Message),
    /// As `Answer`, where `OTHER` has said before that its copy is gone.
    Collected(fn(u32, &[u16]) -> Message),
    /// Something that the home wants.
    Demand(Message),
    /// The node gives its copy back.
    Evict,
    /// The node arrives at a barrier.
    Release,
    /// The node gets a lock, with the news that another wrote the page.
    Acquire,
}

fn event(text: &str) -> Event {
    let (name, rest) = text.split_once(['(', ' ']).unwrap_or((text, ""));
    let word = rest.split([')', ',', ' ']).next().unwrap_or("");
    match name {
        "read" | "write" => Event::Fault(access(name)),
        "Data" if rest.ends_with("after drops") => Event::Collected(data_after),
        "Grant" if rest.ends_with("after drops") => Event::Collected(grant_after),
        "Data" if rest.ends_with("from home") => Event::Answer(access(word), HOME, data),
        "Data" if rest.ends_with("from owner") => Event::Answer(access(word), OWNER, data),
        "Grant" if rest.ends_with("zero)") => Event::Answer(access(word), HOME, zero_grant),
        "Grant" => Event::Answer(access(word), HOME, grant),
        "Deny" => Event::Answer(Access::Read, HOME, |id, _| deny(id, OWNER)),
        "release" => Event::Release,
        "acquire" => Event::Acquire,
        "Invalidate" => Event::Demand(INVALIDATE),
        "Drop" => Event::Demand(drop_for(70, OTHER)),
        "evict" => Event::Evict,
        "Fetch" => Event::Demand(fetch(70, access(word), OTHER)),
        other => panic!("the test knows no event {other}"),
    }
}

/// A node whose copy is in `state`, and the number of its next request.
fn in_state(protocol: Protocol, state: &str) -> (Subject, u32) {
    let mut subject = Subject::following(protocol, THIS, 5, HOME);
    let next = match state {
        "INVALID" => 0,
        "SHARED" => {
            subject.fault(900, Access::Read);
            subject.hears(HOME, data(0, Access::Read));
            1
        }
        "MODIFIED" => {
            subject.fault(900, Access::Write);
            subject.hears(HOME, zero_grant(0, Access::Write));
            1
        }
        other => panic!("{other} is no state"),
    };
    assert_eq!(subject.state().to_string(), state);
    (subject, next)
}

fn apply(subject: &mut Subject, next: u32, event: Event) -> Vec<Action> {
    match event {
        Event::Fault(access) => subject.fault(1, access),
        Event::Answer(access, from, message) => {
            subject.fault(1, access);
            subject.hears(from, message(next, access))
        }
        Event::Collected(message) => {
            subject.fault(1, Access::Write);
            assert_eq!(subject.hears(OTHER, dropped(next)), []);
            subject.hears(HOME, message(next, &[OTHER]))
        }
        Event::Demand(message) => subject.hears(HOME, message),
        Event::Evict => subject.act(|engine, out| engine.on_evict(PAGE, out)),
        // Only what happens to the page is told by the table; the notices have tests of their own.
        Event::Release => about_page(subject.arrives_at_barrier(1, HOME)),
        Event::Acquire => about_page(subject.gets_lock_with_notice(1, HOME, OTHER, PAGE)),
    }
}

fn about_page(actions: Vec<Action>) -> Vec<Action> {
    let about = |action: &Action| match action {
        Action::Send { .. } | Action::Complete { .. } => false,
        other => format!("{other:?}").contains(&format!("{PAGE:?}")),
    };
    actions.into_iter().filter(about).collect()
}

/// An action in the words of the table.
fn words(action: &Action) -> String {
    match action {
        Action::Fill(PAGE) => "Fill".into(),
        Action::FillZero(PAGE) => "FillZero".into(),
        Action::MapRead(PAGE) => "MapRead".into(),
        Action::MapWrite(PAGE) => "MapWrite".into(),
        Action::Unprotect(PAGE) => "Unprotect".into(),
        Action::Protect(PAGE) => "Protect".into(),
        Action::Unmap(PAGE) => "Unmap".into(),
        Action::MakeTwin(PAGE) => "MakeTwin".into(),
        Action::SendDiff { to, message: Message::Diff { page: PAGE, .. }, page: PAGE, .. } => {
            format!("Diff to {}", place(*to))
        }
        Action::Complete { outcome: Outcome::Done, .. } => "Complete".into(),
        Action::Complete { outcome: Outcome::Failed(Failure::PageLost(_)), .. } => {
            "Complete(PageLost)".into()
        }
        Action::Send { to, message, payload } => {
            let (what, with_page) = match message {
                Message::PageRequest { page: PAGE, access, .. } => {
                    (format!("PageRequest({access:?})"), false)
                }
                Message::Data { page: PAGE, access, .. } => (format!("Data({access:?})"), true),
                Message::Done { page: PAGE, installed: true, .. } => ("Done".into(), false),
                Message::InvalidateAck { page: PAGE } => ("InvalidateAck".into(), false),
                Message::Evict { page: PAGE } => ("Evict".into(), false),
                Message::Collect { page: PAGE, step: Collect::Dropped, .. } => ("Dropped".into(), false),
                other => panic!("the table has no word for {other:?}"),
            };
            assert_eq!(*payload, with_page.then_some(PAGE), "{what}");
            format!("{what} to {}", place(*to))
        }
        other => panic!("the table has no word for {other:?}"),
    }
}

fn place(to: NodeId) -> &'static str {
    match to.get() {
        HOME => "home",
        OTHER => "requester",
        other => panic!("the table has no word for node {other}"),
    }
}

#[test]
fn the_engine_follows_every_row_of_the_holders_table() {
    for protocol in PROTOCOLS {
        for row in table(texts(protocol).0, HOLDERS_HEAD) {
            let [state, event_text, actions, next_state] = &row;
            let (mut subject, next) = in_state(protocol, state);
            let done = apply(&mut subject, next, event(event_text));
            let done: Vec<String> = done.iter().map(words).collect();
            assert_eq!(done.join(", "), *actions, "{protocol:?}: in {state}, {event_text}");
            assert_eq!(subject.state().to_string(), *next_state, "{protocol:?}: in {state}, {event_text}");
        }
    }
}

/// Every event of any protocol that has no row in the state of the copy.
fn without_row(protocol: Protocol, state: &str) -> Vec<String> {
    let rows = table(texts(protocol).0, HOLDERS_HEAD);
    let all = PROTOCOLS.into_iter().flat_map(|any| table(texts(any).0, HOLDERS_HEAD));
    let events: std::collections::BTreeSet<String> = all.map(|[_, event, ..]| event).collect();
    let listed = |event: &String| rows.iter().any(|row| row[0] == state && row[1] == *event);
    events.into_iter().filter(|event| !listed(event)).collect()
}

#[test]
fn what_has_no_row_changes_nothing() {
    let states = [PageState::Invalid, PageState::Shared, PageState::Modified];
    for (protocol, states) in [
        (Protocol::WriteInvalidate, &states[..]),
        (Protocol::Migration, &[states[0], states[2]]),
        (Protocol::Release, &states[..]),
    ] {
        for state in states.iter().map(PageState::to_string) {
            for event_text in without_row(protocol, &state) {
                let (mut subject, next) = in_state(protocol, &state);
                let (from, message) = match event(&event_text) {
                    Event::Fault(_) => panic!("{protocol:?}: a fault in {state} has no row"),
                    Event::Answer(access, from, message) => (from, message(next, access)),
                    Event::Collected(message) => (HOME, message(next, &[OTHER])),
                    Event::Demand(message) => (HOME, message),
                    Event::Evict => {
                        assert_eq!(apply(&mut subject, next, Event::Evict), [], "{protocol:?}: in {state}");
                        continue;
                    }
                    Event::Release | Event::Acquire => continue,
                };
                let mut out = Vec::new();
                let view = subject.engine.view();
                let _ = subject.engine.on_message(node(from), view, &message, &mut out);
                assert_eq!(out, [], "{protocol:?}: in {state}, {event_text}");
                assert_eq!(subject.state().to_string(), state, "{protocol:?}: in {state}, {event_text}");
            }
        }
    }
}

// The home's table.

/// The value of a sum such as `4 + 2(k-1)`.
fn count(sum: &str, k: usize) -> usize {
    let term = |term: &str| {
        let digits = term.find(|c: char| !c.is_ascii_digit()).unwrap_or(term.len());
        let factor: usize = term[..digits].parse().expect("every term begins with a number");
        match &term[digits..] {
            "" => factor,
            "k" => factor * k,
            "(k-1)" => factor * (k - 1),
            other => panic!("the test cannot count {other}"),
        }
    };
    sum.split(" + ").map(term).sum()
}

/// Messages for an access of node 2 to PAGE after these nodes read it.
fn after_reads(protocol: Protocol, readers: &[u16], access: Access) -> usize {
    let mut mesh = Mesh::following(protocol, 8, Placement::Single(node(HOME)));
    for reader in readers {
        mesh.accesses(*reader, PAGE, Access::Read);
    }
    mesh.accesses(THIS, PAGE, access).len()
}

fn after_write(protocol: Protocol, writer: u16, access: Access, lost: bool) -> usize {
    let mut mesh = Mesh::following(protocol, 8, Placement::Single(node(HOME)));
    mesh.accesses(writer, PAGE, Access::Write);
    if lost {
        mesh.lose(writer, false, &[0, 1, 2, 4, 5, 6, 7]);
    }
    mesh.accesses(THIS, PAGE, access).len()
}

/// Messages for node 3 giving PAGE back after it and these nodes read it, or after it wrote it.
fn after_evict(protocol: Protocol, readers: &[u16], written: bool) -> usize {
    let mut mesh = Mesh::following(protocol, 8, Placement::Single(node(HOME)));
    mesh.accesses(OWNER, PAGE, if written { Access::Write } else { Access::Read });
    for reader in readers {
        mesh.accesses(*reader, PAGE, Access::Read);
    }
    let sent = mesh.evicts(OWNER, PAGE);
    assert_eq!(mesh.state(OWNER, PAGE), PageState::Invalid, "{protocol:?}");
    mesh.check_coherence([PAGE].into_iter());
    sent.len()
}

fn accesses(request: &str) -> Vec<Access> {
    if request == "any" { vec![Access::Read, Access::Write] } else { vec![access(request)] }
}

/// A write after `first` and k others read the page, for each k; a second number is for more of these than are collected.
fn dropping(protocol: Protocol, first: u16, messages: &str) -> Vec<(usize, usize)> {
    let (few, many) = messages.split_once(", or ").unwrap_or((messages, messages));
    let one = |k: usize| {
        let others: Vec<u16> = (3..3 + k as u16).collect();
        let said = if k > pagemesh_protocol::limits::COLLECTED { many } else { few };
        (count(said, k), after_reads(protocol, &[&[first], others.as_slice()].concat(), Access::Write))
    };
    (1..=5).map(one).collect()
}

/// Runs the scenario of one row; returns for each run of it what the row says and what was counted.
fn scenario(protocol: Protocol, row: &[String; 4]) -> Vec<(usize, usize)> {
    let [directory, request_word, _, messages] = row;
    let each = |run: &dyn Fn(Access) -> usize| {
        accesses(request_word).into_iter().map(|access| (count(messages, 0), run(access))).collect()
    };
    match directory.as_str() {
        "untouched" => each(&|access| after_reads(protocol, &[], access)),
        "shared, home holds a copy" => each(&|access| after_reads(protocol, &[HOME, OWNER], access)),
        "shared, home holds none" => each(&|access| after_reads(protocol, &[OWNER, OTHER], access)),
        "shared by the requester alone" => each(&|access| after_reads(protocol, &[THIS], access)),
        "shared by the home alone" => each(&|access| after_reads(protocol, &[HOME], access)),
        "shared, requester among k+1 holders" => dropping(protocol, THIS, messages),
        "shared, home among k+1 holders, requester not" => dropping(protocol, HOME, messages),
        "shared by k, neither home nor requester among them" => (1..=5)
            .map(|k| {
                let holders: Vec<u16> = (3..3 + k as u16).collect();
                (count(messages, k), after_reads(protocol, &holders, access(request_word)))
            })
            .collect(),
        "touched" => each(&|access| after_write(protocol, HOME, access, false)),
        // On a mesh without delay no diff is on its way, and none goes with a node; the engine's own tests have these rows.
        "touched, a diff is on its way" | "touched, a diff went with a lost node" => Vec::new(),
        "modified at the home" => each(&|access| after_write(protocol, HOME, access, false)),
        "modified at a third node" => each(&|access| after_write(protocol, OWNER, access, false)),
        "held by the sender alone" => {
            [false, true].map(|written| (count(messages, 0), after_evict(protocol, &[], written))).to_vec()
        }
        "shared by the sender and others" => [&[OTHER][..], &[OTHER, HOME], &[HOME, OTHER, THIS]]
            .map(|others| (count(messages, 0), after_evict(protocol, others, false)))
            .to_vec(),
        "lost" => each(&|access| after_write(protocol, OWNER, access, true)),
        other => panic!("the test knows no scenario for the row {other}"),
    }
}

#[test]
fn every_row_of_the_homes_table_costs_what_it_says() {
    for protocol in PROTOCOLS {
        for row in table(texts(protocol).0, HOMES_HEAD) {
            for (said, counted) in scenario(protocol, &row) {
                assert_eq!(counted, said, "{protocol:?}: {row:?}");
            }
        }
    }
}

/// What each row costs is counted in `atomics_are_done_once.rs`.
#[test]
fn the_table_of_atomic_operations_is_the_engines() {
    let source = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/atomics.rs"));
    let rows: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("//! |")).collect();
    assert!(rows.len() > 2, "the table is gone");
    let table: Vec<String> = rows.iter().map(|row| format!("|{row}\n")).collect();
    assert!(DOCUMENT.contains(&table.concat()), "docs/protocol.md has another table");
}

#[test]
fn the_bounds_are_those_of_the_engine() {
    use pagemesh_protocol::limits;
    for (what, bound) in [
        ("nodes", limits::NODES.to_string()),
        ("waiting calls of one node", limits::TICKETS.to_string()),
        (
            "page requests and atomic operations of one node that one home has not answered",
            format!("{}; more is a breach of the protocol", limits::REQUESTS_PER_PEER),
        ),
        (
            "calls of one node that try for the locks of one home, and as many that wait for its barriers, reader-writer locks, semaphores and conditions",
            format!("{}; more is a breach of the protocol", limits::TICKETS),
        ),
        (
            "pages that others give back and one home takes, at a time",
            format!("{}; further hints are let go", limits::EVICTIONS),
        ),
        (
            "locks in use at one home, idle ones at other nodes too; and those that one node holds or waits for",
            format!("{},{}", limits::LOCKS / 1000, limits::LOCKS % 1000),
        ),
        (
            "idle locks that one node keeps",
            format!(
                "{},{}; for one more it gives one back",
                limits::IDLE_TOKENS / 1000,
                limits::IDLE_TOKENS % 1000
            ),
        ),
        (
            "locks of one home that are looked for at a time after a loss",
            limits::LOCKS_MENDED_AT_A_TIME.to_string(),
        ),
        (
            "reader-writer locks, semaphores and conditions in use at one home, each",
            format!("{},{}", limits::LOCKS / 1000, limits::LOCKS % 1000),
        ),
        (
            "times that reader-writer locks of one home are held for reading",
            format!("{},{}", limits::READERS / 1000, limits::READERS % 1000),
        ),
        (
            "calls that are named to one that has a reader-writer lock, or waits for it",
            limits::RWLOCK_NAMED.to_string(),
        ),
        ("units of a semaphore", format!("2^{} - 1", (limits::SEMAPHORE_UNITS + 1).ilog2())),
        ("barriers in use at one home", limits::BARRIERS.to_string()),
        (
            "pinned pages of one node, each counted as often as it is pinned",
            format!("{} (32 MiB, or 16 MiB twice); more is an error", limits::PINS),
        ),
        (
            "pages of one node at stake",
            format!("{}; who asks for one more is sent to the home", limits::STAKED),
        ),
        (
            "demands of a home for one copy that wait for threads or pins",
            format!("{}; more is a breach of the protocol", limits::DEMANDS_FOR_ONE_COPY),
        ),
        (
            "twins of one node",
            format!("{}; with one more page to be written the interval ends", limits::TWINS),
        ),
        (
            "runs of pages that one node keeps notices of",
            format!(
                "{},{},{}; more is a breach of the protocol",
                limits::NOTICES / 1_000_000,
                limits::NOTICES / 1000 % 1000,
                limits::NOTICES % 1000
            ),
        ),
        ("regions, at a time", limits::REGIONS.to_string()),
        ("pages of a region", format!("2^{} (16 TiB)", limits::REGION_PAGES.ilog2())),
        ("rounds of an agreement", limits::MAP_ROUNDS.to_string()),
    ] {
        let row = format!("| {what} | {bound} |");
        assert!(DOCUMENT.contains(&row), "docs/protocol.md lacks the row {row}");
    }
}
