//! The threads that resolve faults for the `handler` pager.
//!
//! There is one userfaultfd for all regions and one thread a core, all asleep in `epoll_wait(2)` upon it. It is armed for one
//! wake-up: the thread that gets it reads one fault, arms it again, so that the next fault wakes the next thread, and
//! then resolves its own. So no fault waits behind another while a thread is idle, and no thread wakes in vain.
//!
//! A thread allocates when it begins, and on a loaded machine it may begin a second after it was started. So the first region waits for
//! all of them: later, threads that wait for a page may hold the allocator's lock.

use super::{CHANGES, failures};
use crate::fork::PerProcess;
use crate::signal::{AllMasked, Entry, find};
use crate::uffd::{FaultMessage, Userfault};
use crate::{Fault, MappingError, PAGE_BYTES, Resolution, UffdError};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;
use rustix::fs::Timespec;
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Most threads, however many cores there are.
const THREADS_MAX: usize = 16;

/// Tries at a call that the kernel wants repeated. After that the thread whose access is to fail asks anew.
const TRIES_MAX: u32 = 1 << 16;

/// How long the first region waits for the threads to begin. Any that is later still is of use when it comes.
const BEGIN: Duration = Duration::from_secs(10);

/// The service of this process, if there is a region that needs it.
static CURRENT: PerProcess<Mutex<Weak<Service>>> = PerProcess::new(|| Mutex::new(Weak::new()));

/// In a child made by fork: the threads stayed in the parent.
pub(super) fn forget() {
    CURRENT.forget();
}

/// What an event is about.
const FAULT: epoll::EventData = epoll::EventData::new_u64(0);
const STOP: epoll::EventData = epoll::EventData::new_u64(1);

/// The service threads. They end when the value is dropped.
pub(super) struct Service {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
    /// A child made by fork has this value, but not the threads.
    process: u32,
}

/// What the threads share.
struct Core {
    userfault: Arc<Userfault>,
    events: OwnedFd,
    stop: OwnedFd,
    /// How many threads have begun.
    begun: Mutex<usize>,
    all_begun: Condvar,
}

impl Service {
    /// The service of this process, which is started for its first region.
    pub(super) fn join() -> Result<Arc<Service>, MappingError> {
        let mut current = CURRENT.get().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = current.upgrade() {
            return Ok(service);
        }
        let service = Arc::new(Service::start()?);
        *current = Arc::downgrade(&service);
        Ok(service)
    }

    pub(super) fn userfault(&self) -> &Arc<Userfault> {
        &self.core.userfault
    }

    fn start() -> Result<Service, MappingError> {
        let userfault = super::open_userfault()?;
        let failed = |call| move |errno| MappingError::Uffd(UffdError::Failed { call, errno });
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("epoll_create"))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed("eventfd"))?;
        epoll::add(&events, &stop, STOP, epoll::EventFlags::IN).map_err(failed("epoll_ctl"))?;
        epoll::add(&events, &userfault, FAULT, armed()).map_err(failed("epoll_ctl"))?;
        let (begun, all_begun) = (Mutex::new(0), Condvar::new());
        let core = Arc::new(Core { userfault, events, stop, begun, all_begun });
        let mut service = Service { core, threads: Vec::new(), process: std::process::id() };
        // The threads inherit the mask: the application's handlers run on its own threads.
        let masked = AllMasked::except_errors();
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX) {
            let core = service.core.clone();
            let builder = thread::Builder::new().name("pagemesh-fault".to_owned());
            match builder.spawn(move || core.serve()) {
                Ok(thread) => service.threads.push(thread),
                // Fewer are slower, none is no service.
                Err(error) if service.threads.is_empty() => {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
                    return Err(failed("pthread_create")(errno));
                }
                Err(_) => break,
            }
        }
        drop(masked);
        service.core.await_begin(service.threads.len());
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return;
        }
        // The counter cannot be full: it is written once.
        let _ = rustix::io::write(&self.core.stop, &1_u64.to_ne_bytes());
        // Whoever sleeps still has touched a region that is gone. It is woken when the userfaultfd is closed.
        for thread in self.threads.drain(..) {
            // A sink that drops another region does it on one of these threads, which then ends by itself.
            if thread.thread().id() != thread::current().id() {
                // A thread that panicked has aborted the process.
                let _ = thread.join();
            }
        }
    }
}

/// Wakes one thread, once.
fn armed() -> epoll::EventFlags {
    epoll::EventFlags::IN | epoll::EventFlags::ONESHOT
}

/// Aborts when a thread of the service panics: the faults would wait for ever.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

impl Core {
    /// Waits until so many threads have begun.
    fn await_begin(&self, threads: usize) {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.all_begun.wait_timeout_while(begun, BEGIN, |begun| *begun < threads);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What a thread does. Like the handler of a signal it must not allocate or wait for a lock of the application: a thread
    /// that sleeps in a fault may hold it.
    fn serve(&self) {
        let _abort = AbortOnPanic;
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.all_begun.notify_one();
        loop {
            let mut event = [MaybeUninit::<epoll::Event>::uninit()];
            let timeout = failures::time_left().map(timespec);
            let data = match epoll::wait(&self.events, &mut event, timeout.as_ref()) {
                Ok((events, _)) => events.first().map(|event| event.data),
                Err(_) => None,
            };
            if data == Some(STOP) {
                return;
            }
            if data == Some(FAULT) {
                let fault = self.userfault.read_fault();
                let _ = epoll::modify(&self.events, &self.userfault, FAULT, armed());
                if let Ok(Some(fault)) = fault {
                    self.answer(fault);
                }
            }
            failures::end_old_ones();
        }
    }

    fn answer(&self, message: FaultMessage) {
        let page_address = message.address & !(PAGE_BYTES - 1);
        // Held until its thread was woken: no other region comes to where it is before that.
        let region = find(page_address);
        match region.as_ref().map(|region| region.sink.resolve(fault_in(region, message))) {
            Some(Resolution::Resolved) => {}
            Some(Resolution::Failed) => {
                failures::note(message.thread, page_address);
                self.refuse(page_address);
            }
            // Of a region that is going: whoever touches it now gets what unmapped memory gives.
            None => self.refuse(page_address),
        }
        self.wake(page_address);
    }

    /// Lets an access to a page fail: the next one.
    fn refuse(&self, page_address: usize) {
        let _masked = AllMasked::new();
        let _alone = CHANGES.get().write().unwrap_or_else(PoisonError::into_inner);
        // Only what is absent can be poisoned, and a store can fail at a page that is there.
        failures::drop_page(page_address);
        // What of this the kernel refuses leaves a page that faults, and the sink is asked again.
        let _ = retried(|| self.userfault.forget_protection(page_address));
        let _ = retried(|| self.userfault.poison(page_address));
    }

    fn wake(&self, page_address: usize) {
        // Nothing can be done about an error, of which none is known.
        let _ = self.userfault.wake(page_address, PAGE_BYTES);
    }
}

/// Tries as long as the kernel asks for it, which it does while the process's mappings are being changed.
fn retried(call: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    (0..TRIES_MAX).map(|_| call()).find(|result| *result != Err(Errno::AGAIN)).unwrap_or(Err(Errno::AGAIN))
}

fn fault_in(region: &Entry, message: FaultMessage) -> Fault {
    let page = ((message.address - region.start) / PAGE_BYTES) as u64;
    Fault { region: region.key, page, access: message.access }
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up, so that what is waited for is over afterwards.
    let duration = duration + Duration::from_millis(1);
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}
