//! Where work is offered to a helper, and taken back: the protocol between a caller and its helpers.
//!
//! `tests/loom` goes through its interleavings.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::panic::{self, AssertUnwindSafe};

use super::sync::{AtomicU8, Ordering, SPINS, UnsafeCell, spin_loop, yield_now};

/// What caller and helpers run at the same time; it gets the number of who runs it.
pub(super) type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// Where one helper watches. Alone in its cache lines, since both sides write to it, and with all in one
/// line: each that goes from core to core takes some 100 ns.
#[repr(align(128))]
pub(super) struct Place {
    offer: AtomicU8,
    /// Written by the caller while the place is free, read by the helper while its work is under way.
    work: UnsafeCell<MaybeUninit<Work<'static>>>,
}

// SAFETY: `offer` tells who may touch `work`.
unsafe impl Sync for Place {}

/// What a place's `offer` says: nothing is on offer, and what was is done,
const FREE: u8 = 0;
/// work is on offer,
const OFFERED: u8 = 1;
/// the helper is at it,
const UNDER_WAY: u8 = 2;
/// or has panicked at it.
const PANICKED: u8 = 3;

/// Places with offers, which are taken back, or waited for, when this is dropped.
pub(super) struct Offered<'a>(pub(super) &'a [Place]);

impl Offered<'_> {
    /// Takes the offers back, or waits for what is under way.
    ///
    /// # Panics
    /// If a helper has.
    pub(super) fn end(self) {
        let panicked = self.take_back();
        std::mem::forget(self); // Dropped, it would look once more.
        if panicked {
            panic::resume_unwind(Box::new("a helper has panicked"));
        }
    }

    /// Leaves all places free; tells whether a helper has panicked.
    fn take_back(&self) -> bool {
        let mut panicked = false;
        for Place { offer, .. } in self.0 {
            let mut looks = 0;
            loop {
                match offer.load(Ordering::Acquire) {
                    FREE => break,
                    OFFERED => {
                        // Should this fail, the helper has just begun.
                        let _ = offer.compare_exchange(OFFERED, FREE, Ordering::Relaxed, Ordering::Relaxed);
                    }
                    UNDER_WAY => {
                        looks += 1;
                        if looks % SPINS > 0 { spin_loop() } else { yield_now() }
                    }
                    _ => {
                        panicked = true;
                        offer.store(FREE, Ordering::Relaxed);
                    }
                }
            }
        }
        panicked
    }
}

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        self.take_back();
    }
}

impl Place {
    pub(super) fn new() -> Self {
        Self { offer: AtomicU8::new(FREE), work: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Puts work on offer.
    ///
    /// # Safety
    /// The place is free, and will be so again before the work's life ends; nobody else calls this.
    pub(super) unsafe fn put(&self, work: Work<'_>) {
        // SAFETY: the caller's: nobody looks at it once the place is free.
        let work = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        // SAFETY: the place is free, so that no helper reads it.
        self.work.with_mut(|place| unsafe { (*place).write(work) });
        self.offer.store(OFFERED, Ordering::Release);
    }

    /// Does what is on offer, if anything is, as number `number`.
    pub(super) fn serve(&self, number: usize) -> bool {
        if self.offer.load(Ordering::Relaxed) != OFFERED
            || self.offer.compare_exchange(OFFERED, UNDER_WAY, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // SAFETY: `put` wrote it, and its caller does not return, nor unwind, before this is no longer under way.
        let work = self.work.with(|place| unsafe { (*place).assume_init() });
        // However it ends, the caller waits for this; and a worker of the pool goes on.
        let end = panic::catch_unwind(AssertUnwindSafe(|| work(number)));
        self.offer.store(if end.is_ok() { FREE } else { PANICKED }, Ordering::Release);
        true
    }
}
