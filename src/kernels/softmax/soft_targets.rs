//! Soft targets of cross-entropy: probabilities, label smoothing and class weights.

use super::row_per_lane::load_columns;
use super::row_ptr::{PartialSums, RowPtr};
use crate::contract::ROW_LANES;
use crate::matrix::{MatPtr, MatRef, Size};
use crate::simd::strided::load_strided;
use crate::simd::{MAX_LANES, Simd};

/// The target of each class: (keep t + base) w.
///
/// t is the row's probability, or 0 where the row has a label, whose share is no soft target; w is the class
/// weight, 1 without weights.
#[derive(Clone, Copy)]
pub(super) struct SoftTargets<'a> {
    pub(super) probabilities: Option<MatRef<'a>>,
    pub(super) weights: Option<&'a [f32]>,
    pub(super) keep: f32,
    pub(super) base: f32,
}

/// The soft targets of a row, or of a part of it.
#[derive(Clone, Copy)]
pub(super) struct SoftTargetsRow<const UNIT: bool> {
    probabilities: Option<RowPtr<UNIT>>,
    weights: Option<RowPtr<true>>,
    keep: f32,
    base: f32,
}

/// A row's sums over its soft targets: of the targets, and of target * (x - max).
#[derive(Clone, Copy)]
pub(super) struct SoftSums {
    pub(super) total: f32,
    pub(super) dot: f32,
}

impl SoftTargets<'_> {
    /// `cols`, or the number of columns that the targets have if that is smaller.
    #[inline(always)]
    pub(super) fn cols(&self, cols: usize) -> usize {
        let cols = self.probabilities.map_or(cols, |t| cols.min(t.cols()));
        self.weights.map_or(cols, |weights| cols.min(weights.len()))
    }

    /// Whether the elements of a row are contiguous.
    #[inline(always)]
    pub(super) fn is_unit(&self) -> bool {
        self.probabilities.is_none_or(|t| t.col_stride() == 1)
    }

    #[inline(always)]
    pub(super) fn row<const UNIT: bool>(&self, row: usize) -> SoftTargetsRow<UNIT> {
        let weights =
            self.weights.map(|weights| MatPtr { p: weights.as_ptr().cast_mut(), row_stride: 0, col_stride: 1 });
        SoftTargetsRow {
            probabilities: self.probabilities.map(|t| RowPtr::new(t.as_mat_ptr(), row)),
            weights: weights.map(|weights| RowPtr::new(weights, 0)),
            keep: self.keep,
            base: self.base,
        }
    }

    /// Computes the targets of rows from `first` on, one row per lane.
    ///
    /// # Safety
    /// The targets have `size.rows` rows from `first` on, 1 to `LANES`, and `size.cols` columns; `columns`
    /// has as many vectors or more.
    #[inline(always)]
    pub(super) unsafe fn columns<S: Simd>(&self, s: S, first: usize, size: Size, columns: &mut [S::F32]) {
        let columns = &mut columns[..size.cols];
        match self.probabilities {
            Some(t) => {
                // SAFETY: the probabilities have these rows and columns.
                unsafe { load_columns(s, t.as_mat_ptr().from(first, 0), size, columns) };
                for t in &mut *columns {
                    *t = s.fma(*t, s.splat(self.keep), s.splat(self.base));
                }
            }
            None => columns.fill(s.splat(self.base)),
        }
        if let Some(weights) = self.weights {
            for (target, &weight) in columns.iter_mut().zip(weights) {
                *target = s.mul(*target, s.splat(weight));
            }
        }
    }
}

impl<const UNIT: bool> SoftTargetsRow<UNIT> {
    /// The part of the row from `col` on.
    #[inline(always)]
    pub(super) fn from(self, col: usize) -> Self {
        Self {
            probabilities: self.probabilities.map(|t| t.from(col)),
            weights: self.weights.map(|weights| weights.from(col)),
            ..self
        }
    }

    /// Computes the targets of `n` classes from `col` on; the other lanes are 0.
    ///
    /// # Safety
    /// The row has elements `col..col + n`, and `n <= LANES`.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd>(self, s: S, col: usize, n: usize) -> S::F32 {
        let (zero, base) = (s.splat(0.0), s.splat(self.base));
        // SAFETY: probabilities and weights have these elements; `lanes` has room for a vector.
        unsafe {
            let mut target = match self.probabilities {
                Some(t) => s.fma(t.load(s, col, n, zero), s.splat(self.keep), base),
                None => base,
            };
            if let Some(weights) = self.weights {
                target = s.mul(target, weights.load(s, col, n, zero));
            }
            if n < S::LANES {
                let mut lanes = [0.0f32; MAX_LANES];
                s.store(lanes.as_mut_ptr(), target);
                target = load_strided(s, lanes.as_ptr(), 1, n, zero);
            }
            target
        }
    }

    /// Sums the targets, and their products with x - `max`.
    ///
    /// # Safety
    /// Both rows have `cols` elements.
    #[inline(always)]
    pub(super) unsafe fn sums<S: Simd>(self, s: S, x: RowPtr<UNIT>, cols: usize, max: f32) -> SoftSums {
        let max = s.splat(max);
        let (mut totals, mut dots) = (PartialSums::new(s), PartialSums::new(s));
        for col in (0..cols).step_by(ROW_LANES) {
            for i in 0..PartialSums::<S>::VECTORS {
                let col = col + i * S::LANES;
                if col < cols {
                    let n = S::LANES.min(cols - col);
                    // SAFETY: `col + n <= cols`.
                    let (target, x) = unsafe { (self.load(s, col, n), x.load(s, col, n, max)) };
                    totals.add(s, i, target);
                    dots.add(s, i, target_product(s, target, s.sub(x, max)));
                }
            }
        }
        SoftSums { total: totals.total(s), dot: dots.total(s) }
    }
}

/// target * (x - max), or 0 where the target is 0, though x be -inf.
#[inline(always)]
pub(super) fn target_product<S: Simd>(s: S, target: S::F32, below_max: S::F32) -> S::F32 {
    let zero = s.splat(0.0);
    s.select(s.lt(zero, s.abs(target)), s.mul(target, below_max), zero)
}
