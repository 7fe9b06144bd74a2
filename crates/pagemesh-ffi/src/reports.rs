//! What a node did: as numbers, as text on standard output, and as lines of a file.

use crate::error::{Answer, Code, Failed, status, value};
use crate::state::{Context, current, lock};
use crate::types::{dsm_stats_ext_t, dsm_stats_t};
use pagemesh::Stats;
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

/// A file of lines with what the node did until then.
pub(crate) struct PerformanceLog {
    file: File,
    name: String,
    opened: Instant,
}

macro_rules! columns {
    ($($name:ident),* $(,)?) => {
        /// Every field of [`dsm_stats_t`], in its order.
        fn columns(stats: &dsm_stats_t) -> impl Iterator<Item = (&'static str, u64)> {
            [$((stringify!($name), stats.$name)),*].into_iter()
        }
    };
}

columns! {
    page_faults, read_faults, write_faults, pages_fetched, pages_sent, invalidations_sent, invalidations_received,
    network_bytes_sent, network_bytes_received, lock_acquires, barrier_waits, total_fault_latency_ns,
    max_fault_latency_ns, min_fault_latency_ns, queued_requests, false_sharing_events, network_retries, network_failures,
    timeouts,
}

fn as_c(stats: &Stats) -> dsm_stats_t {
    dsm_stats_t {
        page_faults: stats.read_faults + stats.write_faults,
        read_faults: stats.read_faults,
        write_faults: stats.write_faults,
        pages_fetched: stats.pages_fetched,
        pages_sent: stats.pages_sent,
        invalidations_sent: stats.invalidations_sent,
        invalidations_received: stats.invalidations,
        network_bytes_sent: stats.bytes_sent,
        network_bytes_received: stats.bytes_received,
        lock_acquires: stats.lock_acquires,
        barrier_waits: stats.barrier_waits,
        total_fault_latency_ns: stats.fault_wait_ns,
        max_fault_latency_ns: stats.fault_wait_ns_max,
        min_fault_latency_ns: stats.fault_wait_ns_min,
        queued_requests: stats.requests_queued,
        false_sharing_events: stats.pages_regained,
        network_retries: stats.sends_blocked,
        network_failures: stats.nodes_lost,
        timeouts: stats.timeouts,
    }
}

/// Fills in what this node did.
///
/// # Safety
/// `stats` is null or a place for the structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_get_stats(stats: *mut dsm_stats_t) -> c_int {
    status("dsm_get_stats", || {
        let found = as_c(&current()?.mesh.stats());
        if stats.is_null() {
            return Failed::invalid("stats must not be NULL");
        }
        // SAFETY: promised by the caller.
        unsafe { stats.write(found) };
        Ok(())
    })
}

/// Fills in the rest of what this node did.
///
/// # Safety
/// `stats` is null or a place for a structure as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_get_stats_ext(stats: *mut dsm_stats_ext_t) -> c_int {
    status("dsm_get_stats_ext", || {
        let found = current()?.mesh.stats();
        if stats.is_null() {
            return Failed::invalid("stats must not be NULL");
        }
        // SAFETY: promised by the caller: it has at least its first field.
        let struct_size = unsafe { (&raw const (*stats).struct_size).read() };
        let known = size_of::<dsm_stats_ext_t>();
        if struct_size as usize != known {
            let what = format!(
                "struct_size is {struct_size}; this version knows {known}: set it to sizeof(dsm_stats_ext_t)"
            );
            return Failed::invalid(what);
        }
        let found = dsm_stats_ext_t {
            struct_size,
            reserved: 0,
            messages_sent: found.messages_sent,
            messages_received: found.messages_received,
            diffs_sent: found.diffs_sent,
            diff_bytes: found.diff_bytes,
            faults_resolved_locally: found.faults_resolved_here,
            prefetched_pages: found.pages_prefetched,
        };
        // SAFETY: promised by the caller: it is that long.
        unsafe { stats.write(found) };
        Ok(())
    })
}

/// Counts from zero again.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_reset_stats() -> c_int {
    status("dsm_reset_stats", || {
        current()?.mesh.reset_stats();
        Ok(())
    })
}

/// Writes to C's standard output: what the program printed before then comes before it.
fn print(text: String) -> Answer<()> {
    let text = CString::new(text).map_err(|_| Failed::new(Code::Invalid, "a text with a NUL"))?;
    // SAFETY: one text for one %s.
    unsafe { libc::printf(c"%s".as_ptr(), text.as_ptr()) };
    Ok(())
}

/// Prints what this node did.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_print_stats() {
    value("dsm_print_stats", (), || {
        let context = current()?;
        let mut text = format!("node {} of {}\n", context.mesh.node(), context.mesh.nodes());
        for (name, number) in columns(&as_c(&context.mesh.stats())) {
            let _ = writeln!(text, "  {name:<24} {number:>16}");
        }
        print(text)
    });
}

/// Opens the file for lines of statistics.
///
/// # Safety
/// `csv_file` is null or a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_perf_log_init(csv_file: *const c_char) -> c_int {
    status("dsm_perf_log_init", || {
        let context = current()?;
        if csv_file.is_null() {
            return Failed::invalid("the file's name must not be NULL");
        }
        // SAFETY: promised by the caller.
        let path = OsStr::from_bytes(unsafe { CStr::from_ptr(csv_file) }.to_bytes());
        let name = path.to_string_lossy().into_owned();
        let file = File::create(path).map_err(|error| file_failed(&name, &error))?;
        let mut log = PerformanceLog { file, name, opened: Instant::now() };
        let titles: Vec<&str> = columns(&dsm_stats_t::default()).map(|(name, _)| name).collect();
        log.write(&format!("time_ms,node_id,{}\n", titles.join(",")))?;
        *lock(&context.performance_log) = Some(log);
        Ok(())
    })
}

fn file_failed(name: &str, error: &std::io::Error) -> Failed {
    let code = match error.kind() {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Code::Permission,
        ErrorKind::StorageFull => Code::Memory,
        _ => Code::Invalid,
    };
    Failed::new(code, format!("file {name:?}: {error}"))
}

impl PerformanceLog {
    fn write(&mut self, line: &str) -> Answer<()> {
        self.file.write_all(line.as_bytes()).map_err(|error| file_failed(&self.name, &error))
    }

    fn add(&mut self, context: &Context) -> Answer<()> {
        let mut line = format!("{},{}", self.opened.elapsed().as_millis(), context.mesh.node());
        for (_, number) in columns(&as_c(&context.mesh.stats())) {
            let _ = write!(line, ",{number}");
        }
        line.push('\n');
        self.write(&line)
    }
}

/// Adds a line to the file.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_perf_export_stats() -> c_int {
    status("dsm_perf_export_stats", || {
        let context = current()?;
        let mut log = lock(&context.performance_log);
        let Some(log) = &mut *log else {
            return Err(Failed::new(Code::NotFound, "there is no file; call dsm_perf_log_init first"));
        };
        log.add(&context)
    })
}

/// Prints what the numbers come to.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_perf_print_summary() {
    value("dsm_perf_print_summary", (), || {
        let context = current()?;
        let stats = as_c(&context.mesh.stats());
        let local = context.mesh.stats().faults_resolved_here;
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let mean = stats.total_fault_latency_ns.checked_div(stats.page_faults).unwrap_or(0);
        print(format!(
            "node {} of {}: {} page faults ({} read, {} write, {} resolved here), waiting {:.1} us on average, {:.1} to {:.1} us; \
             {} pages fetched, {} sent; {} locks, {} barriers; {} bytes sent, {} received\n",
            context.mesh.node(),
            context.mesh.nodes(),
            stats.page_faults,
            stats.read_faults,
            stats.write_faults,
            local,
            micros(mean),
            micros(stats.min_fault_latency_ns),
            micros(stats.max_fault_latency_ns),
            stats.pages_fetched,
            stats.pages_sent,
            stats.lock_acquires,
            stats.barrier_waits,
            stats.network_bytes_sent,
            stats.network_bytes_received,
        ))
    });
}
