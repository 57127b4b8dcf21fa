//! The primitives of [`tasks`](super::tasks) and `mailbox`; `tests/loom` replaces this file by loom's.

#[cfg(feature = "rayon")]
pub(super) use std::hint::spin_loop;
#[cfg(feature = "rayon")]
pub(super) use std::sync::atomic::AtomicU8;
pub(super) use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "rayon")]
pub(super) use std::thread::yield_now;

#[cfg(feature = "rayon")]
pub(super) use crate::tuning::spin_pool::SPINS;

/// A cell that gives out pointers as loom's does.
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    #[inline(always)]
    pub(super) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Passes `read` a pointer to read through.
    #[inline(always)]
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Passes `write` a pointer to write through.
    #[inline(always)]
    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
