//! Reader-writer locks, semaphores and condition variables.

use crate::error::{Answer, Code, Failed, status};
use crate::state::current;
use pagemesh::Access;
use std::ffi::{c_int, c_uint};
use std::time::Duration;

fn take(id: u64, access: Access, waits: bool) -> Answer<()> {
    let context = current()?;
    context.rwlocks.take(&context.mesh, id, access, waits)
}

/// Waits for reader-writer lock `id`, for reading.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_rdlock(id: u64) -> c_int {
    status("dsm_rwlock_rdlock", || take(id, Access::Read, true))
}

/// Waits for reader-writer lock `id`, for writing.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_wrlock(id: u64) -> c_int {
    status("dsm_rwlock_wrlock", || take(id, Access::Write, true))
}

/// Takes reader-writer lock `id` for reading, if nobody is in the way.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_tryrdlock(id: u64) -> c_int {
    status("dsm_rwlock_tryrdlock", || take(id, Access::Read, false))
}

/// Takes reader-writer lock `id` for writing, if nobody is in the way.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_trywrlock(id: u64) -> c_int {
    status("dsm_rwlock_trywrlock", || take(id, Access::Write, false))
}

/// Gives reader-writer lock `id` back.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_unlock(id: u64) -> c_int {
    status("dsm_rwlock_unlock", || current()?.rwlocks.give_back(id))
}

/// Gives semaphore `id` its first units.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_sem_init(id: u64, units: c_uint) -> c_int {
    status("dsm_sem_init", || Ok(current()?.mesh.semaphore(id).init(units)?))
}

/// Waits for a unit of semaphore `id`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_sem_wait(id: u64) -> c_int {
    status("dsm_sem_wait", || Ok(current()?.mesh.semaphore(id).wait(None)?))
}

/// Takes a unit of semaphore `id`, if there is one.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_sem_trywait(id: u64) -> c_int {
    status("dsm_sem_trywait", || {
        let taken = current()?.mesh.semaphore(id).try_wait()?;
        let none = || Failed::new(Code::Busy, format!("semaphore {id} has no unit"));
        taken.then_some(()).ok_or_else(none)
    })
}

/// Gives semaphore `id` a unit.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_sem_post(id: u64) -> c_int {
    status("dsm_sem_post", || Ok(current()?.mesh.semaphore(id).post()?))
}

fn wait(condition: u64, mutex: u64, timeout: Option<Duration>) -> Answer<()> {
    let context = current()?;
    context.mutexes.wait(&context.mesh, condition, mutex, timeout)
}

/// Waits for a signal of condition `cond`, without lock `mutex` meanwhile.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_cond_wait(cond: u64, mutex: u64) -> c_int {
    status("dsm_cond_wait", || wait(cond, mutex, None))
}

/// As [`dsm_cond_wait`], at most so long.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_cond_timedwait(cond: u64, mutex: u64, timeout_ns: u64) -> c_int {
    status("dsm_cond_timedwait", || wait(cond, mutex, Some(Duration::from_nanos(timeout_ns))))
}

/// Wakes who has waited longest for condition `cond`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_cond_signal(cond: u64) -> c_int {
    status("dsm_cond_signal", || Ok(current()?.mesh.condvar(cond).notify_one()?))
}

/// Wakes all who wait for condition `cond`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_cond_broadcast(cond: u64) -> c_int {
    status("dsm_cond_broadcast", || Ok(current()?.mesh.condvar(cond).notify_all()?))
}
