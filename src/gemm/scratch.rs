//! `Scratch`: memory for packed panels, one buffer per thread.
//!
//! A buffer grows to what the largest call needed and is kept, so that no call of a known size allocates.

use std::cell::Cell;

use super::element::Line;
use crate::contract::ROW_LANES;

thread_local! {
    static CACHED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// This thread's buffer, given back when dropped.
pub(super) struct Scratch(Vec<Line>);

impl Scratch {
    /// A buffer of at least `len` elements of any value; an empty one costs nothing.
    pub(super) fn take(len: usize) -> Self {
        let mut lines = Vec::new();
        if len > 0 {
            // A thread that is ending has no buffer any more. With small blocks none is kept: tools see
            // accesses beyond a buffer, but not beyond what this call asked for.
            if !cfg!(small_blocks) {
                lines = CACHED.try_with(Cell::take).unwrap_or_default();
            }
            let needed = len.div_ceil(ROW_LANES);
            if lines.len() < needed {
                lines.resize(needed, Line([f32::NAN; ROW_LANES]));
            }
        }
        Self(lines)
    }

    /// The first element's address, at the beginning of a cache line.
    pub(super) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            let lines = std::mem::take(&mut self.0);
            let _ = CACHED.try_with(|cached| cached.set(lines));
        }
    }
}
