//! Programs on several nodes can only share data structures when a block that one of them has got is nobody else's, wherever it
//! came from, until it is freed, wherever that happens; and when freed memory can be had again. Four nodes allocate, resize,
//! hand each other and free blocks at random, and each block carries its number in every byte; in the end nothing is left. A node
//! that is killed while it does so takes nothing along but what it worked on.
//!
//! The example `heap_storm` does the same for as long as one likes.

mod cluster;
mod heap_player;

use cluster::{PATIENCE, everywhere, play, run, start_with};
use heap_player::Player;
use pagemesh::{Heap, HeapAddress, HeapError, Mesh, NodeId, PageState, Protocol, RegionOptions};
use std::time::{Duration, Instant};

const NODES: usize = 4;
const VICTIM: NodeId = NodeId::new(2);
const PROTOCOLS: [Protocol; 3] = [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release];
/// Random operations of each thread.
const OPERATIONS: usize = 300;
const THREADS: u64 = 3;

fn heap(mesh: &Mesh, protocol: Protocol, bytes: usize) -> Heap {
    Heap::open(mesh, &format!("{protocol:?}"), RegionOptions::new(bytes).protocol(protocol)).unwrap()
}

#[test]
fn four_nodes_lose_and_double_nothing() {
    const TEST: &str = "four_nodes_lose_and_double_nothing";
    play(TEST, |mesh| {
        for protocol in PROTOCOLS {
            let started = Instant::now();
            // Large enough to keep nodes apart at first, small enough to be exhausted in a long run.
            let heap = heap(&mesh, protocol, 8 << 20);
            // Before the threads: what they leave in the slots stays as long as this has them open.
            let mut player = Player::new(&mesh, &heap, 0, None);
            std::thread::scope(|scope| {
                for thread in 1..THREADS {
                    let (mesh, heap) = (&mesh, &heap);
                    scope.spawn(move || {
                        let mut player = Player::new(mesh, heap, thread, None);
                        (0..OPERATIONS).for_each(|_| player.step());
                        player.free_all();
                    });
                }
            });
            (0..OPERATIONS).for_each(|_| player.step());
            player.finish();
            let done = heap.stats().unwrap();
            say!(
                "{protocol:?}: {} allocated, {} freed, {:?}",
                done.allocations,
                done.frees,
                started.elapsed()
            );
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        for said in run(TEST, NODES).concat() {
            println!("{said}");
        }
    });
}

/// The blocks that all nodes have between them are the model: now and then they are compared with each other and with what the heap says
/// that it has handed out. Between that every byte of every block is.
#[test]
fn a_million_operations_of_four_nodes_agree_with_a_model() {
    const TEST: &str = "a_million_operations_of_four_nodes_agree_with_a_model";
    const ROUNDS: usize = 7;
    const STEPS: usize = 35_800;
    const BYTES: usize = 8 << 20;
    const _: () = assert!(ROUNDS * STEPS * NODES > 1_000_000);
    play(TEST, |mesh| {
        let heap = heap(&mesh, Protocol::WriteInvalidate, BYTES);
        let mut player = Player::new(&mesh, &heap, 1, None).apart(4, 800);
        let (is_first, meet) = (mesh.node() == NodeId::COORDINATOR, mesh.barrier(2));
        for _ in 0..ROUNDS {
            (0..STEPS).for_each(|_| player.step());
            say!("played");
            meet.wait().unwrap();
            if is_first {
                player.take_what_is_left();
                let stats = heap.stats().unwrap();
                say!("{} {}", stats.blocks, stats.bytes);
            }
            let has = player
                .blocks()
                .into_iter()
                .map(|(block, usable)| format!("{}+{usable}", block.get() - heap.region().base()));
            say!("{}", has.collect::<Vec<_>>().join(" "));
            meet.wait().unwrap();
        }
        player.finish();
        let stats = heap.stats().unwrap();
        say!("{}", stats.allocations + stats.frees);
        mesh.leave().unwrap();
    });
    let nodes = start_with(TEST, NODES, &[]);
    let numbers = |said: String, between: char| -> Vec<usize> {
        said.split(between).filter(|word| !word.is_empty()).map(|word| word.parse().unwrap()).collect()
    };
    for round in 0..ROUNDS {
        for node in &nodes {
            assert_eq!(node.hear(), "played");
        }
        let handed_out = numbers(nodes[0].hear(), ' ');
        let said: Vec<usize> =
            nodes.iter().flat_map(|node| numbers(node.hear().replace('+', " "), ' ')).collect();
        let mut blocks: Vec<(usize, usize)> =
            said.chunks(2).map(|block| (block[0], block[0] + block[1])).collect();
        blocks.sort_unstable();
        let bytes: usize = blocks.iter().map(|(start, end)| end - start).sum();
        assert_eq!(handed_out, [blocks.len(), bytes], "round {round}");
        assert!(blocks.len() > 100, "{} blocks are not much to compare", blocks.len());
        let overlap = blocks.windows(2).find(|pair| pair[0].1 > pair[1].0);
        assert_eq!(overlap, None, "round {round}");
        assert!(blocks.iter().all(|(start, end)| start < end && *end <= BYTES), "round {round}");
    }
    let operations: usize = nodes.into_iter().map(|node| numbers(node.rest().concat(), ' ')[0]).sum();
    println!("{operations} times a block was allocated or freed");
    // The rest found no room, or passed a block on.
    assert!(
        operations > ROUNDS * STEPS * NODES / 2,
        "only {operations} times a block was allocated or freed"
    );
}

#[test]
fn a_node_that_is_killed_leaves_a_heap_that_works() {
    const TEST: &str = "a_node_that_is_killed_leaves_a_heap_that_works";
    const PROTOCOLS: [Protocol; 2] = [Protocol::WriteInvalidate, Protocol::Migration];
    play(TEST, |mesh| {
        let protocol = PROTOCOLS[std::env::var("PAGEMESH_TEST_PROTOCOL").unwrap().parse::<usize>().unwrap()];
        let heap = heap(&mesh, protocol, 8 << 20);
        let mut player = Player::new(&mesh, &heap, 0, Some(VICTIM));
        mesh.barrier(1).wait().unwrap();
        let mut steps = 0;
        while mesh.node() == VICTIM || mesh.wait_departure(Duration::ZERO).is_none() {
            player.step();
            steps += 1;
            if steps == 200 {
                say!("at work");
            }
        }
        for _ in 0..OPERATIONS {
            player.step();
        }
        player.free_all();
        // Everyone can still allocate and free, at the latest when the others have come so far.
        let deadline = Instant::now() + PATIENCE;
        let mut done = 0;
        while done < 100 {
            match heap.alloc(40, 8) {
                Err(HeapError::Exhausted { .. }) => assert!(Instant::now() < deadline, "{:?}", heap.stats()),
                got => {
                    let Some(address) = player.survived(got) else { continue };
                    player.fill(address, 40).unwrap();
                    heap.free(address).unwrap();
                    done += 1;
                }
            }
        }
        let stats = heap.stats().unwrap();
        assert!(stats.lost_spans < stats.spans, "{stats:?}");
        say!("{stats:?}");
        let _ = mesh.leave();
    });
    everywhere(|| {
        for protocol in ["0", "1"] {
            let mut nodes = start_with(TEST, NODES, &[("PAGEMESH_TEST_PROTOCOL", protocol)]);
            for node in &nodes {
                assert_eq!(node.hear(), "at work");
            }
            // In the middle of whatever it does.
            nodes.remove(VICTIM.index()).kill();
            for node in nodes {
                for said in node.rest() {
                    println!("{said}");
                }
            }
        }
    });
}

/// What one thread has freed, any other gets, also where all were allocated by one node and the heap is full.
#[test]
fn freed_memory_is_for_every_node() {
    const TEST: &str = "freed_memory_is_for_every_node";
    play(TEST, |mesh| {
        let heap = heap(&mesh, Protocol::WriteInvalidate, 1 << 20);
        for round in 0..NODES {
            for size in [48, 1000, 30_000] {
                if mesh.node().index() == round {
                    let mut blocks = Vec::new();
                    while let Ok(address) = heap.alloc(size, 1) {
                        blocks.push(address);
                    }
                    assert!(blocks.len() * size > heap.capacity() * 4 / 5, "{} of {size}", blocks.len());
                    let error = heap.alloc(size, 1).unwrap_err();
                    assert!(matches!(error, HeapError::Exhausted { bytes, .. } if bytes == size), "{error}");
                    for address in blocks {
                        heap.free(address).unwrap();
                    }
                }
                mesh.barrier(1).wait().unwrap();
            }
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// A span from which one has allocated, then another, and that the first has emptied: found by a storm of a million operations.
#[test]
fn what_one_empties_can_be_had_whoever_filled_it() {
    const TEST: &str = "what_one_empties_can_be_had_whoever_filled_it";
    play(TEST, |mesh| {
        let one = heap(&mesh, Protocol::WriteInvalidate, 1 << 20);
        let other = Heap::in_region(&mesh, one.region().clone()).unwrap();
        one.free(one.alloc(16, 1).unwrap()).unwrap();
        other.free(other.alloc(other.capacity(), 1).unwrap()).unwrap();
        // More than one span of a page.
        let blocks: Vec<HeapAddress> = (0..300).map(|_| other.alloc(16, 1).unwrap()).collect();
        for block in blocks {
            one.free(block).unwrap();
        }
        for heap in [&one, &other] {
            heap.free(heap.alloc(heap.capacity(), 1).unwrap()).unwrap();
        }
        mesh.leave().unwrap();
    });
    run(TEST, 1);
}

#[test]
fn nodes_keep_apart_while_there_is_room() {
    const TEST: &str = "nodes_keep_apart_while_there_is_room";
    play(TEST, |mesh| {
        let heap = heap(&mesh, Protocol::WriteInvalidate, 16 << 20);
        for size in [16, 100, 3000] {
            for _ in 0..20 {
                say!("{}", heap.alloc(size, 1).unwrap().get() / 4096);
            }
        }
        heap.free(heap.alloc(500, 64).unwrap()).unwrap();
        heap.free(heap.realloc(heap.alloc(9000, 1).unwrap(), 8500).unwrap()).unwrap();
        mesh.barrier(1).wait().unwrap();
        // What is known of the blocks lies elsewhere: nobody has touched a page of theirs.
        let region = heap.region();
        assert!((0..region.pages()).all(|page| region.page_state(page) == PageState::Invalid));
        assert!((0..region.pages()).step_by(61).all(|page| region.page_owner(page).unwrap().is_none()));
        mesh.barrier(1).wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let pages = run(TEST, NODES);
        for (node, mine) in pages.iter().enumerate() {
            for (other, theirs) in pages.iter().enumerate().filter(|(other, _)| *other != node) {
                assert!(
                    mine.iter().all(|page| !theirs.contains(page)),
                    "nodes {node} and {other} share a page"
                );
            }
        }
    });
}

#[test]
fn mistakes_are_told_and_change_nothing() {
    const TEST: &str = "mistakes_are_told_and_change_nothing";
    play(TEST, |mesh| {
        let heap = heap(&mesh, Protocol::WriteInvalidate, 4 << 20);
        let me = NodeId::new(0) == mesh.node();
        let words = mesh.region("words", RegionOptions::new(4096)).unwrap().slice::<u64>(0, 2).unwrap();
        if me {
            words.set(0, heap.alloc(100, 64).unwrap().get() as u64).unwrap();
            words.set(1, heap.alloc(1 << 20, 4096).unwrap().get() as u64).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        let address = |offset: usize| HeapAddress::new(offset).unwrap();
        let (small, large) = (words.get(0).unwrap() as usize, words.get(1).unwrap() as usize);
        let outside = [1, heap.region().base() - 16, heap.region().base() + heap.region().bytes()];
        for wild in
            outside.into_iter().chain([small + 1, small + 16, large + 1, large + 4096, large + (1 << 19)])
        {
            let error = heap.free(address(wild)).unwrap_err();
            assert!(matches!(error, HeapError::NotABlock { .. }), "{error}");
            assert!(matches!(heap.usable_size(address(wild)), Err(HeapError::NotABlock { .. })));
            assert!(matches!(heap.realloc(address(wild), 1), Err(HeapError::NotABlock { .. })));
        }
        assert!(matches!(heap.alloc(0, 1), Err(HeapError::NoBytes)));
        assert!(matches!(heap.alloc(1, 0), Err(HeapError::Alignment { align: 0 })));
        assert!(matches!(heap.alloc(1, 48), Err(HeapError::Alignment { align: 48 })));
        assert!(matches!(heap.alloc(usize::MAX, 1), Err(HeapError::Exhausted { .. })));
        assert!(matches!(heap.alloc(heap.capacity() + 1, 1), Err(HeapError::Exhausted { .. })));
        assert!(matches!(heap.alloc(1, 1 << 63), Err(HeapError::Exhausted { .. })));
        mesh.barrier(1).wait().unwrap();
        // Both nodes free both blocks: each is freed once.
        for block in [small, large] {
            match heap.free(address(block)) {
                Ok(()) => say!("freed"),
                Err(HeapError::AlreadyFree { .. }) => say!("was free"),
                Err(error) => panic!("{error}"),
            }
        }
        mesh.barrier(1).wait().unwrap();
        for block in [small, large] {
            assert!(matches!(heap.free(address(block)), Err(HeapError::AlreadyFree { .. })));
        }
        assert_eq!(heap.stats().unwrap().blocks, 0);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, 2);
        for (one, other) in said[0].iter().zip(&said[1]) {
            let mut both = [one, other];
            both.sort_unstable();
            assert_eq!(both, ["freed", "was free"]);
        }
    });
}

#[test]
fn a_block_can_be_resized_to_anything_that_fits() {
    const TEST: &str = "a_block_can_be_resized_to_anything_that_fits";
    play(TEST, |mesh| {
        let heap = heap(&mesh, Protocol::WriteInvalidate, 2 << 20);
        let bytes = heap.region().slice::<u8>(0, heap.region().bytes()).unwrap();
        let mut block = heap.alloc(16, 16).unwrap();
        bytes.write(heap.offset(block), b"sixteen bytes at").unwrap();
        for size in [17, 200, 5000, 100_000, 1_000_000, 1_100_000, 300_000, 60_000, 900, 16] {
            block = heap.realloc(block, size).unwrap();
            let usable = heap.usable_size(block).unwrap();
            assert!(usable >= size && usable <= size + size / 4 + 4096, "{usable} for {size}");
            let mut found = [0; 16];
            bytes.read(heap.offset(block), &mut found).unwrap();
            assert_eq!(&found, b"sixteen bytes at", "at {size}");
        }
        assert!(matches!(heap.realloc(block, heap.capacity() + 1), Err(HeapError::Exhausted { .. })));
        assert!(matches!(heap.realloc(block, 0), Err(HeapError::NoBytes)));
        heap.free(block).unwrap();
        assert_eq!(heap.stats().unwrap().free_spans, heap.stats().unwrap().spans);
        mesh.leave().unwrap();
    });
    run(TEST, 1);
}
