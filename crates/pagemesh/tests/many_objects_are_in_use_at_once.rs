//! A data structure whose every part has a lock of its own needs as many locks as it has parts, and holds many of them at a time. What
//! names a lock is a number that lies in the shared structure itself. So 65,536 objects of a kind, named by numbers that one node
//! has written into shared memory, are in use at the same time; what a node keeps for itself is much less, and nobody must notice.

mod cluster;

use cluster::{play, run};
use pagemesh::{Access, Protocol, RegionOptions};

const NODES: usize = 2;
const OBJECTS: usize = 65_536;

#[test]
fn as_many_as_a_structure_has_parts() {
    const TEST: &str = "as_many_as_a_structure_has_parts";
    play(TEST, |mesh| {
        let handles = mesh.region("handles", RegionOptions::new(OBJECTS * 8)).unwrap();
        let handles = handles.slice::<u64>(0, OBJECTS).unwrap();
        let release = RegionOptions::new(OBJECTS * 8).protocol(Protocol::Release);
        let words = mesh.region("words", release).unwrap().slice::<u64>(0, OBJECTS).unwrap();
        let (me, meet) = (mesh.node().index(), mesh.barrier(1));
        if me == 0 {
            let spread: Vec<u64> = (0..OBJECTS as u64).map(|part| (part << 40) | (part * 7)).collect();
            handles.write(0, &spread).unwrap();
        }
        meet.wait().unwrap();
        let mut named = vec![0; OBJECTS];
        handles.read(0, &mut named).unwrap();
        let halves = || named.iter().enumerate().skip(me).step_by(NODES);
        let count = |part| words.set(part, words.get(part).unwrap() + 1).unwrap();

        let held: Vec<_> = halves().map(|(_, name)| mesh.lock(*name).acquire().unwrap()).collect();
        meet.wait().unwrap();
        let other = named[1 - me];
        assert!(mesh.lock(other).try_inherit().unwrap().is_none(), "all are held now");
        halves().for_each(|(part, _)| count(part));
        drop(held);

        // More than a node keeps for reading, by all nodes at once.
        let read: Vec<_> = named
            .iter()
            .step_by(3)
            .map(|name| mesh.read_write_lock(*name).acquire(Access::Read, None).unwrap())
            .collect();
        meet.wait().unwrap();
        assert!(
            mesh.read_write_lock(named[3]).try_acquire(Access::Write).unwrap().is_none(),
            "all are read now"
        );
        drop(read);
        meet.wait().unwrap();
        // The other half, so that each comes from the node that counted before.
        let others = || named.iter().enumerate().skip(1 - me).step_by(NODES);
        let mut written = Vec::new();
        for (part, name) in others() {
            written.push(mesh.read_write_lock(*name).acquire(Access::Write, None).unwrap());
            count(part);
        }
        meet.wait().unwrap();
        drop(written);

        halves().for_each(|(_, name)| mesh.semaphore(*name).init(1).unwrap());
        meet.wait().unwrap();
        for (part, name) in others() {
            mesh.semaphore(*name).wait(None).unwrap();
            count(part);
        }
        meet.wait().unwrap();
        assert!((0..OBJECTS).all(|part| words.get(part).unwrap() == 3));
        meet.wait().unwrap();
        mesh.leave().unwrap();
    });
    run(TEST, NODES);
}
