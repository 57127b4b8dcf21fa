//! Gathers rows of a matrix, such as the shuffled samples of a batch.

use super::{Kernel, Split};
use crate::matrix::{MatMut, MatPtr, MatRef};
use crate::simd::Simd;
use crate::simd::tier::Tier;
use crate::split_at::{Axis, split_fields};
use crate::tuning::rows::GATHER_PREFETCH_ROWS;
use crate::tuning::{CACHE_LINE, PAGE};

/// Copies row `order[i]` of `from` to row i of `to`; a row that `from` lacks leaves `to` as it is.
///
/// As many columns are copied as both have.
pub(crate) struct GatherRows<'a> {
    pub from: MatRef<'a>,
    pub order: &'a [usize],
    /// Rows that this thread gathers next, after other work: one element per page is prefetched to warm the
    /// TLB.
    pub later: &'a [usize],
    pub to: MatMut<'a>,
}

impl Kernel for GatherRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(mut self, tier: T) {
        let s = tier.vector();
        let (from, to) = (self.from.as_mat_ptr(), self.to.as_mat_ptr());
        let (rows, cols) = (self.from.rows(), self.from.cols().min(self.to.cols()));
        for (i, &row) in self.order.iter().enumerate().take(self.to.rows()) {
            if let Some(&next) = self.order.get(i + GATHER_PREFETCH_ROWS) {
                prefetch_row(s, from, next, cols, CACHE_LINE);
            }
            if row >= rows {
                continue;
            }
            // SAFETY: both views have this row and these columns, and `to` is borrowed mutably.
            unsafe {
                if from.col_stride == 1 && to.col_stride == 1 {
                    to.at(i, 0).copy_from_nonoverlapping(from.at(row, 0), cols);
                } else {
                    (0..cols).for_each(|col| *to.at(i, col) = *from.at(row, col));
                }
            }
        }
        for &row in self.later {
            prefetch_row(s, from, row, cols, PAGE);
        }
    }
}

/// Prefetches every `step`th element of a row into L2, and the last one.
#[inline(always)]
fn prefetch_row<S: Simd>(s: S, from: MatPtr, row: usize, cols: usize, step: usize) {
    for col in (0..cols).step_by(step).chain(cols.checked_sub(1)) {
        s.prefetch_l2(from.at(row, col));
    }
}

impl Split for GatherRows<'_> {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        split_fields!(self, Axis::Rows, at, [order, later, to])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Threads};

    #[test]
    fn rows_are_copied_for_any_strides_and_missing_ones_skipped() {
        let backend = Backend::new().unwrap().with_threads(Threads::One);
        let values: Vec<f32> = (0..5 * 37).map(|i| i as f32).collect();
        let order = [4, 0, 9, 0, 2];
        let rows = MatRef::new(&values, 5, 37).unwrap();
        let columns = MatRef::new(&values, 37, 5).unwrap().t();
        for (from, transposed) in [(rows, false), (columns, false), (rows, true), (columns, true)] {
            let mut found = vec![-1.0; order.len() * 37];
            let size = if transposed { [37, order.len()] } else { [order.len(), 37] };
            let to = MatMut::new(&mut found, size[0], size[1]).unwrap();
            let to = if transposed { to.t() } else { to };
            backend.run(0, 1, GatherRows { from, order: &order, later: &[1, 7], to });
            let found = MatRef::new(&found, size[0], size[1]).unwrap();
            let found = if transposed { found.t() } else { found };
            for (i, &row) in order.iter().enumerate() {
                for col in 0..37 {
                    let expected = from.get(row, col).unwrap_or(-1.0);
                    assert_eq!(found.get(i, col), Some(expected), "row {i}, column {col}");
                }
            }
        }
    }
}
