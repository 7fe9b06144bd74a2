//! A member that sends rubbish is dropped, and nothing else is harmed. The test itself joins as node 1 and then misbehaves towards
//! both other nodes, which go on sharing memory.

mod cluster;

use cluster::{Node, PATIENCE, play};
use pagemesh::{DepartureKind, NodeId, Placement, RegionOptions};
use pagemesh_net::JoinOptions;
use pagemesh_protocol::{
    Access, BarrierId, LockId, Message, PageAddress, PageOwner, RegionId, RequestId, Run, RunKind, Ticket,
    View, barrier_home, lock_home,
};
use std::io::{Read, Write};
use std::net::TcpStream;

const STRANGE: NodeId = NodeId::new(1);

fn framed(view: View, message: &Message, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [0; Message::MAX_BYTES];
    let length = message.encode(view, &mut bytes);
    frame(&bytes[..length], payload)
}

fn frame(message: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
    frame.extend((message.len() as u16).to_le_bytes());
    frame.extend(0x4d50_u16.to_le_bytes());
    frame.extend(message);
    frame.extend(payload);
    frame
}

/// What a broken or hostile member might send. Each must cost it its membership.
fn rubbish() -> Vec<(&'static str, Vec<u8>)> {
    let page = PageAddress::new(RegionId(0), 0);
    let (request, ticket) = (RequestId(0), Ticket::new(0, 1));
    let first = |message: Message| framed(View::FIRST, &message, &[]);
    let elsewhere = |home| home != STRANGE;
    let lock = (0..100).map(LockId).find(|lock| elsewhere(lock_home(*lock, 3))).unwrap();
    let barrier = (0..100).map(BarrierId).find(|barrier| elsewhere(barrier_home(*barrier, 3))).unwrap();
    let mut unknown = [0; 32];
    unknown[0] = 200;
    unknown[4] = 1;
    let mut oversized = frame(&unknown, &[]);
    oversized[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut cut = first(Message::Invalidate { page });
    cut.truncate(20);
    let run = |kind, pages: usize, count| {
        // The second page of two: what is given to the stranger before it is found out goes with it.
        let first = PageAddress::new(RegionId(0), 1);
        let run = Run { kind, first, request, access: Access::Read, count: 2 };
        let mut bytes = run.encode(View::FIRST);
        bytes[24] = count;
        let mut bytes = frame(&bytes, &vec![1; pages * 4096]);
        // Such a payload is long.
        bytes[3] |= if pages > 0 { 0x20 } else { 0 };
        bytes
    };
    vec![
        ("a run of one", run(RunKind::Requests, 0, 1)),
        ("a run that is too long", run(RunKind::Requests, 0, 65)),
        ("a run beyond the region's end", run(RunKind::Requests, 0, 2)),
        ("requests with pages", run(RunKind::Requests, 2, 2)),
        ("pages without pages", run(RunKind::Data, 0, 2)),
        ("more pages than were said", run(RunKind::Data, 3, 2)),
        ("half a run of pages, then the end", {
            let mut bytes = run(RunKind::Data, 2, 2);
            bytes.truncate(5000);
            bytes
        }),
        ("a long payload that belongs to no run", {
            let mut bytes = framed(View::FIRST, &Message::Invalidate { page }, &[1; 4096]);
            bytes[3] |= 0x20;
            bytes
        }),
        ("noise", (0..=255).collect()),
        ("text", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("an oversized length", oversized),
        ("an unknown kind", frame(&unknown, &[])),
        ("an empty message", frame(&[], &[])),
        ("half a message, then the end", cut),
        ("another view", framed(View(7), &Message::Invalidate { page }, &[])),
        ("a region that does not exist", {
            let page = PageAddress::new(RegionId(200), 0);
            first(Message::PageRequest { page, request, access: Access::Read })
        }),
        ("a page that does not exist", {
            let page = PageAddress::new(RegionId(0), 1 << 40);
            first(Message::PageRequest { page, request, access: Access::Write })
        }),
        ("an acknowledgement of nothing", first(Message::InvalidateAck { page })),
        ("a done of nothing", first(Message::Done { page, request, installed: true })),
        ("a grant from no home", first(Message::Grant { page, request, access: Access::Write, zero: true })),
        ("bytes where none belong", framed(View::FIRST, &Message::Invalidate { page }, &[1; 4096])),
        ("no bytes where some belong", first(Message::Data { page, request, access: Access::Read })),
        (
            "an answer to another's question",
            first(Message::OwnerReply { page, ticket, owner: PageOwner::Nobody }),
        ),
        ("a question about a lock from no home", first(Message::LockQuery { lock, round: 1 })),
        ("a barrier release from no home", first(Message::BarrierRelease { barrier, ticket, plan: None })),
        ("a region made up by no coordinator", first(Message::RegionDrop { region: RegionId(0), round: 0 })),
    ]
}

#[test]
fn each_kind_of_rubbish_costs_only_its_sender() {
    const TEST: &str = "each_kind_of_rubbish_costs_only_its_sender";
    play(TEST, |mesh| {
        let options = RegionOptions::new(2 * 4096).placement(Placement::Single(NodeId::new(0)));
        let region = mesh.region("kept", options).unwrap();
        let words = region.slice::<u64>(0, 1024).unwrap();
        say!("ready");
        let departure = mesh.wait_departure(PATIENCE).unwrap();
        assert_eq!((departure.node, departure.how), (STRANGE, DepartureKind::Died));
        // Those who are left go on: a lock and a barrier whose homes are among them, and the memory.
        let lock = (0..100).map(|id| mesh.lock(id)).find(|lock| lock.acquire().is_ok()).unwrap();
        for _ in 0..50 {
            let _guard = lock.acquire().unwrap();
            words.set(7, words.get(7).unwrap() + 1).unwrap();
        }
        let met = (0..100).find(|id| mesh.barrier_of(*id, 2).wait().is_ok());
        assert!(met.is_some());
        say!("{}", words.get(7).unwrap());
        let _ = mesh.leave();
    });
    for (what, bytes) in rubbish() {
        println!("sending {what}");
        let coordinator = cluster::free_address();
        let nodes = [0, 2].map(|node| Node::start(TEST, node, 3, coordinator));
        let mut options = JoinOptions::new(STRANGE.get(), 3, coordinator);
        options.timeout = PATIENCE;
        let joined = pagemesh_net::join(options).unwrap();
        // Play along until the region is agreed on: map nothing, but say so.
        let mut links: Vec<TcpStream> = joined.streams.into_iter().flatten().collect();
        for link in &links {
            link.set_nonblocking(false).unwrap();
        }
        let mut proposal = [0; 8 + Message::MAX_BYTES];
        links[0].read_exact(&mut proposal).unwrap();
        let Ok((_, Message::RegionMap { region, round, .. })) = Message::decode(&proposal[8..]) else {
            panic!("the coordinator proposes a region first");
        };
        let mapped = Message::RegionMapped { region, round, mapped: true };
        links[0].write_all(&framed(View::FIRST, &mapped, &[])).unwrap();
        for node in &nodes {
            assert_eq!(node.hear(), "ready", "before {what}");
        }
        for link in &mut links {
            link.write_all(&bytes).unwrap();
            if what.ends_with("the end") {
                link.shutdown(std::net::Shutdown::Write).unwrap();
            }
        }
        let said: Vec<_> = nodes.into_iter().map(Node::rest).collect();
        assert!(said.iter().all(|lines| lines == &["100"]), "after {what}: {said:?}");
        for link in &mut links {
            let end = link.read_to_end(&mut Vec::new());
            assert!(end.is_ok() || end.is_err_and(|error| error.raw_os_error() == Some(libc::ECONNRESET)));
        }
    }
}
