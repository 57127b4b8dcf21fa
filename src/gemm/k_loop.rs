//! The state of a micro-kernel's k-loop: accumulators, where it stands, and the vectors of a row.

use crate::simd::Simd;

/// Accumulators of a micro-tile.
pub(super) type Acc<S, const MR: usize, const NV: usize> = [[<S as Simd>::F32; NV]; MR];

/// Where a k-loop stands.
#[derive(Clone, Copy)]
pub(super) struct Cursor<E> {
    pub a: *const f32,
    pub b: *const E,
    pub b_row: usize,
    pub b_vector: usize,
    pub panel: *mut f32,
    pub next_a: *const f32,
    /// k-steps that are left.
    pub left: usize,
}

/// Loads and stores of a row's vectors, of which the last may be partial. Methods, since closures may not be
/// inlined.
#[derive(Clone, Copy)]
pub(super) struct Vectors<S> {
    pub s: S,
    /// How many are full.
    pub full: usize,
    /// Columns of the one behind them.
    pub tail: usize,
}

impl<S: Simd> Vectors<S> {
    /// Loads vector `v`.
    ///
    /// # Safety
    /// `p` points to the readable elements of that vector.
    #[inline(always)]
    pub(super) unsafe fn load(self, p: *const f32, v: usize) -> S::F32 {
        // SAFETY: a full vector has `LANES` elements, the last one `tail`.
        unsafe { if v < self.full { self.s.load(p) } else { self.s.load_first(p, self.tail, self.s.splat(0.0)) } }
    }

    /// Stores vector `v`.
    ///
    /// # Safety
    /// `p` points to the writable elements of that vector.
    #[inline(always)]
    pub(super) unsafe fn store(self, p: *mut f32, v: usize, value: S::F32) {
        // SAFETY: a full vector has `LANES` elements, the last one `tail`.
        unsafe { if v < self.full { self.s.store(p, value) } else { self.s.store_first(p, self.tail, value) } }
    }
}
