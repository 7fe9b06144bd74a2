//! Locks and barriers.

use crate::error::{Answer, Failed, status, value};
use crate::mutexes::Patience;
use crate::state::current;
use crate::types::dsm_lock_t;
use std::ffi::c_int;
use std::ptr::{null_mut, without_provenance_mut};
use std::time::Duration;

fn take(id: u64, patience: Patience) -> Answer<()> {
    let context = current()?;
    context.mutexes.take(&context.mesh, id, patience)
}

/// Waits for lock `id`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_mutex_lock(id: u64) -> c_int {
    status("dsm_mutex_lock", || take(id, Patience::Configured))
}

/// Takes lock `id` if nobody holds it.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_mutex_trylock(id: u64) -> c_int {
    status("dsm_mutex_trylock", || take(id, Patience::None))
}

/// Waits for lock `id`, at most so long.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_mutex_timedlock(id: u64, timeout_ns: u64) -> c_int {
    let wait = Duration::from_nanos(timeout_ns);
    status("dsm_mutex_timedlock", || take(id, Patience::AtMost(wait)))
}

/// Gives lock `id` back.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_mutex_unlock(id: u64) -> c_int {
    status("dsm_mutex_unlock", || current()?.mutexes.give_back(id))
}

/// A handle for lock `id`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_lock_create(id: u64) -> *mut dsm_lock_t {
    value("dsm_lock_create", null_mut(), || Ok(without_provenance_mut(current()?.mutexes.handle(id))))
}

/// Waits for the lock that the handle names.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_lock_acquire(handle: *mut dsm_lock_t) -> c_int {
    status("dsm_lock_acquire", || {
        let context = current()?;
        let id = context.mutexes.named(handle.addr())?;
        context.mutexes.take(&context.mesh, id, Patience::Configured)
    })
}

/// Gives back the lock that the handle names.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_lock_release(handle: *mut dsm_lock_t) -> c_int {
    status("dsm_lock_release", || {
        let context = current()?;
        context.mutexes.give_back(context.mutexes.named(handle.addr())?)
    })
}

/// Ends the handle.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_lock_destroy(handle: *mut dsm_lock_t) -> c_int {
    status("dsm_lock_destroy", || current()?.mutexes.destroy(handle.addr()))
}

/// Waits until `num_participants` threads are at barrier `id`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_barrier(id: u64, num_participants: c_int) -> c_int {
    status("dsm_barrier", || {
        let context = current()?;
        match u32::try_from(num_participants) {
            Ok(participants) if participants > 0 => Ok(context.mesh.barrier_of(id, participants).wait()?),
            _ => Failed::invalid(format!(
                "{num_participants} participants were asked for; there is at least one"
            )),
        }
    })
}

/// Waits until a thread of every node is at barrier `id`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_barrier_all(id: u64) -> c_int {
    status("dsm_barrier_all", || Ok(current()?.mesh.barrier(id).wait()?))
}
