//! The pager is the best that can be had here, whoever asks for another is told what is missing for it, and both say why. A
//! program that runs in a container where userfaultfd is refused must run all the same, and its user must be able to find out
//! what it costs and what to change.
//!
//! What is refused is refused by seccomp, in a process of its own.

mod common;

use common::{Nothing, can_have, exits_with, fetch, load, region_at, remote_page, scenario, store};
use pagemesh_memory::uffd::{Features, Scope, Way};
use pagemesh_memory::{
    Mapping, MappingError, MappingOptions, PAGE_BYTES, PagerChoiceError, PagerKind, RegionKey, UffdError,
    WriteTracking, WriteTrackingError, choose, probe,
};
use rustix::io::Errno;
use std::sync::Arc;

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Goes on behind the next statement unless the value is `k`.
fn unless_equal(k: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: 1, k }
}

/// Lets userfaultfd fail with `errno` from now on, by either way: the system call and the request to the device.
fn refuse_userfaultfd(errno: i32) {
    const NUMBER_OFFSET: u32 = 0;
    const SECOND_ARGUMENT_OFFSET: u32 = 24;
    const USERFAULTFD_IOC_NEW: u32 = 0xAA00;
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let refuse = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned());
    let allow = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
    let mut filter = [
        statement(load, NUMBER_OFFSET),
        unless_equal(libc::SYS_userfaultfd as u32),
        refuse,
        // Behind the next two, unless it is an ioctl.
        libc::sock_filter { jf: 3, ..unless_equal(libc::SYS_ioctl as u32) },
        statement(load, SECOND_ARGUMENT_OFFSET),
        unless_equal(USERFAULTFD_IOC_NEW),
        refuse,
        allow,
    ];
    confine(&mut filter);
}

/// Lets `PAGEMAP_SCAN` fail from now on as it does on a kernel that lacks it.
fn refuse_scans() {
    const SECOND_ARGUMENT_OFFSET: u32 = 24;
    const PAGEMAP_SCAN: u32 = 0xC060_6610;
    confine(&mut [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, SECOND_ARGUMENT_OFFSET),
        unless_equal(PAGEMAP_SCAN),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOTTY.cast_unsigned()),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ]);
}

fn confine(filter: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is complete and outlives the call, which copies it.
    let results = unsafe {
        (
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        )
    };
    assert_eq!(results, (0, 0));
}

/// What has to hold where userfaultfd is refused.
fn without_userfaultfd(refused: i32) {
    refuse_userfaultfd(refused);
    let chosen = choose(None).unwrap();
    assert_eq!((chosen.kind, chosen.forced), (PagerKind::Sigsegv, false));
    let options = MappingOptions::new(RegionKey(5), 8 * PAGE_BYTES);
    let (mapping, sink) = region_at(options, fetch);
    assert_eq!(mapping.chosen(), &chosen);
    assert_eq!(mapping.pager().kind(), PagerKind::Sigsegv);
    store(&mapping, 3 * PAGE_BYTES, 1);
    assert_eq!(load(&mapping, 7 * PAGE_BYTES + 1), remote_page(7)[1]);
    assert_eq!(sink.counts(), (1, 1));

    let mapping = Mapping::new(options.track_writes(true), Arc::new(Nothing)).unwrap();
    let why = WriteTrackingError::Pager { kind: PagerKind::Sigsegv };
    assert_eq!((mapping.write_tracking(), mapping.tracks_writes()), (&WriteTracking::Refused(why), false));

    for kind in [PagerKind::Sigbus, PagerKind::Handler] {
        let Err(PagerChoiceError::Userfaultfd { asked, cause }) = choose(Some(kind)) else {
            panic!("{kind} cannot be had")
        };
        assert_eq!(asked, kind);
        let error = Mapping::new(options.pager(kind), Arc::new(Nothing)).unwrap_err();
        assert!(matches!(error, MappingError::Uffd(found) if found == cause), "{error:?}");
        if kind == PagerKind::Sigbus {
            assert!(chosen.reason.contains(&cause.to_string()), "{}", chosen.reason);
            let told = match refused {
                libc::EPERM => matches!(cause, UffdError::Refused { .. }),
                _ => matches!(cause, UffdError::NotImplemented { .. }),
            };
            assert!(told, "{cause:?}");
        }
    }

    let probe = probe();
    assert_eq!(probe.choice, Ok(chosen));
    assert_eq!(probe.privileges.seccomp, Some(true));
    assert!(probe.openings.iter().all(|opening| opening.outcome.is_err()), "{:?}", probe.openings);
    assert!(probe.missing_features(PagerKind::Sigbus).contains(Features::SIGBUS));
    assert!(probe.improvements.len() >= 2, "{:?}", probe.improvements);
    assert!(matches!(probe.write_tracking, Err(WriteTrackingError::Uffd(_))), "{:?}", probe.write_tracking);
}

/// What has to hold where the kernel does not list written pages: the writes are found by faults.
fn without_scans() {
    refuse_scans();
    let options = MappingOptions::new(RegionKey(5), PAGE_BYTES).pager(PagerKind::Sigbus).track_writes(true);
    let (mapping, sink) = region_at(options, fetch);
    let why = WriteTrackingError::Scan { errno: Errno::NOTTY };
    assert_eq!((mapping.write_tracking(), mapping.tracks_writes()), (&WriteTracking::Refused(why), false));
    let _ = load(&mapping, 0);
    store(&mapping, 0, 1);
    assert_eq!(sink.counts(), (1, 1));
    let probe = probe();
    assert_eq!((probe.write_tracking, probe.choice.unwrap().kind), (Err(why), PagerKind::Sigbus));
    let told = probe.improvements.iter().find(|one| one.gain.contains("tracked writes")).unwrap();
    assert_eq!(told.command, "Linux 6.7 or newer");
}

/// The scenario of a kernel that cannot list written pages.
const WITHOUT_SCANS: &str = "without scans";

/// Where a process of its own begins. In an ordinary run of the tests there is no scenario to play.
#[test]
fn entry() {
    if let Some((_, scenario)) = scenario() {
        match scenario.as_str() {
            WITHOUT_SCANS => without_scans(),
            number => without_userfaultfd(number.parse().expect("the number of an error")),
        }
        std::process::exit(42);
    }
}

#[test]
fn a_program_runs_where_userfaultfd_is_refused() {
    exits_with(42, PagerKind::Sigsegv, "entry", &libc::EPERM.to_string());
}

#[test]
fn a_program_runs_where_there_is_no_userfaultfd() {
    exits_with(42, PagerKind::Sigsegv, "entry", &libc::ENOSYS.to_string());
}

#[test]
fn a_region_tracks_no_writes_where_the_kernel_cannot_list_them() {
    if can_have(PagerKind::Sigbus) {
        exits_with(42, PagerKind::Sigbus, "entry", WITHOUT_SCANS);
    }
}

#[test]
fn a_region_without_a_wish_gets_what_is_chosen() {
    let chosen = choose(None).unwrap();
    let mapping = Mapping::new(MappingOptions::new(RegionKey(0), PAGE_BYTES), Arc::new(Nothing)).unwrap();
    assert_eq!(mapping.chosen(), &chosen);
    assert_eq!(mapping.pager().kind(), chosen.kind);
    assert_ne!(chosen.kind, PagerKind::Handler, "it is only taken when asked for");
}

#[test]
fn the_handler_pager_can_be_had_exactly_where_the_kernels_faults_are_reported() {
    let probe = probe();
    let reported = probe
        .openings
        .iter()
        .filter(|opening| opening.scope == Scope::UserAndKernel)
        .any(|opening| opening.outcome.is_ok());
    match choose(Some(PagerKind::Handler)) {
        Ok(_) => assert!(reported),
        Err(PagerChoiceError::Userfaultfd {
            cause: UffdError::KernelFaultsRefused { call, device }, ..
        }) => {
            let outcome = |way| {
                let one = |opening: &&pagemesh_memory::Opening| {
                    opening.way == way && opening.scope == Scope::UserAndKernel
                };
                probe.openings.iter().find(one).unwrap().outcome
            };
            assert_eq!(outcome(Way::SystemCall), Err(call));
            assert_eq!(outcome(Way::Device), Err(device));
            assert!(
                probe.improvements.iter().any(|one| one.command.contains("vm.unprivileged_userfaultfd=1"))
            );
        }
        Err(other) => panic!("{other}"),
    }
}
