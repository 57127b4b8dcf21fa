//! Rows from anywhere, copied side by side.

use super::{Kernel, Split};
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;
use crate::simd::tier::Tier;
use crate::tuning::rows::GATHER_PREFETCH_ROWS;
use crate::tuning::{CACHE_LINE, PAGE};

/// Row i of `to` becomes row `order[i]` of `from`, or stays if there is none; as many columns as both have.
pub(crate) struct Gather<'a> {
    pub from: MatRef<'a>,
    pub order: &'a [usize],
    /// Rows that this thread gathers next, after other work: where their pages lie is looked up meanwhile.
    pub later: &'a [usize],
    pub to: MatMut<'a>,
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(mut self, tier: T) {
        let s = tier.vector();
        let (from, [from_row, from_col]) = (self.from.as_ptr(), [self.from.row_stride(), self.from.col_stride()]);
        let (to, [to_row, to_col]) = (self.to.as_mut_ptr(), [self.to.row_stride(), self.to.col_stride()]);
        let (rows, cols) = (self.from.rows(), self.from.cols().min(self.to.cols()));
        let ask = |row: usize, step: usize| {
            let row = from.wrapping_add(row.wrapping_mul(from_row));
            for col in (0..cols).step_by(step).chain(cols.checked_sub(1)) {
                s.prefetch_l2(row.wrapping_add(col * from_col));
            }
        };
        for (i, &row) in self.order.iter().enumerate().take(self.to.rows()) {
            if let Some(&next) = self.order.get(i + GATHER_PREFETCH_ROWS) {
                ask(next, CACHE_LINE);
            }
            if row >= rows {
                continue;
            }
            // SAFETY: both views have this row and these columns, and nobody else has `to`.
            unsafe {
                let (from, to) = (from.add(row * from_row), to.add(i * to_row));
                if from_col == 1 && to_col == 1 {
                    to.copy_from_nonoverlapping(from, cols);
                } else {
                    (0..cols).for_each(|col| *to.add(col * to_col) = *from.add(col * from_col));
                }
            }
        }
        for &row in self.later {
            ask(row, PAGE);
        }
    }
}

impl Split for Gather<'_> {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (order, to) = (self.order.split_at(at.min(self.order.len())), self.to.split_at_row(at));
        let later = self.later.split_at(at.min(self.later.len()));
        (
            Self { order: order.0, later: later.0, to: to.0, ..self },
            Self { order: order.1, later: later.1, to: to.1, ..self },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Threads};

    #[test]
    fn rows_are_copied_whatever_their_strides_and_numbers_without_a_row_change_nothing() {
        let backend = Backend::new().unwrap().with_threads(Threads::One);
        let values: Vec<f32> = (0..5 * 37).map(|i| i as f32).collect();
        let order = [4, 0, 9, 0, 2];
        let rows = MatRef::new(&values, 5, 37).unwrap();
        let columns = MatRef::new(&values, 37, 5).unwrap().t();
        for (from, turned) in [(rows, false), (columns, false), (rows, true), (columns, true)] {
            let mut found = vec![-1.0; order.len() * 37];
            let size = if turned { [37, order.len()] } else { [order.len(), 37] };
            let to = MatMut::new(&mut found, size[0], size[1]).unwrap();
            let to = if turned { to.t() } else { to };
            backend.run(0, 1, Gather { from, order: &order, later: &[1, 7], to });
            let found = MatRef::new(&found, size[0], size[1]).unwrap();
            let found = if turned { found.t() } else { found };
            for (i, &row) in order.iter().enumerate() {
                for col in 0..37 {
                    let expected = from.get(row, col).unwrap_or(-1.0);
                    assert_eq!(found.get(i, col), Some(expected), "row {i}, column {col}");
                }
            }
        }
    }
}
