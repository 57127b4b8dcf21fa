//! What [`mailbox`](super::mailbox) and [`tasks`](super::tasks) are made of; `tests/loom` has loom's instead.

pub(super) use std::hint::spin_loop;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
pub(super) use std::thread::yield_now;

pub(super) use crate::tuning::parallel::SPINS;

/// A cell that gives out pointers as loom's does.
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    #[inline(always)]
    pub(super) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Hands on a pointer to read by.
    #[inline(always)]
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Hands on a pointer to write by.
    #[inline(always)]
    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
