//! Targets of cross-entropy that are spread over the classes.

use super::row_at_a_time::{Partials, Row};
use super::row_per_lane;
use crate::contract::ROW_LANES;
use crate::matrix::MatRef;
use crate::simd::strided::load_strided;
use crate::simd::{MAX_LANES, Simd};

/// What each class of a row has for a target: (keep t + base) w, where t is the row's probabilities (0 where it has a
/// label: that is not spread) and w the class weights (1 where there are none).
#[derive(Clone, Copy)]
pub(super) struct Spread<'a> {
    pub(super) probabilities: Option<MatRef<'a>>,
    pub(super) weights: Option<&'a [f32]>,
    pub(super) keep: f32,
    pub(super) base: f32,
}

/// The targets of a row, or of a part of it.
#[derive(Clone, Copy)]
pub(super) struct SpreadRow {
    probabilities: Option<Row>,
    weights: Option<Row>,
    keep: f32,
    base: f32,
}

impl Spread<'_> {
    /// So many columns the targets have at most.
    #[inline(always)]
    pub(super) fn cols(&self, cols: usize) -> usize {
        let cols = self.probabilities.map_or(cols, |t| cols.min(t.cols()));
        self.weights.map_or(cols, |weights| cols.min(weights.len()))
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> SpreadRow {
        let probabilities = self
            .probabilities
            .map(|t| Row { p: t.as_ptr().wrapping_add(row * t.row_stride()), stride: t.col_stride() });
        let weights = self.weights.map(|weights| Row { p: weights.as_ptr(), stride: 1 });
        SpreadRow { probabilities, weights, keep: self.keep, base: self.base }
    }

    /// The targets of rows from `first` on, one row in each lane.
    ///
    /// # Safety
    /// The targets have so many rows from `first` on, at most `LANES`, and so many columns, at most [`row_per_lane::SHORT`].
    #[inline(always)]
    pub(super) unsafe fn columns<S: Simd>(
        &self,
        s: S,
        first: usize,
        size @ [_, cols]: [usize; 2],
        columns: &mut [S::F32],
    ) {
        match self.probabilities {
            Some(t) => {
                // SAFETY: the caller's.
                unsafe { row_per_lane::load(s, t.as_mat_ptr().from(first, 0), size, columns) };
                for t in &mut columns[..cols] {
                    *t = s.fma(*t, s.splat(self.keep), s.splat(self.base));
                }
            }
            None => columns[..cols].fill(s.splat(self.base)),
        }
        if let Some(weights) = self.weights {
            for (target, &weight) in columns[..cols].iter_mut().zip(weights) {
                *target = s.mul(*target, s.splat(weight));
            }
        }
    }
}

impl SpreadRow {
    /// The part that begins there.
    #[inline(always)]
    pub(super) fn from(self, col: usize) -> Self {
        Self {
            probabilities: self.probabilities.map(|t| t.from(col)),
            weights: self.weights.map(|weights| weights.from(col)),
            ..self
        }
    }

    /// The targets of `n` classes, 0 in the lanes past them.
    ///
    /// # Safety
    /// The row has elements `col..col + n`; probabilities are neighbours if `UNIT`.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd, const UNIT: bool>(self, s: S, col: usize, n: usize) -> S::F32 {
        let (zero, base) = (s.splat(0.0), s.splat(self.base));
        // SAFETY: the caller's; an array has a vector's lanes.
        unsafe {
            let mut target = match self.probabilities {
                Some(t) => s.fma(t.load::<S, UNIT>(s, col, n, zero), s.splat(self.keep), base),
                None => base,
            };
            if let Some(weights) = self.weights {
                target = s.mul(target, weights.load::<S, true>(s, col, n, zero));
            }
            if n < S::LANES {
                let mut lanes = [0.0f32; MAX_LANES];
                s.store(lanes.as_mut_ptr(), target);
                target = load_strided(s, lanes.as_ptr(), 1, n, zero);
            }
            target
        }
    }

    /// The sum of `cols` targets, and that of their products with what the logits lack to `max`.
    ///
    /// # Safety
    /// Both rows have so many elements, which are neighbours if `UNIT`.
    #[inline(always)]
    pub(super) unsafe fn sums<S: Simd, const UNIT: bool>(self, s: S, x: Row, cols: usize, max: f32) -> [f32; 2] {
        let max = s.splat(max);
        let (mut totals, mut dots) = (Partials::new(s), Partials::new(s));
        for col in (0..cols).step_by(ROW_LANES) {
            for i in 0..Partials::<S>::VECTORS {
                let col = col + i * S::LANES;
                if col < cols {
                    let n = S::LANES.min(cols - col);
                    // SAFETY: the caller's.
                    let (target, x) = unsafe { (self.load::<S, UNIT>(s, col, n), x.load::<S, UNIT>(s, col, n, max)) };
                    totals.add(s, i, target);
                    dots.add(s, i, part(s, target, s.sub(x, max)));
                }
            }
        }
        [totals.total(s), dots.total(s)]
    }
}

/// The product of a target and what a logit lacks to the maximum; 0 where the target is, though that be infinite.
#[inline(always)]
pub(super) fn part<S: Simd>(s: S, target: S::F32, below: S::F32) -> S::F32 {
    let zero = s.splat(0.0);
    s.select(s.lt(zero, s.abs(target)), s.mul(target, below), zero)
}
