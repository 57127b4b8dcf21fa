//! Cross-entropy of short rows, one row per lane.
//!
//! ```text
//! for each block of up to 64 rows, each step for all vectors of rows before the next:
//!     load the columns; max
//!     soft targets and their sums
//!     exponentials
//!     sum of exponentials
//!     loss and gradient factors, 16 rows at a time
//!     dx from the exponentials; then at each row's label; 0 in rows that are left out
//! ```

use super::row_loss::{LogitGradient, LossBatch, RowSums};
use super::row_per_lane::{
    ColumnBuffer, MAX_ROWS, PerRow, load_columns, max_of_columns, store_columns, sum_of_columns,
};
use super::row_reduction::Softmax;
use super::row_targets::RowLabels;
use super::soft_targets::target_product;
use super::terms::terms_of_columns;
use crate::contract::ROW_LANES;
use crate::matrix::Size;
use crate::simd::Simd;
use crate::simd::tier::Tier;

/// The columns of a block of rows.
pub(super) struct LossBuffers<S: Simd> {
    logits: ColumnBuffer<S>,
    exponentials: ColumnBuffer<S>,
    soft_targets: ColumnBuffer<S>,
    /// Soft target * (x - max), of one vector of rows.
    products: ColumnBuffer<S>,
}

impl<S: Simd> LossBuffers<S> {
    /// Empty buffers; [`zero`](Self::zero) sets their size.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            logits: ColumnBuffer::new(),
            exponentials: ColumnBuffer::new(),
            soft_targets: ColumnBuffer::new(),
            products: ColumnBuffer::new(),
        }
    }

    /// Sets the buffers that a batch needs to 0.
    #[inline(always)]
    pub(super) fn zero(&mut self, s: S, batch: &LossBatch<'_>, block: Size) {
        self.logits.zero(s, block);
        self.exponentials.zero(s, block);
        if batch.soft.is_some() {
            self.soft_targets.zero(s, block);
            self.products.zero(s, Size { rows: 1, ..block });
        }
    }
}

/// What is known of each row of a block before its loss is computed.
struct BlockSums {
    max: PerRow,
    exponentials: PerRow,
    soft_totals: PerRow,
    soft_dots: PerRow,
    label_logits: PerRow,
    label_soft_targets: PerRow,
}

/// What the gradients of a block's rows are made from.
struct BlockGradients {
    reciprocals: PerRow,
    factors: PerRow,
    label_gradients: PerRow,
    /// The total of the targets, 0 where the label is ignored: with labels, a row of at most 0 is left out.
    counted: PerRow,
}

/// Computes the losses of `rows` rows from `first` on, at most a block, and writes dx.
///
/// # Safety
/// The views of `batch` have these rows, of `cols` columns; `buffers` were zeroed for as many rows or more.
#[inline(always)]
pub(super) unsafe fn losses<T: Tier>(
    tier: T,
    batch: &LossBatch<'_>,
    first: usize,
    rows: usize,
    buffers: &mut LossBuffers<T::Vector>,
    losses: &mut PerRow,
) {
    let (r, has_labels) = (tier.row(), batch.targets.has_labels());
    let labels = batch.targets.labels(first, rows, batch.cols);
    // SAFETY: the views have these rows, and labels are clamped to columns.
    let sums = unsafe { sum_block(tier.vector(), batch, first, rows, &labels, buffers) };

    let [reciprocals, factors, label_gradients, counted] = [PerRow::splat(0.0); 4];
    let mut gradients = BlockGradients { reciprocals, factors, label_gradients, counted };
    for row in (0..rows).step_by(ROW_LANES) {
        let of_rows = RowSums {
            exponentials: sums.exponentials.load(r, row),
            soft_total: sums.soft_totals.load(r, row),
            soft_dot: sums.soft_dots.load(r, row),
            label_below_max: r.sub(sums.label_logits.load(r, row), sums.max.load(r, row)),
            share: labels.shares.load(r, row),
        };
        let (zero, loss) = (r.splat(0.0), of_rows.loss(r));
        let counted = r.select(r.lt(zero, labels.counts.load(r, row)), of_rows.total(r), zero);
        losses.store(r, row, if has_labels { r.select(r.lt(zero, counted), loss, zero) } else { loss });
        let gradient = of_rows.gradient(r, batch.scale);
        gradients.counted.store(r, row, counted);
        gradients.reciprocals.store(r, row, gradient.reciprocal);
        gradients.factors.store(r, row, gradient.factor);
        if has_labels {
            let soft_target = sums.label_soft_targets.load(r, row);
            gradients.label_gradients.store(r, row, of_rows.label_gradient(r, gradient, soft_target));
        }
    }
    // SAFETY: dx, if it is there, has these rows.
    unsafe { write_gradients(tier.vector(), batch, first, rows, &labels.labels, &gradients, buffers) };
}

/// Loads a block, computes its exponentials and soft targets, and sums each row.
///
/// # Safety
/// As for [`losses`]; labels are columns.
#[inline(always)]
unsafe fn sum_block<S: Simd>(
    s: S,
    batch: &LossBatch<'_>,
    first: usize,
    rows: usize,
    RowLabels { labels, .. }: &RowLabels,
    buffers: &mut LossBuffers<S>,
) -> BlockSums {
    let (x, cols) = (batch.x.from(first, 0), batch.cols);
    let [max, exponentials, soft_totals, soft_dots, label_logits, label_soft_targets] = [PerRow::splat(0.0); 6];
    let mut sums = BlockSums { max, exponentials, soft_totals, soft_dots, label_logits, label_soft_targets };
    for (row, (logit, &label)) in sums.label_logits.0[..rows].iter_mut().zip(labels).enumerate() {
        // SAFETY: the label is a column of this row.
        *logit = unsafe { *x.at(row, label) };
    }
    for row in (0..rows).step_by(S::LANES) {
        let logits = buffers.logits.of_rows(row);
        // SAFETY: x has these rows and columns.
        unsafe { load_columns(s, x.from(row, 0), Size { rows: S::LANES.min(rows - row), cols }, logits) };
        sums.max.store(s, row, max_of_columns(s, &logits[..cols]));
    }
    if batch.soft.is_some() {
        // SAFETY: the soft targets have these rows and columns.
        unsafe { sum_soft_targets(s, batch, first, rows, labels, buffers, &mut sums) };
    }
    for row in (0..rows).step_by(S::LANES) {
        let (logits, e) = (&buffers.logits.of_rows(row)[..cols], &mut buffers.exponentials.of_rows(row)[..cols]);
        terms_of_columns(s, Softmax, [logits], sums.max.load(s, row), e);
    }
    for row in (0..rows).step_by(S::LANES) {
        sums.exponentials.store(s, row, sum_of_columns(s, buffers.exponentials.of_rows(row)));
    }
    sums
}

/// Computes the soft targets of a block, their sums and dot products with x - max, and those at the labels.
///
/// # Safety
/// As for [`losses`]; labels are columns.
#[inline(always)]
unsafe fn sum_soft_targets<S: Simd>(
    s: S,
    batch: &LossBatch<'_>,
    first: usize,
    rows: usize,
    labels: &[usize; MAX_ROWS],
    buffers: &mut LossBuffers<S>,
    sums: &mut BlockSums,
) {
    let Some(soft) = batch.soft else { return };
    let cols = batch.cols;
    for row in (0..rows).step_by(S::LANES) {
        let (targets, products) = (buffers.soft_targets.of_rows(row), buffers.products.of_rows(0));
        let logits = buffers.logits.of_rows(row);
        // SAFETY: the soft targets have these rows and columns.
        unsafe { soft.columns(s, first + row, Size { rows: S::LANES.min(rows - row), cols }, targets) };
        let max = sums.max.load(s, row);
        for ((product, x), &target) in products[..cols].iter_mut().zip(logits).zip(targets.iter()) {
            *product = target_product(s, target, s.sub(*x, max));
        }
        sums.soft_totals.store(s, row, sum_of_columns(s, targets));
        sums.soft_dots.store(s, row, sum_of_columns(s, products));
    }
    if batch.targets.has_labels() {
        for (row, (at_label, &label)) in sums.label_soft_targets.0[..rows].iter_mut().zip(labels).enumerate() {
            let column = std::ptr::from_ref(&buffers.soft_targets.of_rows(row)[label]);
            // SAFETY: a vector is `LANES` floats.
            *at_label = unsafe { *column.cast::<f32>().wrapping_add(row % S::LANES) };
        }
    }
}

/// Writes the gradients of a block from its exponentials, if dx is asked for.
///
/// # Safety
/// As for [`losses`]; labels are columns.
#[inline(always)]
unsafe fn write_gradients<S: Simd>(
    s: S,
    batch: &LossBatch<'_>,
    first: usize,
    rows: usize,
    labels: &[usize; MAX_ROWS],
    gradients: &BlockGradients,
    buffers: &mut LossBuffers<S>,
) {
    let Some(dx) = batch.dx else { return };
    let (dx, cols, minus_scale) = (dx.from(first, 0), batch.cols, s.splat(-batch.scale));
    for row in (0..rows).step_by(S::LANES) {
        let (reciprocal, factor) = (gradients.reciprocals.load(s, row), gradients.factors.load(s, row));
        let gradient = LogitGradient { reciprocal, factor, minus_scale };
        let columns = &mut buffers.exponentials.of_rows(row)[..cols];
        if batch.soft.is_some() {
            for (e, target) in columns.iter_mut().zip(buffers.soft_targets.of_rows(row)) {
                *e = gradient.of_target(s, *e, *target);
            }
        } else {
            for e in columns.iter_mut() {
                *e = gradient.of_zero_target(s, *e);
            }
        }
        // SAFETY: dx has these rows and columns.
        unsafe { store_columns(s, dx.from(row, 0), S::LANES.min(rows - row), columns) };
    }
    if batch.targets.has_labels() {
        for (row, (&label, &gradient)) in labels[..rows].iter().zip(&gradients.label_gradients.0).enumerate() {
            // SAFETY: the label is a column of this row.
            unsafe { *dx.at(row, label) = gradient };
        }
    }
    if batch.targets.may_leave_out() {
        for row in (0..rows).filter(|row| gradients.counted.0[*row] <= 0.0) {
            // SAFETY: dx has this row of `cols` columns.
            (0..cols).for_each(|col| unsafe { *dx.at(row, col) = 0.0 });
        }
    }
}
