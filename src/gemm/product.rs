//! `Product`: C = A B with what dense layers wrap around it, a bias before and an epilogue after.

use super::element::Element;
use super::epilogue::Epilogue;
use super::packed::BOperand;
use crate::kernels::Split;
use crate::kernels::elementwise::column_sums;
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;

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

    /// The biases of the first `at` elements along an axis, and of the others.
    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        match (self, axis) {
            (Self::Columns(bias), Axis::Columns) => {
                let (first, rest) = bias.split_at(at.min(bias.len()));
                (Self::Columns(first), Self::Columns(rest))
            }
            (Self::Rows(bias), Axis::Rows) => {
                let (first, rest) = bias.split_at(at.min(bias.len()));
                (Self::Rows(first), Self::Rows(rest))
            }
            (same, _) => (same, same),
        }
    }
}

/// An axis of C.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Rows,
    Columns,
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
            unsafe { column_sums(s, b.as_ptr(), [b.row_stride(), b.col_stride()], [k, n], true, sums.as_mut_ptr()) };
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
            epilogue: self.epilogue.map(MatRef::t),
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

    fn split(self, at: usize) -> (Self, Self) {
        let bias = self.bias.split(self.split, at);
        match self.split {
            Axis::Rows => {
                let (a, c) = (self.a.split_at_row(at), self.c.split_at_row(at));
                let epilogue = |second| self.epilogue.map(|saved| pick(saved.split_at_row(at), second));
                (
                    Self { a: a.0, c: c.0, bias: bias.0, epilogue: epilogue(false), ..self },
                    Self { a: a.1, c: c.1, bias: bias.1, epilogue: epilogue(true), column_sums: None, ..self },
                )
            }
            Axis::Columns => {
                let (b, c) = (self.b.split_at_col(at), self.c.split_at_col(at));
                let epilogue = |second| self.epilogue.map(|saved| pick(saved.split_at_col(at), second));
                let sums = self.column_sums.map(|sums| sums.split_at_mut(at.min(sums.len()))).unzip();
                (
                    Self { b: b.0, c: c.0, bias: bias.0, epilogue: epilogue(false), column_sums: sums.0, ..self },
                    Self { b: b.1, c: c.1, bias: bias.1, epilogue: epilogue(true), column_sums: sums.1, ..self },
                )
            }
        }
    }
}

fn pick<T>((first, second): (T, T), is_second: bool) -> T {
    if is_second { second } else { first }
}
