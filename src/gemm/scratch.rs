//! Memory for packed panels: one buffer for each thread, which grows to what the largest call
//! needed and is kept, so that no call of a known size allocates.

use std::cell::Cell;

use super::packed::Line;
use crate::contract::ROW_LANES;

thread_local! {
    static KEPT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// This thread's buffer, given back when dropped.
pub(super) struct Workspace(Vec<Line>);

impl Workspace {
    /// A buffer of at least so many elements, whatever they hold. None at all costs nothing.
    pub(super) fn take(elements: usize) -> Self {
        let mut lines = Vec::new();
        if elements > 0 {
            // A thread that is ending has no buffer any more. With small blocks, none is kept: tools see what lies
            // beside a buffer, but not what was once needed of it.
            if !cfg!(small_blocks) {
                lines = KEPT.try_with(Cell::take).unwrap_or_default();
            }
            let needed = elements.div_ceil(ROW_LANES);
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

impl Drop for Workspace {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            let lines = std::mem::take(&mut self.0);
            let _ = KEPT.try_with(|kept| kept.set(lines));
        }
    }
}
