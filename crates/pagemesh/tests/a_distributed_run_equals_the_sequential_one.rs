//! A memory that is shared properly lets an algorithm run on many processes and give the answer that it gives on one. So the same work
//! is done by four processes under every protocol and placement, and by each of them alone in its own memory: a
//! single value that all read, a sort by a queue of work, and a prefix sum.

mod cluster;

use cluster::{everywhere, play, run};
use pagemesh::{Mesh, NodeId, Placement, Protocol, RegionOptions, SharedSlice};

const NODES: usize = 4;

/// How a region is kept coherent, and where its pages have their homes.
type Kind = (Protocol, Placement);

/// Every protocol with every placement.
fn kinds() -> impl Iterator<Item = Kind> {
    let placements =
        [Placement::Cyclic, Placement::Block, Placement::Single(NodeId::new(1)), Placement::FirstTouch];
    [Protocol::WriteInvalidate, Protocol::Migration]
        .into_iter()
        .flat_map(move |protocol| placements.into_iter().map(move |placement| (protocol, placement)))
}

/// `len` shared numbers.
fn numbers(mesh: &Mesh, kind: Kind, len: usize) -> SharedSlice<u64> {
    let options = RegionOptions::new(len * 8).protocol(kind.0).placement(kind.1);
    mesh.region(&format!("{kind:?}"), options).unwrap().slice(0, len).unwrap()
}

/// The same numbers on every node: xorshift64 (Marsaglia 2003).
fn random_numbers(count: usize) -> Vec<u64> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn copied(numbers: &SharedSlice<u64>, start: usize, len: usize) -> Vec<u64> {
    let mut copy = vec![0; len];
    numbers.read(start, &mut copy).unwrap();
    copy
}

/// Two sorted runs as one.
fn merged(mut one: &[u64], mut other: &[u64]) -> Vec<u64> {
    let mut all = Vec::with_capacity(one.len() + other.len());
    while let (Some(a), Some(b)) = (one.first(), other.first()) {
        if a <= b {
            all.push(*a);
            one = &one[1..];
        } else {
            all.push(*b);
            other = &other[1..];
        }
    }
    all.extend(one.iter().chain(other));
    all
}

/// Four processes and ten pages, all zero at first; one process writes to some address, the others read it.
#[test]
fn what_one_of_four_writes_somewhere_in_ten_pages_the_others_read() {
    const TEST: &str = "what_one_of_four_writes_somewhere_in_ten_pages_the_others_read";
    const PAGES: usize = 10;
    play(TEST, |mesh| {
        for kind in kinds() {
            let words = numbers(&mesh, kind, PAGES * 512);
            assert!(copied(&words, 0, PAGES * 512).iter().all(|word| *word == 0), "{kind:?}");
            for (round, place) in [1234, 0, PAGES * 512 - 1, 2048].into_iter().enumerate() {
                mesh.barrier(1).wait().unwrap();
                if mesh.node().index() == round {
                    words.set(place, 1000 + round as u64).unwrap();
                }
                mesh.barrier(1).wait().unwrap();
                assert_eq!(words.get(place).unwrap(), 1000 + round as u64, "{kind:?}");
            }
            if kind.1 == Placement::Cyclic {
                for page in 0..PAGES {
                    let home = NodeId::new((page % NODES) as u16);
                    assert_eq!(words.region().page_home(page).unwrap(), Some(home));
                }
            }
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}

/// Chunks are sorted by whoever takes them from a queue, then merged two by two, until one is left.
#[test]
fn a_sort_by_a_queue_of_work_is_a_sort() {
    const TEST: &str = "a_sort_by_a_queue_of_work_is_a_sort";
    const CHUNKS: usize = 16;
    const CHUNK: usize = 700;
    const COUNT: usize = CHUNKS * CHUNK;
    /// Before the numbers: how many tasks of each round were taken.
    const QUEUES: usize = 8;
    /// Takes tasks `0..tasks` of a round until none is left.
    fn work(mesh: &Mesh, words: &SharedSlice<u64>, round: usize, tasks: usize, task: impl Fn(usize)) -> u64 {
        let mut done = 0;
        loop {
            let taken = {
                let _guard = mesh.lock(7).acquire().unwrap();
                let taken = words.get(round).unwrap();
                words.set(round, taken + 1).unwrap();
                taken as usize
            };
            if taken >= tasks {
                mesh.barrier(1).wait().unwrap();
                return done;
            }
            task(taken);
            done += 1;
        }
    }
    play(TEST, |mesh| {
        let unsorted = random_numbers(COUNT);
        let mut sequential = unsorted.clone();
        sequential.sort_unstable();
        let mut done = 0;
        for kind in kinds() {
            let words = numbers(&mesh, kind, QUEUES + COUNT);
            // Each node brings a part.
            let part = COUNT / NODES * mesh.node().index();
            words.write(QUEUES + part, &unsorted[part..part + COUNT / NODES]).unwrap();
            mesh.barrier(1).wait().unwrap();
            done += work(&mesh, &words, 0, CHUNKS, |chunk| {
                let start = QUEUES + chunk * CHUNK;
                let mut sorted = copied(&words, start, CHUNK);
                sorted.sort_unstable();
                words.write(start, &sorted).unwrap();
            });
            let (mut width, mut round) = (CHUNK, 1);
            while width < COUNT {
                done += work(&mesh, &words, round, COUNT / (2 * width), |pair| {
                    let start = QUEUES + pair * 2 * width;
                    let both = copied(&words, start, 2 * width);
                    words.write(start, &merged(&both[..width], &both[width..])).unwrap();
                });
                (width, round) = (2 * width, round + 1);
            }
            assert!(copied(&words, QUEUES, COUNT) == sequential, "{kind:?}: not the sequential answer");
        }
        say!("{done}");
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let done: Vec<u64> = run(TEST, NODES).concat().iter().map(|count| count.parse().unwrap()).collect();
        let tasks = CHUNKS + CHUNKS / 2 + CHUNKS / 4 + CHUNKS / 8 + CHUNKS / 16;
        assert_eq!(done.iter().sum::<u64>(), (tasks * kinds().count()) as u64, "every task once: {done:?}");
    });
}

#[test]
fn a_prefix_sum_of_parts_is_the_prefix_sum() {
    const TEST: &str = "a_prefix_sum_of_parts_is_the_prefix_sum";
    const COUNT: usize = 10_000;
    play(TEST, |mesh| {
        let values = random_numbers(COUNT);
        let scan = |values: &[u64], mut sum: u64| -> Vec<u64> {
            let mut add = |value: &u64| {
                sum = sum.wrapping_add(*value);
                sum
            };
            values.iter().map(&mut add).collect()
        };
        let sequential = scan(&values, 0);
        let me = mesh.node().index();
        let part = COUNT * me / NODES..COUNT * (me + 1) / NODES;
        for kind in kinds() {
            // The sum of each part, then the numbers.
            let words = numbers(&mesh, kind, NODES + COUNT);
            words.write(NODES + part.start, &scan(&values[part.clone()], 0)).unwrap();
            words.set(me, words.get(NODES + part.end - 1).unwrap()).unwrap();
            mesh.barrier(1).wait().unwrap();
            let before = copied(&words, 0, me).into_iter().fold(0, u64::wrapping_add);
            for place in part.clone() {
                let number = words.get(NODES + place).unwrap();
                words.set(NODES + place, number.wrapping_add(before)).unwrap();
            }
            mesh.barrier(1).wait().unwrap();
            assert!(copied(&words, NODES, COUNT) == sequential, "{kind:?}: not the sequential answer");
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, NODES);
    });
}
