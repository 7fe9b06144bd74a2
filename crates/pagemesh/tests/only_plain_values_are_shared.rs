//! A value in shared memory is read by other processes, bit by bit. A pointer means nothing there, and bytes that one node writes may be no
//! value of the type on another: both would be undefined behaviour in safe code. And a guard that outlives its lock, or
//! goes to a thread that did not take it, would let two have what only one may have. None of this is found at run time: it must
//! not compile. What is said then is checked as well, since it is all that a user has to go by.
//!
//! `trybuild` compiles what is in `refused/` as programs of their own. The expected texts are those of the compiler that rust-toolchain.toml
//! names; `TRYBUILD=overwrite cargo test -p pagemesh --test only_plain_values_are_shared` writes them anew after a change of it.

use pagemesh::{AtomicBool, Config, Mesh, Mutex, Plain, RegionOptions, RwLock, SharedSlice};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[test]
fn what_is_not_plain_and_what_leaves_its_lock_do_not_compile() {
    // All in one project, so that what they depend on is checked once; no case is built and run, or each would have to be by itself.
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/refused/*.rs");
}

/// A structure as programs have them.
#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Body {
    place: [f64; 3],
    mass: f32,
    name: [u8; 4],
}

fn is_plain<T: Plain>() {}

/// The same with values that may be shared compiles, and works: what is refused is not refused for another reason.
#[test]
fn numbers_arrays_and_structures_of_them_can_be_shared() {
    is_plain::<[[u16; 2]; 3]>();
    is_plain::<Option<std::num::NonZeroU32>>();
    is_plain::<[Body; 8]>();

    let mesh = Mesh::join(Config::single()).expect("a mesh of one");
    let region = mesh.region("bodies", RegionOptions::new(4096)).expect("a region");
    let sun = Body { place: [0.0, -1.5, 2.5], mass: 7.0, name: *b"sun " };
    let under_a_mutex = Mutex::<Body>::new(&region, 0).expect("a mutex");
    let under_a_lock = RwLock::<[Body; 2]>::new(&region, 128).expect("a reader-writer lock");
    let items: SharedSlice<Body> = region.slice(1024, 8).expect("a slice");
    let done = AtomicBool::new(&region, 2048).expect("a word");

    *under_a_mutex.lock().expect("the mutex") = sun;
    under_a_lock.write().expect("the lock")[1] = *under_a_mutex.lock().expect("the mutex");
    items.set(7, under_a_lock.read().expect("the lock")[1]).expect("a page");
    done.store(true).expect("a page");
    assert_eq!(items.get(7), Ok(sun));
    assert_eq!(done.load(), Ok(true));
}
