//! Packing: a panel of B copied so that its columns are neighbours, whatever strides B has.

use std::mem::MaybeUninit;

/// Depth of a packed panel.
pub(super) const PANEL_DEPTH: usize = 256;
/// Columns of the widest packed panel.
pub(super) const PANEL_COLS: usize = 32;

/// Room for a packed panel, on the stack: 32 KiB, so no call allocates.
pub(super) struct Panel([MaybeUninit<f32>; PANEL_DEPTH * PANEL_COLS]);

impl Panel {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self([MaybeUninit::uninit(); PANEL_DEPTH * PANEL_COLS])
    }

    /// Copies `depth` rows by `cols` columns of B to rows of `width` elements, zeros behind the
    /// last column, and gives the first element's address.
    ///
    /// # Safety
    /// The elements of B can be read; `depth <= PANEL_DEPTH` and `cols <= width <= PANEL_COLS`.
    #[inline(always)]
    pub(super) unsafe fn fill(
        &mut self,
        b: *const f32,
        [b_row, b_col]: [usize; 2],
        [depth, cols]: [usize; 2],
        width: usize,
    ) -> *const f32 {
        let panel = self.0.as_mut_ptr().cast::<f32>();
        for col in 0..width {
            for k in 0..depth {
                // SAFETY: B's element by the caller's word; the panel has depth * width elements.
                unsafe {
                    let value = if col < cols { *b.add(k * b_row + col * b_col) } else { 0.0 };
                    *panel.add(k * width + col) = value;
                }
            }
        }
        panel
    }
}
