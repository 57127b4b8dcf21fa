//! Chooses for each matrix whether its rows go one per lane or one at a time.

use super::row_reduction::RowReduction;
use super::{row_at_a_time, row_per_lane};
use crate::contract::ROW_LANES;
use crate::kernels::RowOp;
use crate::matrix::{MatMut, MatRef, common_size};
use crate::simd::tier::Tier;
use crate::tuning::rows::ROW_PER_LANE_COLS;

/// A reduction as an operation on whole matrices.
#[derive(Clone, Copy)]
pub(crate) struct ReduceRows<Op>(pub Op);

/// Rows up to which short rows are faster one at a time: one per lane would leave most lanes idle.
const fn few_rows(cols: usize) -> usize {
    1 + cols / ROW_LANES
}

impl<Op: RowReduction<INPUTS>, const INPUTS: usize> RowOp<INPUTS> for ReduceRows<Op> {
    #[inline(always)]
    fn apply<T: Tier>(self, tier: T, inputs: [MatRef<'_>; INPUTS], mut output: MatMut<'_>) {
        let size = common_size(&inputs, &output);
        if size.rows == 0 || size.cols == 0 {
            return;
        }
        let (x, y) = (inputs.map(|x| x.as_mat_ptr()), output.as_mat_ptr());
        // SAFETY: all views have at least this size, and the output is borrowed mutably.
        unsafe {
            if size.cols <= ROW_PER_LANE_COLS && size.rows > few_rows(size.cols) {
                row_per_lane::reduce_rows(tier, self.0, x, y, size);
            } else {
                row_at_a_time::reduce_rows(tier.vector(), self.0, x, y, size);
            }
        }
    }
}
