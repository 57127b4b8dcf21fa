//! A strided row in memory, and the partial sums of its reduction.

use crate::contract::ROW_LANES;
use crate::matrix::MatPtr;
use crate::simd::Simd;
use crate::simd::strided::{load_strided, store_strided};

/// Points to a row. With `UNIT` its elements are contiguous, and the stride is a constant of the compiled
/// loops.
#[derive(Clone, Copy)]
pub(super) struct RowPtr<const UNIT: bool> {
    p: *mut f32,
    stride: usize,
}

impl<const UNIT: bool> RowPtr<UNIT> {
    /// Points to a row of a matrix whose column stride is 1 if `UNIT`.
    #[inline(always)]
    pub(super) fn new(matrix: MatPtr, row: usize) -> Self {
        debug_assert!(!UNIT || matrix.col_stride == 1);
        Self { p: matrix.at(row, 0), stride: matrix.col_stride }
    }

    #[inline(always)]
    fn stride(self) -> usize {
        if UNIT { 1 } else { self.stride }
    }

    /// The address of an element; it lies in the row only if the row has that element.
    #[inline(always)]
    pub(super) fn at(self, col: usize) -> *mut f32 {
        self.p.wrapping_add(col.wrapping_mul(self.stride()))
    }

    /// The part of the row from `col` on.
    #[inline(always)]
    pub(super) fn from(self, col: usize) -> Self {
        Self { p: self.at(col), ..self }
    }

    /// Loads `n` elements from `col` on; the other lanes are those of `fill`.
    ///
    /// # Safety
    /// The row has elements `col..col + n`, and `n <= LANES`.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd>(self, s: S, col: usize, n: usize, fill: S::F32) -> S::F32 {
        // SAFETY: the row has these `n` elements, `stride` apart.
        unsafe { load_strided(s, self.at(col), self.stride(), n, fill) }
    }

    /// Stores the first `n` lanes from `col` on.
    ///
    /// # Safety
    /// The row has elements `col..col + n`, which may be written, and `n <= LANES`.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(self, s: S, col: usize, n: usize, v: S::F32) {
        // SAFETY: the row has these `n` elements, `stride` apart.
        unsafe { store_strided(s, self.at(col), self.stride(), n, v) }
    }
}

/// Vectors of the narrowest instruction set that hold the partial sums.
const MAX_VECTORS: usize = 4;

/// The [`ROW_LANES`] partial sums of a row.
#[derive(Clone, Copy)]
pub(super) struct PartialSums<S: Simd>([S::F32; MAX_VECTORS]);

impl<S: Simd> PartialSums<S> {
    /// Vectors that hold the partial sums.
    pub(super) const VECTORS: usize = ROW_LANES / S::LANES;

    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        Self([s.splat(0.0); MAX_VECTORS])
    }

    /// Adds to vector `i` of the partial sums.
    #[inline(always)]
    pub(super) fn add(&mut self, s: S, i: usize, v: S::F32) {
        self.0[i] = s.add(v, self.0[i]);
    }

    /// Adds the partial sums in the fixed tree.
    #[inline(always)]
    pub(super) fn total(mut self, s: S) -> f32 {
        let mut half = Self::VECTORS / 2;
        while half > 0 {
            for i in 0..half {
                self.0[i] = s.add(self.0[i], self.0[i + half]);
            }
            half /= 2;
        }
        s.reduce_add(self.0[0])
    }
}

/// The first lane of a vector.
#[inline(always)]
pub(super) fn first_lane<S: Simd>(s: S, v: S::F32) -> f32 {
    let mut lanes = [0.0; ROW_LANES];
    // SAFETY: the array has `ROW_LANES` floats, and no vector has more lanes.
    unsafe { s.store(lanes.as_mut_ptr(), v) };
    lanes[0]
}
