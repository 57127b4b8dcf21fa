//! Softmax, log-softmax and cross-entropy.
//!
//! The maximum is subtracted first, so no exponential overflows; a second subtraction takes the
//! logarithm of the sum away, which keeps small results exact (Blanchard, Higham and Higham, "Accurately
//! computing the log-sum-exp and softmax functions", 2021).
//!
//! Exponentials are 2^64 times as large as they are, so that none is subnormal; what is made of them is
//! rounded once. The sum of a row goes through 16 partial results, element j into partial j mod 16, and
//! then a fixed tree. Rows of at most [`SHORT`] elements are worked on many at a time, one in each lane ([`short`]),
//! others one after another ([`long`]); longer ones than [`ROW_PIECE`] in pieces, each with a maximum
//! and a sum of its own, so that memory is read once for both (Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018).
//!
//! A row that holds NaN or +inf, and a row of nothing but -inf, comes out as NaN throughout.

mod cross_entropy;
mod long;
mod short;
mod spread;

pub(crate) use cross_entropy::CrossEntropy;
use long::{Row, RowMut, each_row, statistics};
use short::{Columns, Partials, SHORT, each_block};

use super::RowOp;
use super::elementwise::Elementwise;
use super::tier::Tier;
use crate::math::{self, UNSCALE};
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;

/// Elements of a row whose exponentials are added up below their own maximum, before the sums of such
/// pieces are brought to a common one, in a binary tree: its first part has the largest power of 2
/// pieces that leaves some. Part of the numeric contract. An L1 cache of 32 KiB holds two.
pub const ROW_PIECE: usize = 4096;

/// An operation on rows in both ways. Everything must be `#[inline(always)]`.
trait Softmaxes<const INPUTS: usize>: Copy {
    /// Rows in the lanes: `inputs` are their columns. The result takes the place of the last input.
    fn block<S: Simd>(self, s: S, inputs: &mut [Columns<S>; INPUTS], cols: usize);

    /// One row.
    ///
    /// # Safety
    /// The rows have `cols` elements, which are neighbours if `UNIT`.
    unsafe fn row<S: Simd, const UNIT: bool>(self, s: S, inputs: [Row; INPUTS], y: RowMut, cols: usize);
}

impl<Op: Softmaxes<INPUTS> + Send, const INPUTS: usize> RowOp<INPUTS> for InRows<Op> {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, x: [MatRef<'_>; INPUTS], y: MatMut<'_>) {
        let cols = x.iter().fold(y.cols(), |cols, x| cols.min(x.cols()));
        let rows = x.iter().fold(y.rows(), |rows, x| rows.min(x.rows()));
        if rows == 0 || cols == 0 {
            return;
        }
        // SAFETY: so many rows and columns are within all views.
        unsafe {
            if cols <= SHORT && rows <= T::Vector::LANES {
                each_block(tier.vector(), self.0, x, y, [rows, cols]);
            } else if cols <= SHORT {
                // Vectors of double width: while one half waits for a sum, the other has work.
                each_block(tier.row(), self.0, x, y, [rows, cols]);
            } else {
                each_row(tier.vector(), self.0, x, y, [rows, cols]);
            }
        }
    }
}

/// An operation of this module as a kernel.
#[derive(Clone, Copy)]
pub(crate) struct InRows<Op>(pub Op);

/// y = exp(x - max) / sum(exp(x - max)), the division as a product with the reciprocal.
#[derive(Clone, Copy)]
pub(crate) struct Softmax;

impl Softmaxes<1> for Softmax {
    #[inline(always)]
    fn block<S: Simd>(self, s: S, [x]: &mut [Columns<S>; 1], cols: usize) {
        let max = short::max(s, x, cols);
        let mut sums = Partials::new(s);
        for (col, x) in x[..cols].iter_mut().enumerate() {
            *x = math::exp_scaled(s, s.sub(*x, max));
            sums.add(s, col, *x);
        }
        let scale = s.div(s.splat(1.0), sums.total(s, cols));
        for x in &mut x[..cols] {
            *x = s.mul(*x, scale);
        }
    }

    #[inline(always)]
    unsafe fn row<S: Simd, const UNIT: bool>(self, s: S, [x]: [Row; 1], y: RowMut, cols: usize) {
        // SAFETY: the caller's.
        unsafe {
            let keep = (cols <= ROW_PIECE).then_some(y);
            let of_row = statistics::<S, UNIT>(s, x, None, cols, keep);
            let scale = 1.0 / of_row.sum;
            match keep {
                Some(e) => long::map::<S, UNIT, 1>(s, Scaled(scale), [e.read()], y, cols),
                None => long::map::<S, UNIT, 1>(s, ScaledExp { max: of_row.max, scale }, [x], y, cols),
            }
        }
    }
}

/// e * scale.
#[derive(Clone, Copy)]
struct Scaled(f32);

impl Elementwise<1> for Scaled {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [e]: [S::F32; 1]) -> S::F32 {
        s.mul(e, s.splat(self.0))
    }
}

/// exp(x - max) * scale.
#[derive(Clone, Copy)]
struct ScaledExp {
    max: f32,
    scale: f32,
}

impl Elementwise<1> for ScaledExp {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [x]: [S::F32; 1]) -> S::F32 {
        s.mul(math::exp_scaled(s, s.sub(x, s.splat(self.max))), s.splat(self.scale))
    }
}

/// dx = y * (dy - sum(y * dy)); the inputs are y, dy.
#[derive(Clone, Copy)]
pub(crate) struct SoftmaxBackward;

impl Softmaxes<2> for SoftmaxBackward {
    #[inline(always)]
    fn block<S: Simd>(self, s: S, [y, dy]: &mut [Columns<S>; 2], cols: usize) {
        let mut sums = Partials::new(s);
        for (col, (y, dy)) in y[..cols].iter().zip(&dy[..cols]).enumerate() {
            sums.add(s, col, s.mul(*y, *dy));
        }
        let sum = sums.total(s, cols);
        for (y, dy) in y[..cols].iter().zip(&mut dy[..cols]) {
            *dy = s.mul(*y, s.sub(*dy, sum));
        }
    }

    #[inline(always)]
    unsafe fn row<S: Simd, const UNIT: bool>(self, s: S, inputs: [Row; 2], dx: RowMut, cols: usize) {
        // SAFETY: the caller's.
        unsafe {
            let sum = long::sum::<S, UNIT, 2>(s, Product, inputs, cols);
            long::map::<S, UNIT, 2>(s, Centred { sum }, inputs, dx, cols);
        }
    }
}

/// y * dy.
#[derive(Clone, Copy)]
struct Product;

impl Elementwise<2> for Product {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [y, dy]: [S::F32; 2]) -> S::F32 {
        s.mul(y, dy)
    }
}

/// y * (dy - sum).
#[derive(Clone, Copy)]
struct Centred {
    sum: f32,
}

impl Elementwise<2> for Centred {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [y, dy]: [S::F32; 2]) -> S::F32 {
        s.mul(y, s.sub(dy, s.splat(self.sum)))
    }
}

/// y = (x - max) - ln(sum(exp(x - max))).
#[derive(Clone, Copy)]
pub(crate) struct LogSoftmax;

impl Softmaxes<1> for LogSoftmax {
    #[inline(always)]
    fn block<S: Simd>(self, s: S, [x]: &mut [Columns<S>; 1], cols: usize) {
        let max = short::max(s, x, cols);
        let mut sums = Partials::new(s);
        for (col, x) in x[..cols].iter_mut().enumerate() {
            *x = s.sub(*x, max);
            sums.add(s, col, math::exp_scaled(s, *x));
        }
        let ln = math::ln(s, s.mul(sums.total(s, cols), s.splat(UNSCALE)));
        for x in &mut x[..cols] {
            *x = s.sub(*x, ln);
        }
    }

    #[inline(always)]
    unsafe fn row<S: Simd, const UNIT: bool>(self, s: S, [x]: [Row; 1], y: RowMut, cols: usize) {
        // SAFETY: the caller's.
        unsafe {
            let of_row = statistics::<S, UNIT>(s, x, None, cols, None);
            let ln = long::ln(s, of_row.sum * UNSCALE);
            long::map::<S, UNIT, 1>(s, Normalized { max: of_row.max, ln }, [x], y, cols);
        }
    }
}

/// (x - max) - ln.
#[derive(Clone, Copy)]
struct Normalized {
    max: f32,
    ln: f32,
}

impl Elementwise<1> for Normalized {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [x]: [S::F32; 1]) -> S::F32 {
        s.sub(s.sub(x, s.splat(self.max)), s.splat(self.ln))
    }
}

/// dx = dy - exp(y) * sum(dy); the inputs are y, dy.
#[derive(Clone, Copy)]
pub(crate) struct LogSoftmaxBackward;

impl Softmaxes<2> for LogSoftmaxBackward {
    #[inline(always)]
    fn block<S: Simd>(self, s: S, [y, dy]: &mut [Columns<S>; 2], cols: usize) {
        let mut sums = Partials::new(s);
        for (col, dy) in dy[..cols].iter().enumerate() {
            sums.add(s, col, *dy);
        }
        let minus_sum = s.sub(s.splat(-0.0), sums.total(s, cols));
        for (y, dy) in y[..cols].iter().zip(&mut dy[..cols]) {
            *dy = s.fma(math::exp(s, *y), minus_sum, *dy);
        }
    }

    #[inline(always)]
    unsafe fn row<S: Simd, const UNIT: bool>(self, s: S, [y, dy]: [Row; 2], dx: RowMut, cols: usize) {
        // SAFETY: the caller's.
        unsafe {
            let minus_sum = -long::sum::<S, UNIT, 1>(s, Itself, [dy], cols);
            long::map::<S, UNIT, 2>(s, LessExp { minus_sum }, [y, dy], dx, cols);
        }
    }
}

/// dy.
#[derive(Clone, Copy)]
struct Itself;

impl Elementwise<1> for Itself {
    #[inline(always)]
    fn vector<S: Simd>(self, _: S, [dy]: [S::F32; 1]) -> S::F32 {
        dy
    }
}

/// dy - exp(y) * sum.
#[derive(Clone, Copy)]
struct LessExp {
    minus_sum: f32,
}

impl Elementwise<2> for LessExp {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [y, dy]: [S::F32; 2]) -> S::F32 {
        s.fma(math::exp(s, y), s.splat(self.minus_sum), dy)
    }
}
