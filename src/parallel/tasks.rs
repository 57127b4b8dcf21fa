//! The tasks of a fork, which several threads take, each task once.
//!
//! ```text
//! take(preferred): for each task from `preferred` on, then from the first:
//!                      if swap(taken, true) was false: give it
//! ```
//!
//! The swap of a task's flag decides who gets it. Relaxed is enough: the flags order nothing else. The tasks
//! themselves reach a worker through its mailbox, whose offer is released after the last `push`; what tasks
//! write reaches the calling thread through the mailbox, too. `tests/loom` checks the interleavings.

#![allow(unsafe_code)]

use std::array;
use std::mem::MaybeUninit;

use super::sync::{AtomicBool, Ordering, UnsafeCell};

/// Most tasks of a fork; they are on the calling thread's stack.
pub(super) const MAX_TASKS: usize = 128;

/// Tasks, each of which is taken once. Those that nobody takes are not dropped.
pub(super) struct Tasks<T> {
    len: usize,
    taken: [AtomicBool; MAX_TASKS],
    tasks: [UnsafeCell<MaybeUninit<T>>; MAX_TASKS],
}

// SAFETY: through a shared reference a task is only moved out, by the one thread whose swap of its flag gave
// false.
unsafe impl<T: Send> Sync for Tasks<T> {}

impl<T> Tasks<T> {
    /// No tasks.
    pub(super) fn new() -> Self {
        Self {
            len: 0,
            taken: array::from_fn(|_| AtomicBool::new(false)),
            tasks: array::from_fn(|_| UnsafeCell::new(MaybeUninit::uninit())),
        }
    }

    /// Adds a task, [`MAX_TASKS`] at most.
    pub(super) fn push(&mut self, task: T) {
        // SAFETY: `self` is borrowed mutably, so that no other thread reads or writes the slot.
        self.tasks[self.len].with_mut(|slot| unsafe { (*slot).write(task) });
        self.len += 1;
    }

    /// Number of tasks that were added.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes a task, and gives its number with it: task `preferred`, or the next that is left.
    pub(super) fn take(&self, preferred: usize) -> Option<(usize, T)> {
        // A look before the swap: a swap would take the flag's cache line from the other threads each time.
        let wins = |&i: &usize| !self.taken[i].load(Ordering::Relaxed) && !self.taken[i].swap(true, Ordering::Relaxed);
        let preferred = preferred.min(self.len);
        let i = (preferred..self.len).chain(0..preferred).find(wins)?;
        // SAFETY: every slot below `len` was written by `push`, and only the first swap of its flag gets
        // here.
        Some((i, self.tasks[i].with(|slot| unsafe { (*slot).assume_init_read() })))
    }
}
