//! The service thread's part: it receives while no thread of the application waits.

use super::receiving::{LOOKS_A_GLANCE, LOOKS_AT_ALL, RING_LOOKS, Receiving, wait};
use super::spin::Look;
use super::{CROSSED_LEADS, Receiver, SERVICE_WAKE, Switch};
use rustix::event::epoll::Event;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// Rounds in a row that the service thread serves before it looks at what else it has to do.
const SERVICE_ROUNDS: u32 = 16;

/// Looks after which another thread may have the core, where one comes first.
const LOOKS_TO_YIELD: u32 = 4;

impl Switch {
    /// One round of the service thread: sends what is queued, sleeps until a socket is ready and nobody leads, until
    /// [`wake_service`](Self::wake_service), a signal, or `timeout` (`None`: no end; rounded up to milliseconds),
    /// then handles what is there and sends the answers. For one thread only.
    ///
    /// # Errors
    /// What `epoll_wait(2)` says; nothing that a peer can cause.
    pub fn wait_service(&self, timeout: Option<Duration>, receiver: &mut dyn Receiver) -> io::Result<()> {
        self.flush();
        if self.spin_service(receiver)? {
            return Ok(());
        }
        self.unmute_before_sleep();
        let may_sleep = !timeout.is_some_and(|timeout| timeout.is_zero()) && self.service_wake.prepare();
        if may_sleep {
            self.counts.service_waits.add(1);
        }
        let mut events = [const { MaybeUninit::uninit() }; 2];
        let waited = wait(&self.outer, &mut events, if may_sleep { timeout } else { Some(Duration::ZERO) });
        if may_sleep {
            self.service_wake.finish();
        }
        self.handle_outer(waited?, receiver)
    }

    /// Looks for work without sleeping, if the last round had some. True when some came.
    ///
    /// After long payloads, which this node asked for, the thread that uses them comes first, where both have one core: it asks for the next. After a request it
    /// does not, since it may compute for long, and the next request would wait for it.
    fn spin_service(&self, receiver: &mut dyn Receiver) -> io::Result<bool> {
        if !self.served.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        let mut look = self.service_spin.begin(None);
        if look.is_none() {
            return Ok(false);
        }
        let gives_way = !self.heard.swap(false, Ordering::Relaxed);
        let watched = self.active.load(Ordering::Relaxed) & self.live_rings();
        self.want_calls(watched, false);
        let mut looks = 0u32;
        while look.is_some() && !self.service_wake.is_notified() && !self.leading.load(Ordering::Relaxed) {
            if self.any_news(watched) {
                // A leader has it, and sees to it.
                let Some(mut receiving) = self.try_receiving() else { break };
                Look::succeed(&mut look);
                receiving.take_over(watched);
                self.serve_rounds(&mut receiving, receiver)?;
                return Ok(true);
            }
            looks += 1;
            let has_sockets = self.has_sockets();
            if has_sockets && !looks.is_multiple_of(LOOKS_AT_ALL) {
                if self.peek(watched, &mut look, receiver)? {
                    return Ok(true);
                }
            } else if has_sockets || looks.is_multiple_of(RING_LOOKS) {
                let mut events = [const { MaybeUninit::uninit() }; 2];
                let ready = wait(&self.outer, &mut events, Some(Duration::ZERO))?;
                if !ready.is_empty() {
                    Look::succeed(&mut look);
                    self.want_calls(watched, true);
                    self.leave_news(watched);
                    self.handle_outer(ready, receiver)?;
                    return Ok(true);
                }
            }
            // A thread of the application that leads, or a call, says nothing about looking.
            if has_sockets || looks.is_multiple_of(LOOKS_A_GLANCE) {
                look = look.and_then(Look::again);
            }
            if gives_way && looks.is_multiple_of(LOOKS_TO_YIELD) {
                rustix::thread::sched_yield();
            } else {
                std::hint::spin_loop();
            }
        }
        self.want_calls(watched, true);
        self.leave_news(watched);
        Ok(false)
    }

    /// One look of the service thread at the socket of the peer that sent last, past both epolls: the next request mostly comes from there.
    /// True when something came, and was handled.
    fn peek(
        &self,
        watched: u64,
        look: &mut Option<Look<'_>>,
        receiver: &mut dyn Receiver,
    ) -> io::Result<bool> {
        self.peeking.store(true, Ordering::Relaxed);
        let Some(mut receiving) = self.try_receiving() else {
            self.peeking.store(false, Ordering::Relaxed);
            return Ok(false);
        };
        let came = receiving.peek(self, receiver, || {
            self.peeking.store(false, Ordering::Relaxed);
            Look::succeed(look);
        });
        if came {
            self.flush();
            receiving.take_over(watched);
            self.serve_on(&mut receiving, Ok(()), receiver)?;
        }
        drop(receiving);
        self.peeking.store(false, Ordering::Relaxed);
        Ok(came)
    }

    fn handle_outer(&self, ready: &[Event], receiver: &mut dyn Receiver) -> io::Result<()> {
        for event in ready {
            match event.data.u64() {
                SERVICE_WAKE => self.service_wake.drain(),
                _ => self.serve(receiver)?,
            }
        }
        Ok(())
    }

    /// The service thread was woken because the inner epoll is ready.
    fn serve(&self, receiver: &mut dyn Receiver) -> io::Result<()> {
        self.counts.service_wakes.add(1);
        let mut disarmed = false;
        let mut receiving = self.try_receiving();
        if receiving.is_none() {
            self.counts.service_met_leader.add(1);
            self.crossed.store(CROSSED_LEADS, Ordering::Relaxed);
            self.set_armed(false);
            // After standing down and before the lock is tried again: whoever leaves unlocks, and then looks at this.
            self.service_disarmed.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            disarmed = true;
            receiving = self.try_receiving();
        }
        let Some(mut receiving) = receiving else { return Ok(()) };
        let result = self.serve_rounds(&mut receiving, receiver);
        drop(receiving);
        if disarmed {
            self.set_armed(true);
        }
        self.flush();
        result
    }

    /// Serves until nothing is left in the rings that called, or for so many rounds.
    fn serve_rounds(&self, receiving: &mut Receiving, receiver: &mut dyn Receiver) -> io::Result<()> {
        let result = receiving.serve_round(self, receiver);
        self.flush();
        self.serve_on(receiving, result, receiver)
    }

    /// After the first of these rounds, which ended with `result`.
    fn serve_on(
        &self,
        receiving: &mut Receiving,
        mut result: io::Result<()>,
        receiver: &mut dyn Receiver,
    ) -> io::Result<()> {
        for _ in 1..SERVICE_ROUNDS {
            if result.is_err() || receiving.unwatch(self) {
                break;
            }
            result = receiving.serve_round(self, receiver);
            self.flush();
        }
        receiving.abandon(self);
        self.active.store(receiving.active_peers(), Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        result
    }
}
