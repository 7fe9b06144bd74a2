//! The priority of the service thread: how soon it runs where a program computes on every core.
//!
//! It sleeps but for the microseconds that a request takes. Yet where all cores compute, it waits at the same priority as
//! whoever computes for the kernel's scheduler to come round, which takes milliseconds, and with it waits the thread of another node
//! that wants a page. So it asks for a higher priority than the program's threads have, and takes what it gets.
//!
//! Not for the highest. At nice -20 faults on one core were served as soon as at nice -10; but with nodes on several cores of a
//! busy machine one fault in ten then took milliseconds. The likely cause: the kernel shares a group of processes (a session, a
//! container) out over the processors by the weight that its threads have on each (sched(7), autogroups), and a service thread at
//! nice -20 weighs 87 times an ordinary one. The program's threads on other processors, where the group then hardly counts, lose to
//! other groups. At nice -10 it weighs 9 times as much, and none of that was seen.

use rustix::process::{Resource, getpriority_process, getrlimit, setpriority_process};
use rustix::thread::gettid;

/// How far below the program's nice value that of the service thread is to be, where nobody says otherwise.
pub const SERVICE_BELOW: i32 = 10;

/// Gives the calling thread this nice value, by default [`SERVICE_BELOW`] less than it has, or, where that is refused, the nearest that
/// this user may have: `RLIMIT_NICE` of getrlimit(2) bounds it from below, unless the user has `CAP_SYS_NICE`. Returns what the
/// thread has then. setpriority(2) with a thread's number is about this thread alone (Linux, since 2.6).
pub(crate) fn set_own(nice: Option<i32>) -> i32 {
    let thread = Some(gettid());
    let has = || getpriority_process(thread).unwrap_or(0);
    let wanted = nice.unwrap_or_else(|| (has() - SERVICE_BELOW).max(-20));
    if setpriority_process(thread, wanted).is_err() {
        let least = getrlimit(Resource::Nice).current.map_or(-20, |limit| 20 - limit.min(40) as i32);
        let nearest = wanted.max(least);
        if nearest < has() {
            // Refused all the same: the thread works at any priority.
            let _ = setpriority_process(thread, nearest);
        }
    }
    has()
}

/// The nice value of the calling thread, and that which the service thread of a mesh would get that it joined: tried with a thread of
/// its own. `None` when no thread can be started.
pub fn obtainable() -> Option<(i32, i32)> {
    let own = getpriority_process(Some(gettid())).unwrap_or(0);
    let tried = std::thread::Builder::new().spawn(|| set_own(None)).ok()?;
    Some((own, tried.join().ok()?))
}
