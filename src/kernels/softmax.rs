//! Softmax, log-softmax and cross-entropy, one row after another.
//!
//! Every reduction of a row goes through 16 partial results, element j into partial j mod 16,
//! and then a fixed tree. The maximum is subtracted first, so no exponential overflows; a second
//! subtraction takes the logarithm of the sum away, which keeps small results exact (Blanchard,
//! Higham and Higham, "Accurately computing the log-sum-exp and softmax functions", 2021).
//!
//! A row that holds NaN or +inf, and a row of nothing but -inf, comes out as NaN throughout.

use super::tier::Tier;
use super::{Kernel, RowOp, load_row, store_row};
use crate::labels::Labels;
use crate::math;
use crate::matrix::{MatMut, MatRef};
use crate::simd::{ROW_LANES, Simd};

/// The elements of a row that are one vector: its first index and its length.
#[inline(always)]
fn vectors(cols: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..cols).step_by(ROW_LANES).map(move |col| (col, ROW_LANES.min(cols - col)))
}

/// A row to read: address and stride.
#[derive(Clone, Copy)]
struct Row {
    p: *const f32,
    stride: usize,
}

/// A row to write: address and stride.
#[derive(Clone, Copy)]
struct RowMut {
    p: *mut f32,
    stride: usize,
}

impl Row {
    /// # Safety
    /// The row has elements `col..col + n`.
    #[inline(always)]
    unsafe fn load<S: Simd>(self, s: S, (col, n): (usize, usize), rest: S::F32) -> S::F32 {
        // SAFETY: the caller's.
        unsafe { load_row(s, self.p.add(col * self.stride), self.stride, n, rest) }
    }
}

impl RowMut {
    /// # Safety
    /// The row has elements `col..col + n`.
    #[inline(always)]
    unsafe fn store<S: Simd>(self, s: S, (col, n): (usize, usize), v: S::F32) {
        // SAFETY: the caller's.
        unsafe { store_row(s, self.p.add(col * self.stride), self.stride, n, v) }
    }

    #[inline(always)]
    fn read(self) -> Row {
        Row { p: self.p, stride: self.stride }
    }
}

/// Each row of y with its number and the same row of the inputs, and the number of columns. No
/// rows where there are no columns.
#[inline(always)]
fn rows<const INPUTS: usize>(
    x: [MatRef<'_>; INPUTS],
    y: &mut MatMut<'_>,
) -> (impl Iterator<Item = (usize, [Row; INPUTS], RowMut)>, usize) {
    let cols = x.iter().fold(y.cols(), |cols, x| cols.min(x.cols()));
    let rows = x.iter().fold(y.rows(), |rows, x| rows.min(x.rows()));
    let rows = if cols == 0 { 0 } else { rows };
    let (p, row_stride, stride) = (y.as_mut_ptr(), y.row_stride(), y.col_stride());
    let each = move |row| {
        let inputs = x.map(|x| Row { p: x.as_ptr().wrapping_add(row * x.row_stride()), stride: x.col_stride() });
        (row, inputs, RowMut { p: p.wrapping_add(row * row_stride), stride })
    };
    ((0..rows).map(each), cols)
}

/// The row's maximum, NaNs left out, and the sum of e = exp(x - max); writes e where `keep` is a row.
///
/// # Safety
/// The rows have `cols` elements.
#[inline(always)]
unsafe fn max_and_sum<S: Simd>(s: S, x: Row, cols: usize, keep: Option<RowMut>) -> (f32, f32) {
    const { assert!(S::LANES == ROW_LANES) };
    let lowest = s.splat(f32::NEG_INFINITY);
    // SAFETY: the caller's.
    unsafe {
        let mut max = lowest;
        for at in vectors(cols) {
            max = s.max(x.load(s, at, lowest), max);
        }
        let max = s.reduce_max(max);
        let (maxes, mut sum) = (s.splat(max), s.splat(0.0));
        for at in vectors(cols) {
            // exp(-inf) is the 0 that lanes past the end must add.
            let e = math::exp(s, s.sub(x.load(s, at, lowest), maxes));
            sum = s.add(sum, e);
            if let Some(keep) = keep {
                keep.store(s, at, e);
            }
        }
        (max, s.reduce_add(sum))
    }
}

/// y = exp(x - max) / sum(exp(x - max)), the division as a product with the reciprocal.
#[derive(Clone, Copy)]
pub(crate) struct Softmax;

impl RowOp<1> for Softmax {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, x: [MatRef<'_>; 1], mut y: MatMut<'_>) {
        let s = tier.row();
        let (rows, cols) = rows(x, &mut y);
        for (_, [x], y) in rows {
            // SAFETY: `rows` gives rows of `cols` elements.
            unsafe {
                let (_, sum) = max_and_sum(s, x, cols, Some(y));
                let scale = s.splat(1.0 / sum);
                for at in vectors(cols) {
                    y.store(s, at, s.mul(y.read().load(s, at, scale), scale));
                }
            }
        }
    }
}

/// dx = y * (dy - sum(y * dy)); the inputs are y, dy.
#[derive(Clone, Copy)]
pub(crate) struct SoftmaxBackward;

impl RowOp<2> for SoftmaxBackward {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, y_dy: [MatRef<'_>; 2], mut dx: MatMut<'_>) {
        let s = tier.row();
        let zero = s.splat(0.0);
        let (rows, cols) = rows(y_dy, &mut dx);
        for (_, [y, dy], dx) in rows {
            // SAFETY: `rows` gives rows of `cols` elements.
            unsafe {
                let mut sum = zero;
                for at in vectors(cols) {
                    sum = s.add(sum, s.mul(y.load(s, at, zero), dy.load(s, at, zero)));
                }
                let sum = s.splat(s.reduce_add(sum));
                for at in vectors(cols) {
                    dx.store(s, at, s.mul(y.load(s, at, zero), s.sub(dy.load(s, at, zero), sum)));
                }
            }
        }
    }
}

/// y = (x - max) - ln(sum(exp(x - max))).
#[derive(Clone, Copy)]
pub(crate) struct LogSoftmax;

impl RowOp<1> for LogSoftmax {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, x: [MatRef<'_>; 1], mut y: MatMut<'_>) {
        let s = tier.row();
        let (rows, cols) = rows(x, &mut y);
        for (_, [x], y) in rows {
            // SAFETY: `rows` gives rows of `cols` elements.
            unsafe {
                let (max, sum) = max_and_sum(s, x, cols, None);
                let (max, ln) = (s.splat(max), math::ln(s, s.splat(sum)));
                for at in vectors(cols) {
                    y.store(s, at, s.sub(s.sub(x.load(s, at, max), max), ln));
                }
            }
        }
    }
}

/// dx = dy - exp(y) * sum(dy); the inputs are y, dy.
#[derive(Clone, Copy)]
pub(crate) struct LogSoftmaxBackward;

impl RowOp<2> for LogSoftmaxBackward {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, y_dy: [MatRef<'_>; 2], mut dx: MatMut<'_>) {
        let s = tier.row();
        let zero = s.splat(0.0);
        let (rows, cols) = rows(y_dy, &mut dx);
        for (_, [y, dy], dx) in rows {
            // SAFETY: `rows` gives rows of `cols` elements.
            unsafe {
                let mut sum = zero;
                for at in vectors(cols) {
                    sum = s.add(sum, dy.load(s, at, zero));
                }
                let minus_sum = s.splat(-s.reduce_add(sum));
                for at in vectors(cols) {
                    let p = math::exp(s, y.load(s, at, zero));
                    dx.store(s, at, s.fma(p, minus_sum, dy.load(s, at, zero)));
                }
            }
        }
    }
}

/// The sum of the rows' losses ln(sum) - (x[label] - max), taken in ascending order, and
/// dx = (softmax(x) - one_hot(label)) * scale.
pub(crate) struct CrossEntropy<'a> {
    pub x: MatRef<'a>,
    /// One a row, each below the number of columns.
    pub labels: Labels<'a>,
    pub scale: f32,
    pub dx: MatMut<'a>,
}

impl Kernel for CrossEntropy<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<T: Tier>(mut self, tier: T) -> f32 {
        let (s, scale, mut loss) = (tier.row(), self.scale, 0.0);
        let (rows, cols) = rows([self.x], &mut self.dx);
        for (row, [x], dx) in rows {
            // SAFETY: `rows` gives rows of `cols` elements; a label at or past that is passed over.
            unsafe {
                let (max, sum) = max_and_sum(s, x, cols, Some(dx));
                let reciprocal = 1.0 / sum;
                let label = self.labels.get(row).filter(|&label| label < cols);
                let hit = label.map(|label| (label, *dx.p.add(label * dx.stride) * reciprocal));
                let (reciprocal, scales) = (s.splat(reciprocal), s.splat(scale));
                for at in vectors(cols) {
                    let p = s.mul(dx.read().load(s, at, scales), reciprocal);
                    dx.store(s, at, s.mul(p, scales));
                }
                if let Some((label, p)) = hit {
                    *dx.p.add(label * dx.stride) = (p - 1.0) * scale;
                    let mut ln = [0.0; ROW_LANES];
                    s.store(ln.as_mut_ptr(), math::ln(s, s.splat(sum)));
                    loss += ln[0] - (*x.p.add(label * x.stride) - max);
                }
            }
        }
        loss
    }

    fn len(&self) -> usize {
        self.dx.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (x, labels, dx) = (self.x.split_at_row(at), self.labels.split_at(at), self.dx.split_at_row(at));
        (Self { x: x.0, labels: labels.0, dx: dx.0, ..self }, Self { x: x.1, labels: labels.1, dx: dx.1, ..self })
    }
}
