//! Parts of a work that several threads take, each part once.
//!
//! `tests/loom` goes through their interleavings.

#![allow(unsafe_code)]

use std::array;
use std::mem::MaybeUninit;

use super::sync::{AtomicBool, Ordering, UnsafeCell};

/// Into how many parts work is cut at most.
pub(super) const MAX_PARTS: usize = 128;

/// Parts of a work, each of which is given out once.
pub(super) struct Parts<T> {
    len: usize,
    given: [AtomicBool; MAX_PARTS],
    parts: [UnsafeCell<MaybeUninit<T>>; MAX_PARTS],
}

// SAFETY: a part is only moved out, by the one thread that `given` grants it.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T> Parts<T> {
    /// No parts.
    pub(super) fn new() -> Self {
        Self {
            len: 0,
            given: array::from_fn(|_| AtomicBool::new(false)),
            parts: array::from_fn(|_| UnsafeCell::new(MaybeUninit::uninit())),
        }
    }

    /// Adds a part, of which there may be [`MAX_PARTS`].
    pub(super) fn push(&mut self, part: T) {
        // SAFETY: nobody else has the parts.
        self.parts[self.len].with_mut(|place| unsafe { (*place).write(part) });
        self.len += 1;
    }

    /// How many have been added.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A part and its number: part `first`, or the next that is left.
    pub(super) fn take(&self, first: usize) -> Option<(usize, T)> {
        let free = |&i: &usize| !self.given[i].load(Ordering::Relaxed) && !self.given[i].swap(true, Ordering::Relaxed);
        let first = first.min(self.len);
        let i = (first..self.len).chain(0..first).find(free)?;
        // SAFETY: below `len` all parts were written, and none but the first to swap gets here.
        Some((i, self.parts[i].with(|part| unsafe { (*part).assume_init_read() })))
    }
}
