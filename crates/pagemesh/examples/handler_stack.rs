//! Measures how much stack the fault handler needs, and fails when it is too much: on the thread's alternate signal stack, where a
//! runtime may have put 8 KiB only, and on the stack of the thread that faulted.
//!
//! Run it on two nodes of this machine, with each pager:
//!
//! ```text
//! cargo build --release --workspace --examples
//! PAGEMESH_PAGER=sigsegv target/release/pagemesh run -n 2 --no-prefix -- target/release/examples/handler_stack
//! ```
//!
//! Both stacks are painted; then the thread faults in every way there is, and the deepest byte that has changed is looked
//! for. What a signal finds on a stack is the kernel's frame first, whose size depends on the processor (`AT_MINSIGSTKSZ`,
//! getauxval(3)).

use pagemesh::{Config, Mesh, Placement, Protocol, RegionOptions};
use std::error::Error;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

const PAGE_BYTES: usize = 4096;

/// More than the twins that a node has at a time (`limits::TWINS`), so that a write ends an interval by itself, and sends diffs.
const PAGES: usize = 1200;

const PROTOCOLS: [(&str, Protocol); 3] = [
    ("write-invalidate", Protocol::WriteInvalidate),
    ("migration", Protocol::Migration),
    ("release", Protocol::Release),
];

/// Room enough to find out, even where far too much is used.
const STACK_BYTES: usize = 256 << 10;

const PAINT: u8 = 0xa5;

/// What may be used of an alternate stack of 8 KiB, `SIGSTKSZ`, where the kernel's frame takes no more than [`FRAME_BYTES`].
const ALTERNATE_BYTES_MAX: usize = 6 << 10;

/// The kernel's frame with AVX-512. Where it is larger, whoever makes alternate stacks makes them larger.
const FRAME_BYTES: usize = 3584;

/// What may be used of a thread's own stack: few programs have smaller ones.
const OWN_BYTES_MAX: usize = 32 << 10;

/// What the thread is given, and what it finds.
struct Faults {
    alternate: *mut u8,
    /// Where the faults are: the address of each region.
    regions: Vec<usize>,
    /// The thread's stack pointer, about, while it faults.
    stack_pointer: usize,
}

/// Touches every page by a load and a store, and gives back.
extern "C" fn fault(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `measure` passes it, and looks at it again when this thread has ended.
    let faults = unsafe { &mut *argument.cast::<Faults>() };
    let stack = libc::stack_t { ss_sp: faults.alternate.cast(), ss_flags: 0, ss_size: STACK_BYTES };
    // SAFETY: the stack outlives this thread.
    assert_eq!(unsafe { libc::sigaltstack(&raw const stack, null_mut()) }, 0);
    let here = 0_u8;
    faults.stack_pointer = (&raw const here).addr();
    for region in &faults.regions {
        touch(*region);
    }
    null_mut()
}

fn touch(region: usize) {
    for page in 0..PAGES {
        let word = std::ptr::without_provenance_mut::<u64>(region + page * PAGE_BYTES);
        // SAFETY: a word of a region; no other thread of this node uses it.
        unsafe {
            // A miss of each kind: a store at once, and a load with a store after it.
            if page % 2 == 0 {
                word.read_volatile();
            }
            word.write_volatile(page as u64);
        }
    }
}

/// Faults in a thread whose stacks are painted; returns how many bytes of the alternate stack were used, and of its own.
fn measure(regions: Vec<usize>) -> (usize, usize) {
    let mut alternate = vec![PAINT; STACK_BYTES];
    let mut own = vec![PAINT; STACK_BYTES + PAGE_BYTES];
    let aligned = own.as_ptr().align_offset(PAGE_BYTES);
    let mut faults = Faults { alternate: alternate.as_mut_ptr(), regions, stack_pointer: 0 };
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: system calls with places of their own; both stacks and `faults` outlive the thread, which is waited for.
    unsafe {
        assert_eq!(libc::pthread_attr_init(attributes.as_mut_ptr()), 0);
        let stack = own.as_mut_ptr().add(aligned).cast();
        assert_eq!(libc::pthread_attr_setstack(attributes.as_mut_ptr(), stack, STACK_BYTES), 0);
        let argument = (&raw mut faults).cast();
        assert_eq!(libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), fault, argument), 0);
        assert_eq!(libc::pthread_join(thread.assume_init(), null_mut()), 0);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    // The kernel and the thread have written to them meanwhile.
    let first_used = |stack: &[u8]| stack.iter().position(|byte| *byte != PAINT).unwrap_or(stack.len());
    let used_alternate = alternate.len() - first_used(std::hint::black_box(&alternate));
    let painted = &std::hint::black_box(&own)[aligned..aligned + STACK_BYTES];
    let deepest = painted.as_ptr().addr() + first_used(painted);
    (used_alternate, faults.stack_pointer.saturating_sub(deepest))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mesh = Mesh::join(Config::from_env()?)?;
    let me = mesh.node().index();
    let mut addresses = Vec::new();
    // What nobody has open goes.
    let mut regions = Vec::new();
    for placement in [Placement::Cyclic, Placement::FirstTouch] {
        for (name, protocol) in PROTOCOLS {
            let options = RegionOptions::new(PAGES * PAGE_BYTES).placement(placement).protocol(protocol);
            let region = mesh.region(&format!("{name} {placement:?}"), options)?;
            addresses.push(region.base());
            regions.push(region);
        }
    }
    // Pages that the other node has, and has written; then pages that both want at a time.
    if me == 0 {
        for region in &addresses {
            touch(*region);
        }
    }
    mesh.barrier(1).wait()?;
    if me == 1 {
        let (alternate, own) = measure(addresses);
        // SAFETY: asks for a number.
        let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
        println!("pager {}", mesh.pager().kind);
        println!("alternate stack {alternate}");
        println!("own stack {own}");
        println!("frame of the kernel {frame}");
        let more = frame.saturating_sub(FRAME_BYTES);
        if alternate >= ALTERNATE_BYTES_MAX + more || own >= OWN_BYTES_MAX + more {
            return Err("the fault handler needs too much stack".into());
        }
    } else {
        for region in &addresses {
            touch(*region);
        }
    }
    mesh.barrier(2).wait()?;
    mesh.leave()?;
    Ok(())
}
