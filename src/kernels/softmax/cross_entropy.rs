//! Cross-entropy, with its gradient.

use super::ROW_PIECE;
use super::long::{Row, RowMut, Statistics, exp_scaled, ln, map, statistics};
use super::short::{Columns, Partials, SHORT, load, max, store};
use crate::kernels::elementwise::Elementwise;
use crate::kernels::tier::Tier;
use crate::kernels::tree::Tree;
use crate::kernels::{Kernel, LOSS_ROWS};
use crate::labels::Labels;
use crate::math::{self, UNSCALE};
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;

/// The sum of the rows' losses ln(sum) - (x[label] - max), and dx = (softmax(x) - one_hot(label)) * scale.
/// Losses are added over [`LOSS_ROWS`] rows in ascending order, then in a [`Tree`].
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
        let cols = self.x.cols().min(self.dx.cols());
        let rows = self.x.rows().min(self.dx.rows()).min(self.labels.len());
        let rows = if cols == 0 { 0 } else { rows };
        const { assert!(T::Row::LANES == LOSS_ROWS) };
        let mut tree = Tree::new(0.0);
        let mut columns = [tier.vector().splat(0.0); SHORT];
        let mut wide_columns = [tier.row().splat(0.0); SHORT];
        for first in (0..rows).step_by(LOSS_ROWS) {
            let n = LOSS_ROWS.min(rows - first);
            let mut losses = [0.0; LOSS_ROWS];
            // SAFETY: the views have these rows, and so many columns.
            unsafe {
                if cols <= SHORT && n <= T::Vector::LANES {
                    self.block(tier.vector(), first, [n, cols], &mut columns, &mut losses);
                } else if cols <= SHORT {
                    self.block(tier.row(), first, [n, cols], &mut wide_columns, &mut losses);
                } else {
                    let unit = self.x.col_stride() == 1 && self.dx.col_stride() == 1;
                    for (i, loss) in losses[..n].iter_mut().enumerate() {
                        *loss = if unit {
                            self.row::<T::Vector, true>(tier.vector(), first + i, cols)
                        } else {
                            self.row::<T::Vector, false>(tier.vector(), first + i, cols)
                        };
                    }
                }
            }
            let mut loss = losses[0];
            for next in &losses[1..n] {
                loss += next;
            }
            tree.push(tier.vector(), loss);
        }
        tree.total(tier.vector(), 0.0)
    }

    fn len(&self) -> usize {
        self.dx.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (x, labels, dx) = (self.x.split_at_row(at), self.labels.split_at(at), self.dx.split_at_row(at));
        (Self { x: x.0, labels: labels.0, dx: dx.0, ..self }, Self { x: x.1, labels: labels.1, dx: dx.1, ..self })
    }
}

impl CrossEntropy<'_> {
    /// A row's label, which is below the number of columns.
    #[inline(always)]
    fn label(&self, row: usize, cols: usize) -> usize {
        // Callers have checked it; should they not, no memory is touched that is not the row's.
        self.labels.get(row).map_or(0, |label| label.min(cols - 1))
    }

    /// # Safety
    /// The views have this row, of so many columns.
    #[inline(always)]
    unsafe fn row<S: Simd, const UNIT: bool>(&mut self, s: S, row: usize, cols: usize) -> f32 {
        let label = self.label(row, cols);
        let p = self.x.as_ptr().wrapping_add(row * self.x.row_stride());
        let x = Row { p, stride: self.x.col_stride() };
        let p = self.dx.as_mut_ptr().wrapping_add(row * self.dx.row_stride());
        let dx = RowMut { p, stride: self.dx.col_stride() };
        // SAFETY: the caller's; the label is one of the columns.
        unsafe {
            // Before the gradient is written: it may be in the place of the logits.
            let of_label = *x.p.wrapping_add(label * x.stride);
            let keep = (cols <= ROW_PIECE).then_some(dx);
            let Statistics { max, sum } = statistics::<S, UNIT>(s, x, cols, keep);
            let (reciprocal, scale) = (1.0 / sum, self.scale);
            match keep {
                Some(e) => map::<S, UNIT, 1>(s, Gradient { reciprocal, scale }, [e.read()], dx, cols),
                None => map::<S, UNIT, 1>(s, GradientAnew { max, reciprocal, scale }, [x], dx, cols),
            }
            let below = of_label - max;
            *dx.p.wrapping_add(label * dx.stride) = (exp_scaled(s, below) * reciprocal - 1.0) * scale;
            ln(s, sum * UNSCALE) - below
        }
    }

    /// Rows from `first` on in the lanes.
    ///
    /// # Safety
    /// The views have so many rows from `first` on, at most `LANES`, and so many columns, at most [`SHORT`].
    #[inline(always)]
    unsafe fn block<S: Simd>(
        &mut self,
        s: S,
        first: usize,
        size @ [rows, cols]: [usize; 2],
        x: &mut Columns<S>,
        losses: &mut [f32],
    ) {
        let (from, strides) = (self.x.as_ptr(), [self.x.row_stride(), self.x.col_stride()]);
        let (to, to_strides) = (self.dx.as_mut_ptr(), [self.dx.row_stride(), self.dx.col_stride()]);
        let from = from.wrapping_add(first * strides[0]);
        let mut lanes = [0.0; LOSS_ROWS];
        let mut labels = [0; LOSS_ROWS];
        // SAFETY: the caller's; labels are columns, and no vector has more lanes than a group has rows.
        unsafe {
            for (row, (lane, place)) in lanes[..rows].iter_mut().zip(&mut labels).enumerate() {
                *place = self.label(first + row, cols);
                *lane = *from.wrapping_add(row * strides[0] + *place * strides[1]);
            }
            load(s, from, strides, size, x);
            let max = max(s, x, cols);
            let mut sums = Partials::new(s);
            for (col, x) in x[..cols].iter_mut().enumerate() {
                *x = math::exp_scaled(s, s.sub(*x, max));
                sums.add(s, col, *x);
            }
            let sum = sums.total(s, cols);
            let (one, scale) = (s.splat(1.0), s.splat(self.scale));
            let reciprocal = s.div(one, sum);
            for x in &mut x[..cols] {
                *x = s.mul(s.mul(*x, reciprocal), scale);
            }

            let below = s.sub(s.load(lanes.as_ptr()), max);
            let p = s.mul(math::exp_scaled(s, below), reciprocal);
            s.store(lanes.as_mut_ptr(), s.mul(s.sub(p, one), scale));
            let columns: *mut f32 = x.as_mut_ptr().cast();
            for (row, (label, lane)) in labels[..rows].iter().zip(&lanes).enumerate() {
                *columns.add(label * S::LANES + row) = *lane;
            }
            s.store(lanes.as_mut_ptr(), s.sub(math::ln(s, s.mul(sum, s.splat(UNSCALE))), below));
            losses[..rows].copy_from_slice(&lanes[..rows]);
            store(s, to.wrapping_add(first * to_strides[0]), to_strides, size, x);
        }
    }
}

/// e / sum * scale.
#[derive(Clone, Copy)]
struct Gradient {
    reciprocal: f32,
    scale: f32,
}

impl Elementwise<1> for Gradient {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [e]: [S::F32; 1]) -> S::F32 {
        s.mul(s.mul(e, s.splat(self.reciprocal)), s.splat(self.scale))
    }
}

/// The same with the exponential of x - max.
#[derive(Clone, Copy)]
struct GradientAnew {
    max: f32,
    reciprocal: f32,
    scale: f32,
}

impl Elementwise<1> for GradientAnew {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [x]: [S::F32; 1]) -> S::F32 {
        let e = math::exp_scaled(s, s.sub(x, s.splat(self.max)));
        s.mul(s.mul(e, s.splat(self.reciprocal)), s.splat(self.scale))
    }
}
