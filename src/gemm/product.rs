//! `Product`: C = A B with what dense layers wrap around it, a bias before and an epilogue after.

use super::element::Element;
use super::epilogue::Epilogue;
use super::packed::BOperand;
use crate::kernels::Split;
use crate::kernels::elementwise::column_sums;
use crate::matrix::{MatMut, MatRef, Size};
use crate::simd::Simd;
use crate::split_at::{Axis, SplitAt, split_fields};

/// How the sum over the depth is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Summation {
    /// One running sum, k ascending.
    Running,
    /// Running sums over chunks of [`CHUNK_ROWS`](crate::contract::CHUNK_ROWS), added in ascending order.
    Chunked,
}

/// Where the sums start.
#[derive(Clone, Copy)]
pub(crate) enum Bias<'a> {
    /// At zero.
    None,
    /// At a value per column.
    Columns(&'a [f32]),
    /// At a value per row.
    Rows(&'a [f32]),
}

impl<'a> Bias<'a> {
    /// The bias of the transposed product.
    fn t(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Columns(bias) => Self::Rows(bias),
            Self::Rows(bias) => Self::Columns(bias),
        }
    }
}

impl SplitAt for Bias<'_> {
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        match (self, axis) {
            (Self::Columns(bias), Axis::Columns) => {
                let (first, rest) = bias.split_along(axis, at);
                (Self::Columns(first), Self::Columns(rest))
            }
            (Self::Rows(bias), Axis::Rows) => {
                let (first, rest) = bias.split_along(axis, at);
                (Self::Rows(first), Self::Rows(rest))
            }
            (same, _) => (same, same),
        }
    }
}

/// The sizes of a product, in BLAS' letters: C is m x n, the depth k.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// C (m x n) = bias + A (m x k) B (k x n), then the epilogue. The elements of packed B are `E`.
pub(crate) struct Product<'a, E: Element = f32> {
    pub a: MatRef<'a>,
    pub b: BOperand<'a, E>,
    pub c: MatMut<'a>,
    pub bias: Bias<'a>,
    /// Only [`Summation::Running`] goes with a bias or an epilogue.
    pub summation: Summation,
    pub epilogue: Epilogue<'a>,
    /// n elements: receives the column sums of B, in the order of [`Summation::Chunked`].
    pub column_sums: Option<&'a mut [f32]>,
    /// The axis along which threads may split the work.
    pub split: Axis,
}

impl<E: Element> Product<'_, E> {
    /// The smallest sizes that the operands have in common.
    pub(crate) fn sizes(&self) -> Sizes {
        let mut m = self.a.rows().min(self.c.rows());
        let mut n = self.b.cols().min(self.c.cols());
        match self.bias {
            Bias::None => {}
            Bias::Columns(bias) => n = n.min(bias.len()),
            Bias::Rows(bias) => m = m.min(bias.len()),
        }
        if let Some(sums) = &self.column_sums {
            n = n.min(sums.len());
        }
        if let Epilogue::Gradient(_, saved) = self.epilogue {
            m = m.min(saved.rows());
            n = n.min(saved.cols());
        }
        Sizes { m, n, k: self.a.cols().min(self.b.rows()) }
    }

    /// Writes the column sums of all of B, if they are asked for.
    #[inline(always)]
    pub(super) fn write_column_sums<S: Simd>(&mut self, s: S) {
        let Sizes { n, k, .. } = self.sizes();
        if let (Some(sums), BOperand::Strided(b)) = (self.column_sums.take(), self.b) {
            // SAFETY: B has k rows and n columns, and there are n sums.
            unsafe { column_sums(s, b.as_mat_ptr(), Size { rows: k, cols: n }, true, sums.as_mut_ptr()) };
        }
    }
}

impl<'a> Product<'a> {
    /// The transposed product, Cᵀ = Bᵀ Aᵀ, given B.
    pub(super) fn transposed(self, b: MatRef<'a>) -> Self {
        Self {
            a: b.t(),
            b: BOperand::Strided(self.a.t()),
            c: self.c.t(),
            bias: self.bias.t(),
            epilogue: self.epilogue.t(),
            ..self
        }
    }
}

impl Split for Product<'_> {
    fn len(&self) -> usize {
        match self.split {
            Axis::Rows => self.c.rows(),
            Axis::Columns => self.c.cols(),
        }
    }

    fn split(mut self, at: usize) -> (Self, Self) {
        if self.split == Axis::Columns {
            return split_fields!(self, Axis::Columns, at, [b, c, bias, epilogue, column_sums]);
        }
        // Both need all of B; one sums its columns.
        let column_sums = self.column_sums.take();
        let (first, rest) = split_fields!(self, Axis::Rows, at, [a, c, bias, epilogue, column_sums]);
        (Self { column_sums, ..first }, rest)
    }
}
