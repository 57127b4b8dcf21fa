//! A mailbox: where a calling thread offers a job to one worker, and retracts it.
//!
//! ```text
//! caller                                       worker
//!   offer:  write job; state = OFFERED   (R)     claim:  compare-exchange OFFERED, RUNNING   (A)
//!   run:    job(0)                               run:    job(number)
//!   join:   state EMPTY: return          (A)     done:   state = EMPTY, or PANICKED          (R)
//!           OFFERED: compare-exchange OFFERED, EMPTY: the offer is retracted
//!           RUNNING: spin, look again
//!           PANICKED: state = EMPTY, panic
//! ```
//!
//! Memory orders: the offer releases (R) and the claim acquires (A), so that the worker sees the job and all
//! that it refers to. The worker's last store releases and `join` acquires, so that the caller sees all that
//! the job wrote. A retraction transfers nothing and is relaxed: where it succeeds, no worker has read the
//! job.
//!
//! Nothing deadlocks: the caller waits only while the state is RUNNING, and then a worker executes the job on
//! top of its stack, as a caller itself at most, which waits likewise. A worker that never comes leaves the
//! state OFFERED. `tests/loom` checks the interleavings.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::panic::{self, AssertUnwindSafe};

use super::sync::{AtomicU8, Ordering, SPINS, UnsafeCell, spin_loop, yield_now};

/// What the caller and its workers run at the same time, given the thread's number: 0 for the caller.
pub(super) type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// The mailbox of one worker.
///
/// Aligned to two cache lines, against false sharing with the next mailbox (the prefetcher fetches pairs).
/// State and job share one line: each that moves from core to core takes some 100 ns.
#[repr(align(128))]
pub(super) struct Mailbox {
    state: AtomicU8,
    /// Written by the caller while the state is EMPTY, read by the worker while it is RUNNING.
    job: UnsafeCell<MaybeUninit<Job<'static>>>,
}

// SAFETY: `state` grants access to `job` to one thread at a time: to the caller while EMPTY, to the worker
// while RUNNING.
unsafe impl Sync for Mailbox {}

/// There is no job, or it is done.
const EMPTY: u8 = 0;
/// There is a job that nobody has claimed.
const OFFERED: u8 = 1;
/// The worker runs the job.
const RUNNING: u8 = 2;
/// The job has panicked on the worker.
const PANICKED: u8 = 3;

impl Mailbox {
    pub(super) fn new() -> Self {
        Self { state: AtomicU8::new(EMPTY), job: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Offers a job to the worker.
    ///
    /// # Safety
    /// - The state is EMPTY, and only the calling thread offers.
    /// - An [`Offers`] of this mailbox ends before the job's lifetime does.
    pub(super) unsafe fn offer(&self, job: Job<'_>) {
        // SAFETY: the lifetime is only erased: a worker reads the job while it is RUNNING, and `Offers` waits
        // for that.
        let job = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: the state is EMPTY, so that no worker reads the job.
        self.job.with_mut(|slot| unsafe { (*slot).write(job) });
        self.state.store(OFFERED, Ordering::Release);
    }

    /// Claims and runs the job on offer, if there is one, as thread `number`. Gives whether there was one.
    pub(super) fn try_run(&self, number: usize) -> bool {
        // A look before the compare-exchange: that would take the cache line from the caller each time.
        if self.state.load(Ordering::Relaxed) != OFFERED
            || self.state.compare_exchange(OFFERED, RUNNING, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // SAFETY: the state was OFFERED, so that `offer` has written the job; while it is RUNNING, nobody
        // writes it, and the caller neither returns nor unwinds, so that what the job refers to lives.
        let job = self.job.with(|slot| unsafe { (*slot).assume_init() });
        // A panic must not leave the caller waiting, nor end the pool's thread.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| job(number)));
        self.state.store(if outcome.is_ok() { EMPTY } else { PANICKED }, Ordering::Release);
        true
    }

    /// Retracts the offer, or waits until the worker has done the job. Gives whether that has panicked.
    fn join(&self) -> bool {
        let mut spins = 0;
        loop {
            match self.state.load(Ordering::Acquire) {
                EMPTY => return false,
                OFFERED => {
                    // Where this fails, the worker has just claimed the job.
                    let _ = self.state.compare_exchange(OFFERED, EMPTY, Ordering::Relaxed, Ordering::Relaxed);
                }
                RUNNING => {
                    spins += 1;
                    if spins % SPINS > 0 { spin_loop() } else { yield_now() }
                }
                _ => {
                    self.state.store(EMPTY, Ordering::Relaxed);
                    return true;
                }
            }
        }
    }
}

/// Mailboxes with offers, which are retracted, or waited for, when this is dropped: by unwinding, too.
pub(super) struct Offers<'a>(pub(super) &'a [Mailbox]);

impl Offers<'_> {
    /// Retracts the offers that no worker has claimed, and waits for the others.
    ///
    /// # Panics
    /// If a worker has.
    pub(super) fn join(self) {
        let panicked = self.join_all();
        std::mem::forget(self); // All are EMPTY: dropping it would read them once more.
        if panicked {
            panic::resume_unwind(Box::new("a worker has panicked"));
        }
    }

    /// Leaves all mailboxes EMPTY. Gives whether a worker has panicked.
    fn join_all(&self) -> bool {
        let mut panicked = false;
        for mailbox in self.0 {
            panicked |= mailbox.join();
        }
        panicked
    }
}

impl Drop for Offers<'_> {
    fn drop(&mut self) {
        self.join_all();
    }
}
