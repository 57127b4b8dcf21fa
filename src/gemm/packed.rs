//! Weights laid out once, for many forward calls.

use std::fmt;

use crate::contract::ROW_LANES;
use crate::matrix::MatRef;

/// A cache line of floats, and the width of a panel.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [f32; ROW_LANES]);

/// Weights in the order in which the forward kernels read them: panels of 16 outputs.
///
/// Worth its copy where the same weights serve many calls of [`dense::forward`](crate::dense::forward),
/// as in inference: from then on every call reads memory in one direction and without gaps, whatever
/// the weights' first layout was, and copies nothing. Results are the same, bit for bit. The layout
/// is the same for every instruction set; outputs are padded to a multiple of 16.
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
pub struct PackedWeights {
    lines: Vec<Line>,
    inputs: usize,
    outputs: usize,
}

impl PackedWeights {
    /// Copies weights, inputs x outputs; those stored as (outputs, inputs) are passed as
    /// [`MatRef::t`].
    #[must_use]
    pub fn new(w: MatRef<'_>) -> Self {
        let (inputs, outputs) = (w.rows(), w.cols());
        let mut lines = vec![Line([0.0; ROW_LANES]); outputs.div_ceil(ROW_LANES) * inputs];
        let transposed = w.t();
        for (panel, lines) in lines.chunks_exact_mut(inputs.max(1)).enumerate() {
            let first = panel * ROW_LANES;
            let width = ROW_LANES.min(outputs - first);
            for lane in 0..width {
                match transposed.row(first + lane) {
                    Some(column) => lines.iter_mut().zip(column).for_each(|(line, &w)| line.0[lane] = w),
                    None => lines.iter_mut().enumerate().for_each(|(input, line)| {
                        line.0[lane] = w.get(input, first + lane).unwrap_or(0.0);
                    }),
                }
            }
        }
        Self { lines, inputs, outputs }
    }

    /// Number of inputs.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of outputs.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub(crate) fn panels(&self) -> Panels<'_> {
        Panels { lines: &self.lines, depth: self.inputs, cols: self.outputs }
    }
}

impl fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedWeights({} x {})", self.inputs, self.outputs)
    }
}

/// The weights of a forward call, inputs x outputs: made from a [`MatRef`] or a reference to [`PackedWeights`].
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

/// The right factor of a product, in either layout.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BOperand<'a> {
    Strided(MatRef<'a>),
    Packed(Panels<'a>),
}

impl BOperand<'_> {
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

    /// The left `col` columns, for panels a multiple of 16, and the others.
    pub(crate) fn split_at_col(self, col: usize) -> (Self, Self) {
        match self {
            Self::Strided(matrix) => {
                let (left, right) = matrix.split_at_col(col);
                (Self::Strided(left), Self::Strided(right))
            }
            Self::Packed(panels) => {
                let (left, right) = panels.split_at_col(col);
                (Self::Packed(left), Self::Packed(right))
            }
        }
    }
}

/// A matrix in panels of 16 columns: lines of a panel are its rows, panels follow each other.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    lines: &'a [Line],
    depth: usize,
    cols: usize,
}

impl<'a> Panels<'a> {
    /// Lines of a panel.
    pub(crate) fn depth(self) -> usize {
        self.depth
    }

    pub(crate) fn cols(self) -> usize {
        self.cols
    }

    /// The lines from row `row` of the panel with column `col` on.
    pub(crate) fn lines_from(self, row: usize, col: usize) -> &'a [Line] {
        self.lines.get(col / ROW_LANES * self.depth + row..).unwrap_or_default()
    }

    fn split_at_col(self, col: usize) -> (Self, Self) {
        debug_assert!(col.is_multiple_of(ROW_LANES) || col >= self.cols);
        let col = col.min(self.cols);
        let (left, right) = self.lines.split_at(self.lines.len().min(col.div_ceil(ROW_LANES) * self.depth));
        (Self { lines: left, cols: col, ..self }, Self { lines: right, cols: self.cols - col, ..self })
    }
}

impl fmt::Debug for Panels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panels({} x {})", self.depth, self.cols)
    }
}
