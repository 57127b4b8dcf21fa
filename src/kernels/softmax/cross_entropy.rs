//! Cross-entropy, with its gradient.

use super::ROW_PIECE;
use super::long::{AHEAD, Row, RowMut, Statistics, lane, statistics};
use super::short::{Columns, Partials, SHORT, load, max, store};
use super::spread::{Spread, SpreadRow, part};
use crate::kernels::tier::Tier;
use crate::kernels::tree::Tree;
use crate::kernels::{Input, Kernel, LOSS_ROWS};
use crate::math::{self, UNSCALE};
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;
use crate::targets::Targets;

/// The sum of the rows' losses T ln(sum) - sum(t (x - max)), and dx = (T softmax(x) - t) * scale.
///
/// A row's targets t, T in all, are (keep p + base) w of the probabilities p and class weights w; or base w, and
/// keep w more at the label. Losses are added over [`LOSS_ROWS`] rows in ascending order, then in a [`Tree`].
pub(crate) struct CrossEntropy<'a> {
    /// Where the logits x stand.
    pub logits: Input<'a>,
    /// Labels are below the number of columns.
    pub targets: Targets<'a>,
    /// One a column; 1 each where there are none.
    pub weights: Option<&'a [f32]>,
    /// The label whose rows are left out.
    pub ignored: Option<usize>,
    pub keep: f32,
    pub base: f32,
    pub scale: f32,
    /// Where each row's loss is written.
    pub losses: Option<&'a mut [f32]>,
    pub dx: Option<MatMut<'a>>,
}

impl Kernel for CrossEntropy<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) -> f32 {
        let x = match (self.logits, &self.dx) {
            (Input::Matrix(x), _) => x,
            // SAFETY: this goes by addresses, and reads what it needs of a row before it writes that.
            (Input::Output, Some(dx)) => unsafe { dx.alias() },
            (Input::Output, None) => return 0.0,
        };
        let spread = self.spread();
        let rows = self.dx.as_ref().map_or(x.rows(), |dx| dx.rows().min(x.rows())).min(self.targets.rows());
        let rows = self.losses.as_ref().map_or(rows, |losses| rows.min(losses.len()));
        let cols = self.dx.as_ref().map_or(x.cols(), |dx| dx.cols().min(x.cols()));
        let cols = spread.map_or(cols, |spread| spread.cols(cols));
        let rows = if cols == 0 { 0 } else { rows };

        let mut batch = Batch { x, spread, of: self };
        const { assert!(T::Row::LANES == LOSS_ROWS) };
        let mut tree = Tree::new(0.0);
        let mut columns = [[tier.vector().splat(0.0); SHORT]; 2];
        let mut wide_columns = [[tier.row().splat(0.0); SHORT]; 2];
        for first in (0..rows).step_by(LOSS_ROWS) {
            let n = LOSS_ROWS.min(rows - first);
            let mut losses = [0.0; LOSS_ROWS];
            // SAFETY: the views have these rows, and so many columns.
            unsafe {
                if cols <= SHORT && n <= T::Vector::LANES {
                    batch.block(tier.vector(), first, [n, cols], &mut columns, &mut losses);
                } else if cols <= SHORT {
                    batch.block(tier.row(), first, [n, cols], &mut wide_columns, &mut losses);
                } else {
                    batch.rows(tier.vector(), first, cols, &mut losses[..n]);
                }
            }
            if let Some(all) = &mut batch.of.losses {
                all[first..first + n].copy_from_slice(&losses[..n]);
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
        self.targets.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (logits, targets) = (self.logits.split_at_row(at), self.targets.split_at_row(at));
        let losses = self.losses.map(|losses| losses.split_at_mut(at.min(losses.len()))).unzip();
        let dx = self.dx.map(|dx| dx.split_at_row(at)).unzip();
        (
            Self { logits: logits.0, targets: targets.0, losses: losses.0, dx: dx.0, ..self },
            Self { logits: logits.1, targets: targets.1, losses: losses.1, dx: dx.1, ..self },
        )
    }
}

impl<'a> CrossEntropy<'a> {
    /// The targets that are spread over the classes, if there are such.
    #[inline(always)]
    fn spread(&self) -> Option<Spread<'a>> {
        let probabilities = match self.targets {
            Targets::Probabilities(t) => Some(t),
            Targets::Labels(_) => None,
        };
        let some = probabilities.is_some() || self.base > 0.0;
        some.then_some(Spread { probabilities, weights: self.weights, keep: self.keep, base: self.base })
    }

    /// Of a row that counts, its label, which is below the number of columns, and what that has for a target beside what
    /// is spread. Rows with probabilities have nothing beside.
    #[inline(always)]
    fn label(&self, row: usize, cols: usize) -> Option<(usize, f32)> {
        let Targets::Labels(labels) = self.targets else { return Some((0, 0.0)) };
        let label = labels.get(row).filter(|label| Some(*label) != self.ignored)?;
        // Callers have checked it; should they not, no memory is touched that is not the row's.
        let label = label.min(cols - 1);
        let weight = self.weights.map_or(1.0, |weights| weights.get(label).copied().unwrap_or(0.0));
        Some((label, self.keep * weight))
    }

    #[inline(always)]
    fn has_labels(&self) -> bool {
        matches!(self.targets, Targets::Labels(_))
    }
}

/// The work, with what it reads.
struct Batch<'a> {
    x: MatRef<'a>,
    spread: Option<Spread<'a>>,
    of: CrossEntropy<'a>,
}

impl Batch<'_> {
    /// Rows from `first` on, one after another.
    ///
    /// # Safety
    /// The views have a row for each loss from `first` on, and so many columns.
    #[inline(always)]
    unsafe fn rows<S: Simd>(&mut self, s: S, first: usize, cols: usize, losses: &mut [f32]) {
        let dx_unit = self.of.dx.as_ref().is_none_or(|dx| dx.col_stride() == 1);
        let targets = self.spread.and_then(|spread| spread.probabilities);
        let unit = self.x.col_stride() == 1 && dx_unit && targets.is_none_or(|t| t.col_stride() == 1);
        for (i, loss) in losses.iter_mut().enumerate() {
            // SAFETY: the caller's.
            *loss = unsafe {
                if unit { self.row::<S, true>(s, first + i, cols) } else { self.row::<S, false>(s, first + i, cols) }
            };
        }
    }

    /// # Safety
    /// The views have this row, of so many columns, which are neighbours if `UNIT`.
    #[inline(always)]
    unsafe fn row<S: Simd, const UNIT: bool>(&mut self, s: S, row: usize, cols: usize) -> f32 {
        let x = Row { p: self.x.as_ptr().wrapping_add(row * self.x.row_stride()), stride: self.x.col_stride() };
        let dx = self
            .of
            .dx
            .as_mut()
            .map(|dx| RowMut { p: dx.as_mut_ptr().wrapping_add(row * dx.row_stride()), stride: dx.col_stride() });
        let spread = self.spread.map(|spread| spread.row(row));
        let (label, has_label, scale) = (self.of.label(row, cols), self.of.has_labels(), self.of.scale);
        // SAFETY: the caller's; the label is one of the columns.
        unsafe {
            let Some((label, share)) = label.filter(|(_, share)| spread.is_some() || *share > 0.0) else {
                return left_out::<S, UNIT>(s, dx, cols);
            };
            // Before the gradient is written: it may be in the place of the logits.
            let of_label = *x.p.wrapping_add(label * x.stride);
            let keep = dx.filter(|_| cols <= ROW_PIECE);
            let Statistics { max, sum, targets, products } = statistics::<S, UNIT>(s, x, spread, cols, keep);
            let total = targets + share;
            if has_label && total <= 0.0 {
                return left_out::<S, UNIT>(s, dx, cols);
            }
            let (below, share) = (s.splat(of_label - max), s.splat(share));
            let gradient = Gradient::new(s, s.splat(sum), s.splat(total), scale);
            if let Some(dx) = dx {
                // Each with what it has known to the compiler.
                match (spread, keep) {
                    (None, Some(e)) => gradient.write::<UNIT>(s, e.read(), None, None, dx, cols),
                    (None, None) => gradient.write::<UNIT>(s, x, Some(max), None, dx, cols),
                    (Some(_), Some(e)) => gradient.write::<UNIT>(s, e.read(), None, spread, dx, cols),
                    (Some(_), None) => gradient.write::<UNIT>(s, x, Some(max), spread, dx, cols),
                }
                if has_label {
                    let target = match spread {
                        Some(spread) => s.add(spread.from(label).load::<S, UNIT>(s, 0, 1), share),
                        None => share,
                    };
                    let of_label = gradient.less(s, math::exp_scaled(s, below), target);
                    *dx.p.wrapping_add(label * dx.stride) = lane(s, of_label);
                }
            }
            let products = s.add(s.splat(products), part(s, share, below));
            let ln = math::ln(s, s.splat(sum * UNSCALE));
            lane(s, s.sub(s.mul(s.splat(total), ln), products))
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
        [columns, targets]: &mut [Columns<S>; 2],
        losses: &mut [f32],
    ) {
        let strides = [self.x.row_stride(), self.x.col_stride()];
        let from = self.x.as_ptr().wrapping_add(first * strides[0]);
        let has_label = self.of.has_labels();
        let mut of_labels = [0.0; LOSS_ROWS];
        let mut shares = [0.0; LOSS_ROWS];
        // Whether a row counts, 1 or 0.
        let mut counts = [0.0; LOSS_ROWS];
        let mut labels = [0; LOSS_ROWS];
        // SAFETY: the caller's; labels are columns, and no vector has more lanes than a group has rows.
        unsafe {
            for row in 0..rows {
                if let Some((label, share)) = self.of.label(first + row, cols) {
                    of_labels[row] = *from.wrapping_add(row * strides[0] + label * strides[1]);
                    (labels[row], shares[row], counts[row]) = (label, share, 1.0);
                }
            }
            load(s, from, strides, size, columns);
            let max = max(s, columns, cols);
            let (zero, share) = (s.splat(0.0), s.load(shares.as_ptr()));
            let below = s.sub(s.load(of_labels.as_ptr()), max);
            let (mut total, mut products) = (share, part(s, share, below));
            if let Some(spread) = self.spread {
                spread.block(s, first, size, targets);
                let (mut totals, mut dots) = (Partials::new(s), Partials::new(s));
                for (col, (&x, &target)) in columns[..cols].iter().zip(&targets[..cols]).enumerate() {
                    totals.add(s, col, target);
                    dots.add(s, col, part(s, target, s.sub(x, max)));
                }
                total = s.add(totals.total(s, cols), total);
                products = s.add(dots.total(s, cols), products);
            }
            let mut sums = Partials::new(s);
            for (col, x) in columns[..cols].iter_mut().enumerate() {
                *x = math::exp_scaled(s, s.sub(*x, max));
                sums.add(s, col, *x);
            }
            let sum = sums.total(s, cols);
            let mut loss = s.sub(s.mul(total, math::ln(s, s.mul(sum, s.splat(UNSCALE)))), products);
            let counting = s.select(s.lt(zero, s.load(counts.as_ptr())), total, zero);
            if has_label {
                loss = s.select(s.lt(zero, counting), loss, zero);
            }
            let mut lanes = [0.0; LOSS_ROWS];
            s.store(lanes.as_mut_ptr(), loss);
            losses[..rows].copy_from_slice(&lanes[..rows]);

            let Some(dx) = &mut self.of.dx else { return };
            let gradient = Gradient::new(s, sum, total, self.of.scale);
            if self.spread.is_some() {
                for (x, target) in columns[..cols].iter_mut().zip(&targets[..cols]) {
                    *x = gradient.less(s, *x, *target);
                }
            } else {
                for x in &mut columns[..cols] {
                    *x = gradient.plain(s, *x);
                }
            }
            if has_label {
                let mut at_label = [0.0; LOSS_ROWS];
                if self.spread.is_some() {
                    let targets: *const f32 = targets.as_ptr().cast();
                    for (row, (lane, label)) in at_label[..rows].iter_mut().zip(&labels).enumerate() {
                        *lane = *targets.add(label * S::LANES + row);
                    }
                }
                let target = s.add(s.load(at_label.as_ptr()), share);
                s.store(lanes.as_mut_ptr(), gradient.less(s, math::exp_scaled(s, below), target));
                let to: *mut f32 = columns.as_mut_ptr().cast();
                for (row, (label, lane)) in labels[..rows].iter().zip(&lanes).enumerate() {
                    *to.add(label * S::LANES + row) = *lane;
                }
                s.store(lanes.as_mut_ptr(), counting);
                if lanes[..rows].iter().any(|total| *total <= 0.0) {
                    for x in &mut columns[..cols] {
                        *x = s.select(s.lt(zero, counting), *x, zero);
                    }
                }
            }
            let to_strides = [dx.row_stride(), dx.col_stride()];
            store(s, dx.as_mut_ptr().wrapping_add(first * to_strides[0]), to_strides, size, columns);
        }
    }
}

/// What makes a gradient of an exponential e and a target t: e / sum * T * scale - t * scale.
#[derive(Clone, Copy)]
struct Gradient<S: Simd> {
    reciprocal: S::F32,
    factor: S::F32,
    minus_scale: S::F32,
}

impl<S: Simd> Gradient<S> {
    #[inline(always)]
    fn new(s: S, sum: S::F32, total: S::F32, scale: f32) -> Self {
        let (reciprocal, factor) = (s.div(s.splat(1.0), sum), s.mul(total, s.splat(scale)));
        Self { reciprocal, factor, minus_scale: s.splat(-scale) }
    }

    /// Where the target is 0.
    #[inline(always)]
    fn plain(self, s: S, e: S::F32) -> S::F32 {
        s.mul(s.mul(e, self.reciprocal), self.factor)
    }

    #[inline(always)]
    fn less(self, s: S, e: S::F32, target: S::F32) -> S::F32 {
        s.fma(s.mul(e, self.reciprocal), self.factor, s.mul(target, self.minus_scale))
    }

    /// The gradient of a row, of which x holds the exponentials, or, where there is a maximum, the logits.
    ///
    /// # Safety
    /// The rows have `cols` elements, which are neighbours if `UNIT`.
    #[inline(always)]
    unsafe fn write<const UNIT: bool>(
        self,
        s: S,
        x: Row,
        max: Option<f32>,
        spread: Option<SpreadRow>,
        dx: RowMut,
        cols: usize,
    ) {
        let whole = cols - cols % S::LANES;
        // SAFETY: the caller's.
        unsafe {
            for col in (0..whole).step_by(S::LANES) {
                s.prefetch(dx.p.wrapping_add(col + AHEAD));
                self.write_vector::<UNIT>(s, x, max, spread, dx, [col, S::LANES]);
            }
            if whole < cols {
                self.write_vector::<UNIT>(s, x, max, spread, dx, [whole, cols - whole]);
            }
        }
    }

    /// # Safety
    /// The rows have elements `col..col + n`, which are neighbours if `UNIT`.
    #[inline(always)]
    unsafe fn write_vector<const UNIT: bool>(
        self,
        s: S,
        x: Row,
        max: Option<f32>,
        spread: Option<SpreadRow>,
        dx: RowMut,
        [col, n]: [usize; 2],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let x = x.load::<S, UNIT>(s, col, n, s.splat(0.0));
            let e = match max {
                Some(max) => math::exp_scaled(s, s.sub(x, s.splat(max))),
                None => x,
            };
            let gradient = match spread {
                Some(spread) => self.less(s, e, spread.load::<S, UNIT>(s, col, n)),
                None => self.plain(s, e),
            };
            dx.store::<S, UNIT>(s, col, n, gradient);
        }
    }
}

/// The loss of a row that is left out; its gradient is 0, too.
///
/// # Safety
/// The row has `cols` elements, which are neighbours if `UNIT`.
#[inline(always)]
unsafe fn left_out<S: Simd, const UNIT: bool>(s: S, dx: Option<RowMut>, cols: usize) -> f32 {
    if let Some(dx) = dx {
        for col in (0..cols).step_by(S::LANES) {
            // SAFETY: the caller's.
            unsafe { dx.store::<S, UNIT>(s, col, S::LANES.min(cols - col), s.splat(0.0)) };
        }
    }
    0.0
}
