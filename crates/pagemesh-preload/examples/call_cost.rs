//! What the library costs calls that have nothing to do with shared memory: read(2) and write(2) of 1 byte and of 4 KiB, on
//! `/dev/zero` and `/dev/null`, with and without it, in processes that take turns.
//!
//! `cargo run --release -p pagemesh-preload --example call_cost`

use libc::{c_int, c_void};
use std::fs::File;
use std::io::{BufRead, BufReader, Error};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

/// Calls of each figure.
const CALLS: u32 = 200_000;
/// Pairs of processes.
const ROUNDS: usize = 15;

const NAMES: [&str; 4] = ["read 1 byte", "read 4 KiB", "write 1 byte", "write 4 KiB"];

/// How a process is run.
#[derive(Clone, Copy)]
enum Setting {
    Without,
    With,
    /// And a region is registered.
    WithRegion,
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("measure") => measure(false),
        Some("measure-with-region") => measure(true),
        _ => compare(),
    }
}

/// Where pagemesh puts its first region.
const REGION: usize = 0x2000_0000_0000;

fn register() {
    type Add = unsafe extern "C" fn(usize, usize, *const c_void) -> c_int;
    static NOTHING: [usize; 4] = [0; 4];
    // SAFETY: looks a name up.
    let add = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"pagemesh_preload_add_v1".as_ptr()) };
    assert!(!add.is_null(), "the library is not loaded");
    // SAFETY: the function of that name has this type; no buffer lies there, so that nothing is ever called.
    let added =
        unsafe { std::mem::transmute::<*mut c_void, Add>(add)(REGION, 1 << 30, NOTHING.as_ptr().cast()) };
    assert_eq!(added, 0);
}

/// The processor's time that this process has used, in nanoseconds: others on the machine do not count.
fn processor_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Prints what each kind of call takes, in nanoseconds.
fn measure(with_region: bool) {
    if with_region {
        register();
    }
    let zero = File::open("/dev/zero").expect("it is there");
    let null = File::options().write(true).open("/dev/null").expect("it is there");
    let mut buffer = vec![0_u8; 4096];
    let place: *mut c_void = buffer.as_mut_ptr().cast();
    for (which, bytes) in [(0, 1), (0, 4096), (1, 1), (1, 4096)] {
        let begin = processor_ns();
        for _ in 0..CALLS {
            // SAFETY: the buffer has 4096 bytes.
            let done = unsafe {
                if which == 0 {
                    libc::read(zero.as_raw_fd(), place, bytes)
                } else {
                    libc::write(null.as_raw_fd(), place, bytes)
                }
            };
            assert_eq!(done.cast_unsigned(), bytes, "{}", Error::last_os_error());
        }
        println!("{}", (processor_ns() - begin) / f64::from(CALLS));
    }
}

fn run(setting: Setting) -> Vec<f64> {
    let own = std::env::current_exe().expect("this program");
    let library = own.parent().and_then(|examples| examples.parent()).expect("a folder of the build");
    let library = library.join("deps/libpagemesh_preload.so");
    assert!(library.exists(), "{} was not built", library.display());
    let mut command = Command::new(&own);
    command.arg(if matches!(setting, Setting::WithRegion) { "measure-with-region" } else { "measure" });
    match setting {
        Setting::Without => command.env_remove("LD_PRELOAD"),
        Setting::With | Setting::WithRegion => command.env("LD_PRELOAD", library),
    };
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let figures = lines.map(|line| line.parse().expect("a number")).collect();
    assert!(child.wait().expect("a child").success());
    figures
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare() {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push([run(Setting::Without), run(Setting::With), run(Setting::WithRegion)]);
    }
    println!(
        "{CALLS} calls, {ROUNDS} rounds; medians in nanoseconds, and of each round's ratio to the call without"
    );
    println!("{:<14}{:>10}{:>18}{:>26}", "", "without", "with", "with, and a region");
    for (which, name) in NAMES.iter().enumerate() {
        let figure = |setting: usize| {
            let mut times: Vec<f64> = rounds.iter().map(|round| round[setting][which]).collect();
            let mut ratios: Vec<f64> =
                rounds.iter().map(|round| round[setting][which] / round[0][which]).collect();
            (median(&mut times), median(&mut ratios))
        };
        let [(without, _), (with, ratio), (region, region_ratio)] = [figure(0), figure(1), figure(2)];
        println!("{name:<14}{without:>10.0}{with:>10.0} ({ratio:.3}){region:>18.0} ({region_ratio:.3})");
    }
}
