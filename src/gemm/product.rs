//! Types of a matrix product C = A B: operands, bias, epilogue, and how it is split over threads.

use super::packed::BOperand;
use crate::kernels::Split;
use crate::kernels::activation::Activation;
use crate::kernels::elementwise::column_sums;
use crate::matrix::{MatMut, MatRef, Size};
use crate::simd::Simd;

/// How the sum over the depth is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// One running sum, k ascending.
    Running,
    /// Running sums over chunks of [`CHUNK_ROWS`], added in ascending order.
    Chunked,
}

/// What is done to a finished element of C. ReLU goes with the tiles; other activations follow a row
/// of tiles while it is in the cache.
#[derive(Clone, Copy)]
pub(crate) enum Epilogue<'a> {
    /// Nothing.
    None,
    /// An activation.
    Value(Activation),
    /// An activation's gradient, with the same element of what it kept.
    Gradient(Activation, MatRef<'a>),
}

impl<'a> Epilogue<'a> {
    /// The epilogues of two parts of C.
    fn split(self, at: impl Fn(MatRef<'a>) -> (MatRef<'a>, MatRef<'a>)) -> (Self, Self) {
        match self {
            Self::Gradient(activation, kept) => {
                let (first, rest) = at(kept);
                (Self::Gradient(activation, first), Self::Gradient(activation, rest))
            }
            same => (same, same),
        }
    }
}

/// Where the sums begin.
#[derive(Clone, Copy)]
pub(crate) enum Bias<'a> {
    /// At zero.
    None,
    /// At one value a column.
    Columns(&'a [f32]),
    /// At one value a row.
    Rows(&'a [f32]),
}

impl Bias<'_> {
    /// The biases of the first `at` along an axis, and of the others.
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

/// C (m x n) = bias + A (m x k) B (k x n), then the epilogue.
pub(crate) struct Product<'a> {
    pub a: MatRef<'a>,
    pub b: BOperand<'a>,
    pub c: MatMut<'a>,
    pub bias: Bias<'a>,
    /// Only [`Depth::Running`] goes with a bias or an epilogue.
    pub depth: Depth,
    pub epilogue: Epilogue<'a>,
    /// n elements: what the column sums of B are written to, in the order of [`Depth::Chunked`].
    pub sums: Option<&'a mut [f32]>,
    /// Along which axis threads may split the work.
    pub split: Axis,
}

impl Product<'_> {
    /// (m, n, k), the smallest that the operands have in common.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let mut m = self.a.rows().min(self.c.rows());
        let mut n = self.b.cols().min(self.c.cols());
        match self.bias {
            Bias::None => {}
            Bias::Columns(bias) => n = n.min(bias.len()),
            Bias::Rows(bias) => m = m.min(bias.len()),
        }
        if let Some(sums) = &self.sums {
            n = n.min(sums.len());
        }
        if let Epilogue::Gradient(_, kept) = self.epilogue {
            m = m.min(kept.rows());
            n = n.min(kept.cols());
        }
        (m, n, self.a.cols().min(self.b.rows()))
    }

    /// Writes the column sums of all of B, if they are asked for.
    #[inline(always)]
    pub(crate) fn add_columns<S: Simd>(&mut self, s: S) {
        let (_, n, k) = self.sizes();
        if let (Some(sums), BOperand::Strided(b)) = (self.sums.take(), self.b) {
            // SAFETY: B has k rows and n columns, and there are n sums.
            unsafe { column_sums(s, b.as_mat_ptr(), Size { rows: k, cols: n }, true, sums.as_mut_ptr()) };
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
        match self.split {
            Axis::Rows => {
                let (a, c) = (self.a.split_at_row(at), self.c.split_at_row(at));
                let bias = self.bias.split(self.split, at);
                let epilogue = self.epilogue.split(|kept| kept.split_at_row(at));
                (
                    Self { a: a.0, c: c.0, bias: bias.0, epilogue: epilogue.0, ..self },
                    Self { a: a.1, c: c.1, bias: bias.1, epilogue: epilogue.1, sums: None, ..self },
                )
            }
            Axis::Columns => {
                let (b, c) = (self.b.split_at_col(at), self.c.split_at_col(at));
                let bias = self.bias.split(self.split, at);
                let epilogue = self.epilogue.split(|kept| kept.split_at_col(at));
                let sums = self.sums.map(|sums| sums.split_at_mut(at.min(sums.len()))).unzip();
                (
                    Self { b: b.0, c: c.0, bias: bias.0, epilogue: epilogue.0, sums: sums.0, ..self },
                    Self { b: b.1, c: c.1, bias: bias.1, epilogue: epilogue.1, sums: sums.1, ..self },
                )
            }
        }
    }
}
