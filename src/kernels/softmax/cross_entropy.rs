//! Cross-entropy with softmax, and its gradient.

use super::cross_entropy_block::{self, LossBuffers};
use super::cross_entropy_row;
use super::row_loss::LossBatch;
use super::row_per_lane::{MAX_ROWS, PerRow, block_rows};
use super::row_targets::LossTargets;
use crate::contract::LOSS_ROWS;
use crate::kernels::pairwise_sum::{PairwiseSum, push_losses};
use crate::kernels::{Input, Kernel, Split};
use crate::matrix::{MatMut, Size};
use crate::simd::tier::Tier;
use crate::split_at::{Axis, split_fields};
use crate::tuning::rows::ROW_PER_LANE_COLS;

/// The sum of the rows' losses T ln(sum(exp(x - max))) - sum(t (x - max)), and dx = (T softmax(x) - t) scale.
///
/// t are the row's targets, T their sum. Losses are added over [`LOSS_ROWS`] rows in ascending order, then in
/// a [`PairwiseSum`].
pub(crate) struct CrossEntropy<'a> {
    /// x, rows x classes.
    pub logits: Input<'a>,
    pub targets: LossTargets<'a>,
    pub scale: f32,
    /// Where each row's loss is written.
    pub losses: Option<&'a mut [f32]>,
    /// Where the gradient is written, rows x classes; may be the logits.
    pub dx: Option<MatMut<'a>>,
}

impl Kernel for CrossEntropy<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) -> f32 {
        let Self { logits, targets, scale, mut losses, mut dx } = self;
        let x = match (logits, &dx) {
            (Input::Matrix(x), _) => x,
            // SAFETY: rows are accessed by pointers, and a row's logits are read before its gradient is
            // written.
            (Input::InPlace, Some(dx)) => unsafe { dx.alias() },
            (Input::InPlace, None) => return 0.0,
        };
        let soft = targets.soft();
        let rows = dx.as_ref().map_or(x.rows(), |dx| dx.rows().min(x.rows())).min(targets.targets.rows());
        let rows = losses.as_ref().map_or(rows, |losses| rows.min(losses.len()));
        let cols = dx.as_ref().map_or(x.cols(), |dx| dx.cols().min(x.cols()));
        let cols = soft.map_or(cols, |soft| soft.cols(cols));
        if rows == 0 || cols == 0 {
            return 0.0;
        }
        let (x, dx) = (x.as_mat_ptr(), dx.as_mut().map(MatMut::as_mat_ptr));
        let batch = LossBatch { x, dx, cols, targets, soft, scale };

        let short = cols <= ROW_PER_LANE_COLS;
        let block = Size { rows: if short { block_rows(cols).min(rows) } else { LOSS_ROWS }, cols };
        let mut buffers = LossBuffers::new();
        if short {
            buffers.zero(tier.vector(), &batch, block);
        }
        let mut sum = PairwiseSum::new();
        for first in (0..rows).step_by(block.rows) {
            let n = block.rows.min(rows - first);
            let mut of_rows = PerRow::splat(0.0);
            // SAFETY: all views have rows `first..first + n` of `cols` columns; the buffers hold a block.
            unsafe {
                if short {
                    cross_entropy_block::losses(tier, &batch, first, n, &mut buffers, &mut of_rows);
                } else {
                    cross_entropy_row::losses(tier.vector(), &batch, first, &mut of_rows.0[..n]);
                }
            }
            let of_rows = &of_rows.0[..n];
            if let Some(losses) = &mut losses {
                losses[first..first + n].copy_from_slice(of_rows);
            }
            push_losses(tier.vector(), &mut sum, of_rows);
        }
        sum.total(tier.vector())
    }
}

/// A block is whole groups of losses.
const _: () = assert!(MAX_ROWS.is_multiple_of(LOSS_ROWS));

impl Split for CrossEntropy<'_> {
    fn len(&self) -> usize {
        self.targets.targets.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        split_fields!(self, Axis::Rows, at, [logits, targets, losses, dx])
    }
}
