//! What is written on one node is read on every other, at the same address: the promise that everything else serves. Real
//! processes, real faults, real sockets.

mod cluster;

use cluster::{everywhere, play, run};
use pagemesh::PageState::{self, Invalid, Modified, Shared};
use pagemesh::{Config, JoinError, Mesh, NodeId, Placement, RegionError, RegionOptions};
use std::time::Duration;

#[test]
fn every_node_reads_what_every_other_wrote() {
    const TEST: &str = "every_node_reads_what_every_other_wrote";
    play(TEST, |mesh| {
        let region = mesh.region("shared", RegionOptions::new(64 * 4096)).unwrap();
        let words = region.slice::<u64>(0, 64 * 512).unwrap();
        let (me, nodes) = (mesh.node().index(), mesh.nodes());
        // Each node writes its own words of every page, so that every page has to be passed around.
        for page in 0..64 {
            words.set(page * 512 + me, (page * 100 + me) as u64).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        for page in 0..64 {
            for node in 0..nodes {
                assert_eq!(words.get(page * 512 + node).unwrap(), (page * 100 + node) as u64);
            }
        }
        say!("{:#x}", region.base());
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, 4);
        assert_eq!(said[0].len(), 1);
        assert!(said.iter().all(|lines| *lines == said[0]), "one address on every node: {said:?}");
    });
}

#[test]
fn a_page_goes_through_the_states_of_msi() {
    const TEST: &str = "a_page_goes_through_the_states_of_msi";
    play(TEST, |mesh| {
        let options = RegionOptions::new(2 * 4096).placement(Placement::Single(NodeId::new(0)));
        let region = mesh.region("states", options).unwrap();
        let bytes = region.slice::<u8>(0, 8192).unwrap();
        let turn = mesh.barrier(1);
        let me = mesh.node().index();
        let faults = |mesh: &Mesh| mesh.stats().read_faults + mesh.stats().write_faults;
        let script = |who: usize, access: &dyn Fn(), mine: PageState, others: PageState, cost: u64| {
            turn.wait().unwrap();
            let before = faults(&mesh);
            if me == who {
                access();
            }
            turn.wait().unwrap();
            let expected = if me == who { mine } else { others };
            assert_eq!(region.page_state(0), expected);
            assert_eq!(faults(&mesh) - before, if me == who { cost } else { 0 });
        };
        let read = || assert!(bytes.get(0).is_ok());
        let write = || bytes.set(0, 1).unwrap();
        script(1, &read, Shared, Invalid, 1);
        script(0, &read, Shared, Shared, 1);
        script(0, &read, Shared, Shared, 0);
        script(1, &write, Modified, Invalid, 1);
        script(1, &write, Modified, Invalid, 0);
        script(1, &read, Modified, Invalid, 0);
        script(0, &read, Shared, Shared, 1);
        script(0, &write, Modified, Invalid, 1);
        script(1, &write, Modified, Invalid, 1);
        assert_eq!(region.page_owner(0).unwrap(), Some(NodeId::new(1)));
        assert_eq!(region.page_owner(1).unwrap(), None);
        assert_eq!(region.page_home(1).unwrap(), Some(NodeId::new(0)));
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

#[test]
fn many_threads_of_many_nodes_fault_at_once() {
    const TEST: &str = "many_threads_of_many_nodes_fault_at_once";
    const THREADS: usize = 4;
    const ROUNDS: u64 = 100;
    play(TEST, |mesh| {
        let region = mesh.region("threads", RegionOptions::new(40 * 4096)).unwrap();
        let words = region.slice::<u64>(0, 40 * 512).unwrap();
        let me = mesh.node().index();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (mesh, words) = (&mesh, words.clone());
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        // A word of one's own on pages that everyone writes, and a counter under a lock.
                        let page = (round as usize * 7 + thread) % 39;
                        let mine = page * 512 + 16 + me * THREADS + thread;
                        words.set(mine, words.get(mine).unwrap() + 1).unwrap();
                        let guard = mesh.lock(5).acquire().unwrap();
                        words.set(39 * 512, words.get(39 * 512).unwrap() + 1).unwrap();
                        drop(guard);
                    }
                });
            }
        });
        let mut sum = 0;
        for page in 0..39 {
            for thread in 0..THREADS {
                sum += words.get(page * 512 + 16 + me * THREADS + thread).unwrap();
            }
        }
        assert_eq!(sum, ROUNDS * THREADS as u64, "writes of this node were lost");
        mesh.barrier(1).wait().unwrap();
        let counted = words.get(39 * 512).unwrap();
        assert_eq!(counted, ROUNDS * (THREADS * mesh.nodes()) as u64, "writes under the lock were lost");
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 3);
    });
}

#[test]
fn threads_of_foreign_code_and_plain_stores_fault_alike() {
    const TEST: &str = "threads_of_foreign_code_and_plain_stores_fault_alike";
    extern "C" fn store(base: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: `base` is the first byte of a region that outlives this thread; nobody else writes it meanwhile.
        unsafe { base.cast::<u32>().write_volatile(77) };
        std::ptr::null_mut()
    }
    play(TEST, |mesh| {
        let region = mesh.region("foreign", RegionOptions::new(4096)).unwrap();
        if mesh.node() == NodeId::new(1) {
            let mut thread = 0;
            // SAFETY: a thread with default attributes; `store` keeps its own promises.
            let (made, joined) = unsafe {
                let made =
                    libc::pthread_create(&raw mut thread, std::ptr::null(), store, region.as_ptr().cast());
                (made, libc::pthread_join(thread, std::ptr::null_mut()))
            };
            assert_eq!((made, joined), (0, 0));
        }
        mesh.barrier(1).wait().unwrap();
        assert_eq!(region.slice::<u32>(0, 1).unwrap().get(0).unwrap(), 77);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

#[test]
fn a_region_is_created_once_and_found_by_all() {
    const TEST: &str = "a_region_is_created_once_and_found_by_all";
    play(TEST, |mesh| {
        let me = mesh.node().index();
        if me == 2 {
            mesh.region("late", RegionOptions::new(10_000)).unwrap();
        }
        let late = mesh.attach("late", cluster::PATIENCE).unwrap();
        assert_eq!(late.bytes(), 12_288);
        late.slice::<u8>(0, 12_288).unwrap().set(me, 1).unwrap();
        mesh.barrier(1).wait().unwrap();
        assert_eq!(late.slice::<u8>(0, 3).unwrap().get((me + 1) % 3).unwrap(), 1);

        let differs = mesh.region("late", RegionOptions::new(4096)).unwrap_err();
        assert!(matches!(differs, RegionError::SizeDiffers { asked: 4096, found: 12_288, .. }), "{differs}");
        let other = RegionOptions::new(10_000).placement(Placement::Single(NodeId::new(1)));
        let differs = mesh.region("late", other).unwrap_err();
        assert!(matches!(differs, RegionError::OptionsDiffer { .. }), "{differs}");
        assert!(differs.to_string().contains("was asked for with protocol"), "{differs}");
        let nobody = mesh.attach("never", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(nobody, RegionError::TimedOut { .. }), "{nobody}");
        assert!(matches!(mesh.region("", RegionOptions::new(1)), Err(RegionError::Name(_))));
        assert!(matches!(mesh.region("none", RegionOptions::new(0)), Err(RegionError::Size { .. })));
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 3);
    });
}

#[test]
fn a_region_moves_when_its_address_is_taken_on_one_node() {
    const TEST: &str = "a_region_moves_when_its_address_is_taken_on_one_node";
    const FIRST_CHOICE: usize = 0x2000_0000_0000;
    play(TEST, |mesh| {
        if mesh.node() == NodeId::new(2) {
            // Something of the application's own, just where the first proposal will be.
            // SAFETY: maps fresh memory at an address where nothing is; nothing is replaced.
            let taken = unsafe {
                libc::mmap(
                    FIRST_CHOICE as *mut libc::c_void,
                    4096,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                    -1,
                    0,
                )
            };
            assert_eq!(taken as usize, FIRST_CHOICE);
        }
        mesh.barrier(1).wait().unwrap();
        let moved = mesh.region("moved", RegionOptions::new(4096)).unwrap();
        assert_ne!(moved.base(), FIRST_CHOICE);
        let word = moved.slice::<u64>(0, 1).unwrap();
        mesh.barrier(1).wait().unwrap();
        if mesh.node() == NodeId::new(0) {
            word.set(0, 9).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        assert_eq!(word.get(0).unwrap(), 9);

        // Asked for by one node at a time: two at once would share one attempt, and its answer.
        for asker in 0..mesh.nodes() {
            if asker == mesh.node().index() {
                let error = mesh.region("fixed", RegionOptions::new(4096).address(FIRST_CHOICE)).unwrap_err();
                let taken = matches!(error, RegionError::AddressTaken { node, .. } if node == NodeId::new(2));
                assert!(taken, "{error}");
            }
            mesh.barrier(1).wait().unwrap();
        }
        let free = 0x1000_0000_0000;
        let fixed = mesh.region("fixed", RegionOptions::new(4096).address(free)).unwrap();
        assert_eq!(fixed.base(), free);
        say!("{:#x}", moved.base());
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, 3);
        assert!(said.iter().all(|lines| *lines == said[0]), "{said:?}");
    });
}

#[test]
fn barriers_of_different_sizes_are_reported() {
    const TEST: &str = "barriers_of_different_sizes_are_reported";
    play(TEST, |mesh| {
        let mine = mesh.node().index() as u32;
        let first = mesh.barrier_of(7, 2 + mine).wait();
        // One of the two numbers came first; the other was refused, and joins with the right one.
        if let Err(error) = first {
            assert!(matches!(error, pagemesh::SyncError::BarrierMismatch { .. }), "{error}");
            let other = if mine == 0 { 3 } else { 2 };
            say!("refused");
            let threads = other - 1;
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| mesh.barrier_of(7, other).wait().unwrap());
                }
            });
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let said = run(TEST, 2);
        assert_eq!(said.concat(), ["refused"]);
    });
}

#[test]
fn a_mesh_of_one_needs_no_network_and_ends_cleanly() {
    for _ in 0..20 {
        let mesh = Mesh::join(Config::single()).unwrap();
        let region = mesh.region("alone", RegionOptions::new(1 << 40)).unwrap();
        let far = region.slice::<u64>((1 << 40) - 4096, 1).unwrap();
        far.set(0, 3).unwrap();
        assert_eq!(far.get(0).unwrap(), 3);
        assert_eq!(mesh.stats().messages_sent, 0);
        mesh.leave().unwrap();
        let gone = far.set(0, 4);
        assert!(gone.is_ok(), "a page that is held stays usable after leaving: {gone:?}");
        let untouched = region.slice::<u64>(0, 1).unwrap().get(0).unwrap_err();
        assert!(matches!(untouched, pagemesh::AccessError::Closed { .. }), "{untouched}");
    }
    let threads = std::fs::read_dir("/proc/self/task").unwrap().filter(|task| {
        let comm = task.as_ref().unwrap().path().join("comm");
        std::fs::read_to_string(comm).is_ok_and(|name| name.trim() == "pagemesh")
    });
    assert_eq!(threads.count(), 0, "a service thread is left behind");
}

#[test]
fn what_cannot_be_joined_is_said_at_once() {
    let wrong = Mesh::join(Config::new(3, 3, "127.0.0.1:1".parse().unwrap())).unwrap_err();
    assert!(matches!(wrong, JoinError::Network(_)), "{wrong}");
    let nobody = Config::new(1, 2, cluster::free_address()).join_timeout(Duration::from_millis(100));
    let nobody = Mesh::join(nobody).unwrap_err();
    assert!(matches!(nobody, JoinError::Network(_)), "{nobody}");
}

#[test]
fn a_forked_child_has_no_part_in_the_mesh() {
    const TEST: &str = "a_forked_child_has_no_part_in_the_mesh";
    play(TEST, |mesh| {
        let region = mesh.region("parent", RegionOptions::new(4096)).unwrap();
        region.slice::<u8>(0, 1).unwrap().set(0, 1).unwrap();
        // SAFETY: the child makes no call that is unsafe after a fork of a process with threads: it drops the mesh, which must
        // return, touches the region, which must kill it, and nothing else.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(mesh);
            // SAFETY: the region is not mapped in the child: the load ends it.
            unsafe { region.as_ptr().read_volatile() };
            // SAFETY: ends the child at once, if it is still there.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: waits for the child just made.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "status {status:#x}");
        // The parent's connections and service thread are as they were.
        mesh.barrier(1).wait().unwrap();
        assert_eq!(region.slice::<u8>(0, 1).unwrap().get(0).unwrap(), 1);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}
