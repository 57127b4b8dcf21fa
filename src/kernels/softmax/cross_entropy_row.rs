//! Cross-entropy of long rows, one row at a time.
//!
//! ```text
//! read the label's logit, which the gradient may overwrite
//! for each piece: max; soft targets' sums; sum of exp(x - max), saved in dx if the row has one piece
//! combine the pieces; loss from the sums
//! dx: from the saved exponentials, or from new ones, block by block; then at the label
//! ```

use super::row_at_a_time::{ShiftedSum, max_of_row};
use super::row_loss::{LogitGradient, LossBatch, RowSums};
use super::row_ptr::{RowPtr, first_lane};
use super::row_reduction::Softmax;
use super::row_targets::RowLabels;
use super::soft_targets::{SoftSums, SoftTargetsRow, target_product};
use super::terms::ReductionRow;
use crate::contract::ROW_PIECE;
use crate::kernels::pairwise_sum::{Combine, PairwiseSum};
use crate::simd::Simd;
use crate::tuning::rows::{EXP_BLOCK, WRITE_PREFETCH};

/// A row's label and the label's share.
#[derive(Clone, Copy)]
struct Label {
    class: usize,
    share: f32,
}

/// Computes the losses of rows from `first` on, at most [`MAX_ROWS`](super::row_per_lane::MAX_ROWS), and
/// writes dx.
///
/// # Safety
/// The views of `batch` have a row of `cols >= 1` columns for each loss, from `first` on.
#[inline(always)]
pub(super) unsafe fn losses<S: Simd>(s: S, batch: &LossBatch<'_>, first: usize, losses: &mut [f32]) {
    let unit = batch.x.col_stride == 1
        && batch.dx.is_none_or(|dx| dx.col_stride == 1)
        && batch.soft.is_none_or(|soft| soft.is_unit());
    let RowLabels { labels, shares, counts } = batch.targets.labels(first, losses.len(), batch.cols);
    for (i, loss) in losses.iter_mut().enumerate() {
        let label = (counts.0[i] > 0.0).then_some(Label { class: labels[i], share: shares.0[i] });
        // SAFETY: the views have this row, with contiguous elements if `unit`, and labels are clamped to
        // columns.
        *loss = unsafe {
            if unit {
                row_loss::<S, true>(s, batch, first + i, label)
            } else {
                row_loss::<S, false>(s, batch, first + i, label)
            }
        };
    }
}

/// The loss of a row, whose label is `None` if it is ignored.
///
/// # Safety
/// The views have this row of `cols` elements, contiguous if `UNIT`; the label is one of them.
#[inline(always)]
unsafe fn row_loss<S: Simd, const UNIT: bool>(s: S, batch: &LossBatch<'_>, row: usize, label: Option<Label>) -> f32 {
    let cols = batch.cols;
    let x = RowPtr::<UNIT>::new(batch.x, row);
    let dx = batch.dx.map(|dx| RowPtr::<UNIT>::new(dx, row));
    let soft = batch.soft.map(|soft| soft.row::<UNIT>(row));
    // SAFETY: all rows have `cols` elements, of which the label is one.
    unsafe {
        // Without soft targets, a share of 0 leaves nothing to sum.
        let Some(label) = label.filter(|label| soft.is_some() || label.share > 0.0) else {
            return leave_out(s, dx, cols);
        };
        let label_logit = *x.at(label.class);
        let save = dx.filter(|_| cols <= ROW_PIECE);
        let sums = sum_row(s, x, soft, cols, save);
        let ShiftedSum { shift: max, sum } = sums.exponentials;
        let sums = RowSums {
            exponentials: s.splat(sum),
            soft_total: s.splat(sums.soft.total),
            soft_dot: s.splat(sums.soft.dot),
            label_below_max: s.splat(label_logit - max),
            share: s.splat(label.share),
        };
        let has_labels = batch.targets.has_labels();
        if has_labels && first_lane(s, sums.total(s)) <= 0.0 {
            return leave_out(s, dx, cols);
        }
        if let Some(dx) = dx {
            let gradient = sums.gradient(s, batch.scale);
            if save.is_some() {
                write_gradient(s, gradient, soft, dx, cols);
            } else {
                for col in (0..cols).step_by(EXP_BLOCK) {
                    let (soft, dx) = (soft.map(|soft| soft.from(col)), dx.from(col));
                    let block = ReductionRow { s, op: Softmax, inputs: [x], cols }.part(col, EXP_BLOCK);
                    block.sum_terms(max, Some(dx));
                    write_gradient(s, gradient, soft, dx, block.cols);
                }
            }
            if has_labels {
                let soft_target = match soft {
                    Some(soft) => soft.from(label.class).load(s, 0, 1),
                    None => s.splat(0.0),
                };
                *dx.at(label.class) = first_lane(s, sums.label_gradient(s, gradient, soft_target));
            }
        }
        first_lane(s, sums.loss(s))
    }
}

/// The sums of a row, or of a part of it.
#[derive(Clone, Copy)]
struct LossSums {
    exponentials: ShiftedSum,
    soft: SoftSums,
}

impl LossSums {
    /// The dot product of the soft targets with x - `max`, for another maximum.
    #[inline(always)]
    fn dot_below<S: Simd>(self, s: S, max: f32) -> f32 {
        let (total, shift) = (s.splat(self.soft.total), s.splat(self.exponentials.shift - max));
        self.soft.dot + first_lane(s, target_product(s, total, shift))
    }
}

impl Combine for LossSums {
    const IDENTITY: Self = Self { exponentials: ShiftedSum::IDENTITY, soft: SoftSums { total: 0.0, dot: 0.0 } };

    #[inline(always)]
    fn combine<S: Simd>(s: S, left: Self, right: Self) -> Self {
        let exponentials = ShiftedSum::combine(s, left.exponentials, right.exponentials);
        let max = exponentials.shift;
        let soft = SoftSums {
            total: left.soft.total + right.soft.total,
            dot: left.dot_below(s, max) + right.dot_below(s, max),
        };
        Self { exponentials, soft }
    }
}

/// Sums a row piece by piece, the pieces pairwise; saves the exponentials if the row has one piece.
///
/// # Safety
/// All rows have `cols` elements; `save` may be x, and is `None` if there are more pieces than one.
#[inline(always)]
unsafe fn sum_row<S: Simd, const UNIT: bool>(
    s: S,
    x: RowPtr<UNIT>,
    soft: Option<SoftTargetsRow<UNIT>>,
    cols: usize,
    save: Option<RowPtr<UNIT>>,
) -> LossSums {
    // SAFETY: each piece ends at or before `cols`.
    unsafe {
        if cols <= ROW_PIECE {
            return sum_piece(s, x, soft, cols, save);
        }
        let mut sums = PairwiseSum::new();
        for col in (0..cols).step_by(ROW_PIECE) {
            let soft = soft.map(|soft| soft.from(col));
            sums.push(s, sum_piece(s, x.from(col), soft, ROW_PIECE.min(cols - col), None));
        }
        sums.total(s)
    }
}

/// # Safety
/// All rows have `cols` elements; `save` may be x.
#[inline(always)]
unsafe fn sum_piece<S: Simd, const UNIT: bool>(
    s: S,
    x: RowPtr<UNIT>,
    soft: Option<SoftTargetsRow<UNIT>>,
    cols: usize,
    save: Option<RowPtr<UNIT>>,
) -> LossSums {
    // SAFETY: all rows have `cols` elements.
    unsafe {
        let max = max_of_row(s, x, cols);
        // Before the exponentials overwrite x.
        let soft = match soft {
            Some(soft) => soft.sums(s, x, cols, max),
            None => SoftSums { total: 0.0, dot: 0.0 },
        };
        let sum = ReductionRow { s, op: Softmax, inputs: [x], cols }.sum_terms(max, save);
        LossSums { exponentials: ShiftedSum { shift: max, sum }, soft }
    }
}

/// Turns the exponentials in dx into gradients.
///
/// # Safety
/// dx, and the soft targets, have `cols` elements.
#[inline(always)]
unsafe fn write_gradient<S: Simd, const UNIT: bool>(
    s: S,
    gradient: LogitGradient<S>,
    soft: Option<SoftTargetsRow<UNIT>>,
    dx: RowPtr<UNIT>,
    cols: usize,
) {
    // SAFETY: both rows have `cols` elements.
    unsafe {
        // A constant spares the loop the question whether there are soft targets, which costs 5 %.
        match soft {
            Some(soft) => write_gradient_vectors(s, gradient, Some(soft), dx, cols),
            None => write_gradient_vectors(s, gradient, None, dx, cols),
        }
    }
}

/// # Safety
/// As for [`write_gradient`].
#[inline(always)]
unsafe fn write_gradient_vectors<S: Simd, const UNIT: bool>(
    s: S,
    gradient: LogitGradient<S>,
    soft: Option<SoftTargetsRow<UNIT>>,
    dx: RowPtr<UNIT>,
    cols: usize,
) {
    let whole = cols - cols % S::LANES;
    // SAFETY: vectors end at or before `cols`.
    unsafe {
        for col in (0..whole).step_by(S::LANES) {
            s.prefetch(dx.at(0).wrapping_add(col + WRITE_PREFETCH));
            write_gradient_vector(s, gradient, soft, dx, col, S::LANES);
        }
        if whole < cols {
            write_gradient_vector(s, gradient, soft, dx, whole, cols - whole);
        }
    }
}

/// # Safety
/// dx, and the soft targets, have elements `col..col + n`, and `n <= LANES`.
#[inline(always)]
unsafe fn write_gradient_vector<S: Simd, const UNIT: bool>(
    s: S,
    gradient: LogitGradient<S>,
    soft: Option<SoftTargetsRow<UNIT>>,
    dx: RowPtr<UNIT>,
    col: usize,
    n: usize,
) {
    // SAFETY: the rows have these elements.
    unsafe {
        let e = dx.load(s, col, n, s.splat(0.0));
        let gradient = match soft {
            Some(soft) => gradient.of_target(s, e, soft.load(s, col, n)),
            None => gradient.of_zero_target(s, e),
        };
        dx.store(s, col, n, gradient);
    }
}

/// Sets the gradient of a row that is left out to 0; so is its loss.
///
/// # Safety
/// The row has `cols` elements.
#[inline(always)]
unsafe fn leave_out<S: Simd, const UNIT: bool>(s: S, dx: Option<RowPtr<UNIT>>, cols: usize) -> f32 {
    if let Some(dx) = dx {
        for col in (0..cols).step_by(S::LANES) {
            // SAFETY: the vector ends at or before `cols`.
            unsafe { dx.store(s, col, S::LANES.min(cols - col), s.splat(0.0)) };
        }
    }
    0.0
}
