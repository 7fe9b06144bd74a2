//! Page faults resolved by an ordinary process, step by step.
//!
//! ```text
//! cargo run -p pagemesh-memory --example uffd_demo -- 3
//! ```
//!
//! The number is how many pages there are. Each is touched for the first time, some by a load and some by a store, then again,
//! and then taken away and touched once more. Every fault is narrated where it happens: in the middle of the instruction that
//! touched the page.
//!
//! # What the kernel does, and what is ours
//!
//! Memory that was mapped but never touched has no entry in the page table. The first access traps into the kernel, which
//! usually finds a page of zeros and lets the instruction run again; the program never notices. With `userfaultfd(2)` a
//! program takes this over for a range of addresses: the kernel reports the fault, and the program decides what the page
//! contains and when the instruction may go on. That is all that distributed shared memory needs: here the bytes come from a
//! loop that makes them up, in a mesh they come from another node.
//!
//! The setup behind [`Mapping::new`]:
//!
//! 1. `userfaultfd(UFFD_USER_MODE_ONLY)` opens the descriptor. The flag (Linux 5.11) gives up faults of the kernel itself (a
//!    `read(2)` into an absent page fails with EFAULT), and in return no privilege is needed.
//! 2. `UFFDIO_API` agrees on the version and the features. One of them, SIGBUS (Linux 4.14), chooses how a fault is reported:
//!    as a signal in the thread that faulted. Without it the descriptor becomes readable and another thread reads a
//!    `struct uffd_msg` from it, while the first sleeps.
//! 3. `memfd_create(2)` makes a file that lives in memory, and it is mapped twice. Through one mapping (the app view) the program
//!    loads and stores; through the other (the service view) the resolver puts bytes in place, unhindered.
//! 4. `UFFDIO_REGISTER` hands the faults of the app view over, in three modes: MISSING (the file has no such page), MINOR (the
//!    file has it, the page table does not) and WP (it is there, but write-protected).
//! 5. `sigaction(2)` installs the handler that looks up which region an address belongs to and calls our [`FaultSink`].
//!
//! # What a fault tells, and what is filled in
//!
//! A message read from the descriptor says `UFFD_EVENT_PAGEFAULT`, the address, and flags: `UFFD_PAGEFAULT_FLAG_WRITE` for a
//! store, `UFFD_PAGEFAULT_FLAG_WP` when the page was there but protected. In SIGBUS mode the address is in
//! `siginfo_t.si_addr`, and whether it was a store is bit 1 of the processor's error code, which the kernel leaves in the
//! saved registers. Both are rounded to a page here: a [`Fault`] has the page's number and the kind of access.
//!
//! The resolver fills the page through the service view and then grants it: `UFFDIO_CONTINUE` enters the page that the file
//! holds now into the app view's page table, write-protected if the access was only a load, so that a later store faults too
//! and the owner of the data hears of it.

use pagemesh_memory::{
    Access, AccessFault, Fault, FaultSink, Mapping, MappingOptions, PAGE_BYTES, PageRange, RegionKey,
    Resolution,
};
use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// Where in its page each touch lands: anywhere is as good, a fault is for the whole page.
const OFFSET_IN_PAGE: usize = 0x0F;

/// Resolves the faults, and tells about each.
///
/// All of this runs in a signal handler on the faulting thread. Whatever that thread was doing is interrupted in the middle:
/// it may hold the lock of the allocator or of standard output. So nothing here allocates or locks; a line is put
/// together on the stack and goes out by a bare `write(2)`, one of the calls that `signal-safety(7)` permits.
struct Narrator {
    /// A mapping owns its sink, so the sink's way back is weak.
    mapping: OnceLock<Weak<Mapping>>,
    /// A descriptor of its own for standard output, which bypasses the lock and the buffer of `std::io::stdout`.
    output: File,
    faults: AtomicU64,
    /// Which pages have been filled: a page that is only taken away keeps its bytes in the file.
    filled: Vec<AtomicBool>,
}

impl Narrator {
    fn say(&self, arguments: fmt::Arguments<'_>) {
        let mut line = LineBuffer { bytes: [0; 256], used: 0 };
        // A line that is too long is cut. An output that is closed must not stop the resolving.
        let _ = line.write_fmt(arguments);
        let _ = (&self.output).write_all(&line.bytes[..line.used]);
    }
}

impl FaultSink for Narrator {
    fn resolve(&self, fault: Fault) -> Resolution {
        let Fault { page, access, .. } = fault;
        let Some(mapping) = self.mapping.get().and_then(Weak::upgrade) else { return Resolution::Failed };
        let number = self.faults.fetch_add(1, Ordering::Relaxed) + 1;
        let address = mapping.base() + page as usize * PAGE_BYTES;
        let flag = match access {
            Access::Read => "a load: the write bit of the error code is clear",
            Access::Write => "a store: the write bit of the error code is set",
        };
        self.say(format_args!("    [fault {number}] page {page}, which starts at {address:#x}; {flag}\n"));

        if self.filled[page as usize].swap(true, Ordering::Relaxed) {
            self.say(format_args!(
                "    [fault {number}] the file has the page's bytes already: nothing to fill\n"
            ));
        } else {
            let letter = letter(page);
            mapping.service().write_page(page, &[letter; PAGE_BYTES]);
            self.say(format_args!(
                "    [fault {number}] filled its {PAGE_BYTES} bytes with '{}' through the service view\n",
                char::from(letter)
            ));
        }

        // Also right for a store to a page that is there write-protected: it is made writable.
        if mapping.pager().map(PageRange::one(page), access).is_err() {
            self.say(format_args!("    [fault {number}] the kernel refused to map it\n"));
            return Resolution::Failed;
        }
        let right = match access {
            Access::Read => "write-protected",
            Access::Write => "writable",
        };
        self.say(format_args!(
            "    [fault {number}] mapped it {right}; the handler returns, the instruction runs again\n"
        ));
        Resolution::Resolved
    }
}

/// Text on the stack.
struct LineBuffer {
    bytes: [u8; 256],
    used: usize,
}

impl fmt::Write for LineBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.used..];
        let kept = text.len().min(room.len());
        room[..kept].copy_from_slice(&text.as_bytes()[..kept]);
        self.used += kept;
        if kept == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// What a page is filled with: A for page 0, B for page 1, and after Z again A.
fn letter(page: u64) -> u8 {
    b'A' + (page % 26) as u8
}

/// A load or a store of the program, told from the program's side.
struct Program {
    mapping: Arc<Mapping>,
    sink: Arc<Narrator>,
}

impl Program {
    fn load(&self, page: u64, offset: usize) -> Result<(), AccessFault> {
        let at = page as usize * PAGE_BYTES + offset;
        println!("  load from {:#x} ...", self.mapping.base() + at);
        let faults = self.faults();
        // A plain `mov`. That it returns a `Result` is about a resolver that fails, which this one does not.
        let byte = self.mapping.load_u8(at)?;
        println!("  ... gave '{}'{}", char::from(byte), self.comment(faults));
        Ok(())
    }

    fn store(&self, page: u64, offset: usize, byte: u8) -> Result<(), AccessFault> {
        let at = page as usize * PAGE_BYTES + offset;
        println!("  store of '{}' to {:#x} ...", char::from(byte), self.mapping.base() + at);
        let faults = self.faults();
        self.mapping.store_u8(at, byte)?;
        println!("  ... done{}", self.comment(faults));
        Ok(())
    }

    fn faults(&self) -> u64 {
        self.sink.faults.load(Ordering::Relaxed)
    }

    fn comment(&self, before: u64) -> &'static str {
        if self.faults() == before { ", without a fault" } else { ", after the fault above" }
    }
}

fn demonstrate(pages: usize) -> Result<(), Box<dyn Error>> {
    let sink = Arc::new(Narrator {
        mapping: OnceLock::new(),
        output: File::from(io::stdout().as_fd().try_clone_to_owned()?),
        faults: AtomicU64::new(0),
        filled: (0..pages).map(|_| AtomicBool::new(false)).collect(),
    });
    let bytes = pages * PAGE_BYTES;
    let mapping = Arc::new(Mapping::new(MappingOptions::new(RegionKey(0), bytes), sink.clone())?);
    // From here on a fault can be resolved; before, nobody knows the address.
    let _ = sink.mapping.set(Arc::downgrade(&mapping));
    println!(
        "{bytes} bytes are mapped at {:#x}: {pages} pages, none of them in the page table.",
        mapping.base()
    );
    let program = Program { mapping, sink };
    let last = pages as u64 - 1;

    println!("\nEach page is touched for the first time, the even ones by a load, the odd ones by a store:");
    for page in 0..=last {
        if page.is_multiple_of(2) {
            program.load(page, OFFSET_IN_PAGE)?;
        } else {
            program.store(page, OFFSET_IN_PAGE, b'!')?;
        }
    }

    println!("\nA page that is there does not fault, wherever in it the load goes:");
    program.load(last, OFFSET_IN_PAGE)?;
    program.load(last, OFFSET_IN_PAGE + 1024)?;

    println!("\nPage 0 was mapped for a load, write-protected: the first store faults, the second does not:");
    program.store(0, OFFSET_IN_PAGE, b'?')?;
    program.store(0, OFFSET_IN_PAGE + 1024, b'?')?;

    println!(
        "\nPage 0 is taken away, as when another node writes to it (madvise MADV_DONTNEED on the app view):"
    );
    program.mapping.pager().unmap(PageRange::one(0))?;
    program.load(0, OFFSET_IN_PAGE)?;

    println!("\n{} faults in all, each resolved by the thread that had it.", program.faults());
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let pages = match arguments.as_slice() {
        [pages] => pages.parse().ok().filter(|pages| (1..=10_000).contains(pages)),
        _ => None,
    };
    let Some(pages) = pages else {
        eprintln!("usage: uffd_demo N, where N is a number of pages from 1 to 10000");
        return ExitCode::from(2);
    };
    match demonstrate(pages) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uffd_demo: {error}");
            ExitCode::FAILURE
        }
    }
}
