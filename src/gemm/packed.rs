//! Packed weights: panels of 16 columns, laid out once for many products.
//!
//! ```text
//! panel 0: W[0][0..16], W[1][0..16], ... W[inputs-1][0..16]; panel 1: W[0][16..32], ...
//! ```

use std::fmt;

use super::element::Element;
use crate::contract::ROW_LANES;
use crate::matrix::MatRef;
use crate::split_at::{Axis, SplitAt};

/// Weights in the order in which the forward kernels read them: panels of 16 outputs.
///
/// Worth its copy where the same weights serve many calls of [`dense::forward`](crate::dense::forward), as in
/// inference: every call then reads memory contiguously, whatever the layout of the weights was, and packs
/// nothing. Results are the same, bit for bit. The layout is the same for every instruction set; outputs are
/// padded to a multiple of 16.
///
/// ```
/// use densely::{Activation, Backend, MatMut, MatRef, PackedWeights, dense};
/// let backend = Backend::new()?;
/// let w = [1.0, -1.0, 0.5, 3.0, 0.0, -2.0]; // 2 inputs x 3 outputs
/// let packed = PackedWeights::new(MatRef::new(&w, 2, 3)?);
/// let mut y = [0.0; 3];
/// for x in [[1.0, 2.0], [3.0, 4.0]] {
///     let (x, y) = (MatRef::new(&x, 1, 2)?, MatMut::new(&mut y, 1, 3)?);
///     dense::forward(&backend, x, &packed, None, Activation::Linear, y)?;
/// }
/// assert_eq!(y, [15.0, -3.0, -6.5]);
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone)]
pub struct PackedWeights(PackedMatrix<f32>);

impl PackedWeights {
    /// Packs weights, inputs x outputs; those stored as (outputs, inputs) are passed as [`MatRef::t`].
    #[must_use]
    pub fn new(w: MatRef<'_>) -> Self {
        Self(PackedMatrix::new(w))
    }

    /// The number of inputs.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.0.depth
    }

    /// The number of outputs.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.0.cols
    }

    pub(crate) fn panels(&self) -> Panels<'_, f32> {
        self.0.panels()
    }
}

impl fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedWeights({} x {})", self.inputs(), self.outputs())
    }
}

/// The weights of a forward call, inputs x outputs: made from a [`MatRef`] or a reference to
/// [`PackedWeights`].
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a>(pub(crate) BOperand<'a>);

impl<'a> From<MatRef<'a>> for Weights<'a> {
    fn from(w: MatRef<'a>) -> Self {
        Self(BOperand::Strided(w))
    }
}

impl<'a> From<&'a PackedWeights> for Weights<'a> {
    fn from(w: &'a PackedWeights) -> Self {
        Self(BOperand::Packed(w.panels()))
    }
}

/// A matrix of elements `E` in panels.
#[derive(Clone)]
pub(crate) struct PackedMatrix<E: Element> {
    rows: Vec<E::PanelRow>,
    depth: usize,
    cols: usize,
}

impl<E: Element> PackedMatrix<E> {
    /// Packs a matrix, depth x columns.
    pub(crate) fn new(matrix: MatRef<'_>) -> Self {
        let (depth, cols) = (matrix.rows(), matrix.cols());
        let mut rows = vec![E::PanelRow::default(); cols.div_ceil(ROW_LANES) * depth];
        let transposed = matrix.t();
        for (panel, rows) in rows.chunks_exact_mut(depth.max(1)).enumerate() {
            let first = panel * ROW_LANES;
            for lane in 0..ROW_LANES.min(cols - first) {
                let set = |(row, value): (&mut E::PanelRow, f32)| row.as_mut()[lane] = E::narrow(value);
                match transposed.row(first + lane) {
                    Some(column) => rows.iter_mut().zip(column.iter().copied()).for_each(set),
                    None => {
                        let value = |k| matrix.get(k, first + lane).unwrap_or(0.0);
                        rows.iter_mut().enumerate().map(|(k, row)| (row, value(k))).for_each(set);
                    }
                }
            }
        }
        Self { rows, depth, cols }
    }

    pub(crate) fn panels(&self) -> Panels<'_, E> {
        Panels { rows: &self.rows, depth: self.depth, cols: self.cols }
    }
}

/// The right operand of a product: any strides, or packed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BOperand<'a, E: Element = f32> {
    Strided(MatRef<'a>),
    Packed(Panels<'a, E>),
}

impl<E: Element> BOperand<'_, E> {
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Strided(matrix) => matrix.rows(),
            Self::Packed(panels) => panels.depth,
        }
    }

    pub(crate) fn cols(self) -> usize {
        match self {
            Self::Strided(matrix) => matrix.cols(),
            Self::Packed(panels) => panels.cols,
        }
    }
}

impl<E: Element> SplitAt for BOperand<'_, E> {
    /// Columns only, and those of panels at multiples of 16.
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        debug_assert!(axis == Axis::Columns);
        match self {
            Self::Strided(matrix) => {
                let (left, right) = matrix.split_along(axis, at);
                (Self::Strided(left), Self::Strided(right))
            }
            Self::Packed(panels) => {
                let (left, right) = panels.split_at_col(at);
                (Self::Packed(left), Self::Packed(right))
            }
        }
    }
}

/// A view of packed panels: `depth` rows a panel, panels one after another.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a, E: Element> {
    rows: &'a [E::PanelRow],
    depth: usize,
    cols: usize,
}

impl<'a, E: Element> Panels<'a, E> {
    pub(crate) fn depth(self) -> usize {
        self.depth
    }

    pub(crate) fn cols(self) -> usize {
        self.cols
    }

    /// The rows from `row` of the panel that holds column `col` on.
    pub(crate) fn rows_from(self, row: usize, col: usize) -> &'a [E::PanelRow] {
        self.rows.get(col / ROW_LANES * self.depth + row..).unwrap_or_default()
    }

    fn split_at_col(self, col: usize) -> (Self, Self) {
        debug_assert!(col.is_multiple_of(ROW_LANES) || col >= self.cols);
        let col = col.min(self.cols);
        let (left, right) = self.rows.split_at(self.rows.len().min(col.div_ceil(ROW_LANES) * self.depth));
        (Self { rows: left, cols: col, ..self }, Self { rows: right, cols: self.cols - col, ..self })
    }
}

impl<E: Element> fmt::Debug for Panels<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panels({} x {})", self.depth, self.cols)
    }
}
