//! Reader-writer locks, semaphores, condition variables, and what is done once.

use crate::error::{Answer, Code, Failed, status};
use crate::mutexes::Patience;
use crate::state::current;
use pagemesh::{Access, Holders, LockError, Once, SyncError};
use std::ffi::{c_int, c_uint};
use std::time::Duration;

fn take(id: u64, access: Access, patience: Patience) -> Answer<()> {
    let context = current()?;
    context.rwlocks.take(&context.mesh, id, access, patience)
}

/// Waits for reader-writer lock `id`, for reading.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_rdlock(id: u64) -> c_int {
    status("dsm_rwlock_rdlock", || take(id, Access::Read, Patience::Configured))
}

/// Waits for reader-writer lock `id`, for writing.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_wrlock(id: u64) -> c_int {
    status("dsm_rwlock_wrlock", || take(id, Access::Write, Patience::Configured))
}

/// Takes reader-writer lock `id` for reading, if nobody is in the way.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_tryrdlock(id: u64) -> c_int {
    status("dsm_rwlock_tryrdlock", || take(id, Access::Read, Patience::None))
}

/// Takes reader-writer lock `id` for writing, if nobody is in the way.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_trywrlock(id: u64) -> c_int {
    status("dsm_rwlock_trywrlock", || take(id, Access::Write, Patience::None))
}

/// Waits for reader-writer lock `id`, for reading, at most so long.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_timedrdlock(id: u64, timeout_ns: u64) -> c_int {
    let patience = Patience::AtMost(Duration::from_nanos(timeout_ns));
    status("dsm_rwlock_timedrdlock", || take(id, Access::Read, patience))
}

/// Waits for reader-writer lock `id`, for writing, at most so long.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_rwlock_timedwrlock(id: u64, timeout_ns: u64) -> c_int {
    let patience = Patience::AtMost(Duration::from_nanos(timeout_ns));
    status("dsm_rwlock_timedwrlock", || take(id, Access::Write, patience))
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

/// Waits for a unit of semaphore `id`, at most so long.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_sem_timedwait(id: u64, timeout_ns: u64) -> c_int {
    status("dsm_sem_timedwait", || {
        let (semaphore, after) = (current()?.mesh.semaphore(id), Duration::from_nanos(timeout_ns));
        match semaphore.try_wait()? {
            true => Ok(()),
            false if after.is_zero() => {
                let what = format!("semaphore {id}");
                Err(SyncError::TimedOut { what, after, holders: Holders::default() }.into())
            }
            false => Ok(semaphore.wait(Some(after))?),
        }
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

/// Calls `work` unless some thread on some node has done so under this word.
///
/// # Safety
/// `work` is NULL, or a function that can be called on this thread and returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_once(once: *mut u64, work: Option<unsafe extern "C" fn()>) -> c_int {
    status("dsm_once", || {
        let Some(work) = work else { return Failed::invalid("there is no function to be called") };
        let place = current()?.find(once.addr(), Once::BYTES)?;
        let doing = Once::new(&place.region, place.bytes.start)?;
        // SAFETY: the caller's, by the contract of the call.
        doing.call_once(|| unsafe { work() }).map_err(|error| match error {
            LockError::Sync(error) => error.into(),
            LockError::Access(error) => error.into(),
            LockError::Range(error) => error.into(),
            _ => {
                let what = format!(
                    "a node died while it did what is to be done once under the word at {:#x}; look at what it left, then dsm_swap_u64 the word to 0 to have it done anew",
                    once.addr()
                );
                Failed::new(Code::OwnerDied, what)
            }
        })
    })
}
