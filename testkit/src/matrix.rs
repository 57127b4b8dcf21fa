//! Matrices of any layout that show a stray read or write.

use std::fmt;

use densely::{MatMut, MatRef};

use crate::bits::canonical;
use crate::guarded::{Guard, GuardedFloats};

/// The NaN that outputs hold before a call. No kernel computes it, and no input of tests holds it.
const UNWRITTEN: u32 = 0x7fc0_dead;
/// The NaN in the gaps of inputs.
const GAP: u32 = 0x7fc0_beef;
/// Floats before each matrix that no kernel may touch. After it lies a guard page.
const MARGIN: usize = 64;

/// Distances between the elements of a column, and between those of a row, in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    pub row: usize,
    pub col: usize,
}

/// Where a matrix's elements lie in its buffer.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// Contiguous.
    RowMajor,
    /// Row-major, with a gap after each row.
    Padded,
    /// Row-major with a row stride of a multiple of 512 floats: products pack operands with such cache-set
    /// conflicts.
    Conflicting,
    /// Column-major, as weights stored (outputs, inputs) are passed.
    Transposed,
    /// No two elements are contiguous.
    Scattered,
    /// Strides under which no two elements share a place.
    Strided(Strides),
}

impl Layout {
    /// The layouts whose strides follow from the shape.
    pub const ALL: [Self; 5] = [Self::RowMajor, Self::Padded, Self::Conflicting, Self::Transposed, Self::Scattered];

    fn strides(self, [rows, cols]: [usize; 2]) -> Strides {
        match self {
            Self::RowMajor => Strides { row: cols, col: 1 },
            Self::Padded => Strides { row: cols + 3, col: 1 },
            Self::Conflicting => Strides { row: (cols + 1).next_multiple_of(512), col: 1 },
            Self::Transposed => Strides { row: 1, col: rows },
            Self::Scattered => Strides { row: 2 * cols + 1, col: 2 },
            Self::Strided(strides) => strides,
        }
    }
}

/// A matrix whose last element lies at a guard page. Shapes are `[rows, cols]`.
#[derive(Clone)]
pub struct Matrix {
    shape: [usize; 2],
    strides: Strides,
    /// [`MARGIN`], then the elements with the gaps between them.
    buffer: GuardedFloats,
}

impl Matrix {
    fn filled(shape: [usize; 2], layout: Layout, bits: u32) -> Self {
        let strides = layout.strides(shape);
        let [rows, cols] = shape;
        let len = if shape.contains(&0) { 0 } else { (rows - 1) * strides.row + (cols - 1) * strides.col + 1 };
        let mut buffer = GuardedFloats::new(MARGIN + len, Guard::After);
        buffer.as_mut_slice().fill(f32::from_bits(bits));
        Self { shape, strides, buffer }
    }

    /// Makes an output before the call.
    pub fn unwritten(shape: [usize; 2], layout: Layout) -> Self {
        Self::filled(shape, layout, UNWRITTEN)
    }

    /// Makes an output that is also an input, of these values.
    pub fn in_place(values: &Self, layout: Layout) -> Self {
        let mut matrix = Self::unwritten(values.shape, layout);
        for (row, col) in indices(values.shape) {
            *matrix.at_mut(row, col) = values.at(row, col);
        }
        matrix
    }

    /// Makes an input.
    pub fn from_fn(shape: [usize; 2], layout: Layout, mut value: impl FnMut(usize, usize) -> f32) -> Self {
        let mut matrix = Self::filled(shape, layout, GAP);
        for (row, col) in indices(shape) {
            *matrix.at_mut(row, col) = value(row, col);
        }
        matrix
    }

    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Returns the elements with the gaps between them.
    pub fn slice(&self) -> &[f32] {
        &self.buffer.as_slice()[MARGIN..]
    }

    pub fn slice_mut(&mut self) -> &mut [f32] {
        &mut self.buffer.as_mut_slice()[MARGIN..]
    }

    pub fn view(&self) -> MatRef<'_> {
        let ([rows, cols], Strides { row, col }) = (self.shape, self.strides);
        MatRef::with_strides(self.slice(), rows, cols, row, col).unwrap()
    }

    pub fn view_mut(&mut self) -> MatMut<'_> {
        let ([rows, cols], Strides { row, col }) = (self.shape, self.strides);
        MatMut::with_strides(self.slice_mut(), rows, cols, row, col).unwrap()
    }

    pub fn at(&self, row: usize, col: usize) -> f32 {
        self.slice()[row * self.strides.row + col * self.strides.col]
    }

    fn at_mut(&mut self, row: usize, col: usize) -> &mut f32 {
        let strides = self.strides;
        &mut self.slice_mut()[row * strides.row + col * strides.col]
    }

    /// Asserts that a call wrote nothing at all to this output.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let touched = self.buffer.as_slice().iter().position(|value| value.to_bits() != UNWRITTEN);
        assert_eq!(touched, None, "index of a float that was written");
    }

    /// Asserts that a call wrote every element of this output, and nothing else.
    #[track_caller]
    pub fn assert_written(&self, what: &str) {
        for (row, col) in indices(self.shape) {
            assert_ne!(self.at(row, col).to_bits(), UNWRITTEN, "{what}: element ({row}, {col}) is not written");
        }
        self.assert_gaps_untouched(what);
    }

    /// Asserts that a call wrote nothing before and between the elements of this output.
    #[track_caller]
    pub fn assert_gaps_untouched(&self, what: &str) {
        let mut rest = self.clone();
        for (row, col) in indices(self.shape) {
            *rest.at_mut(row, col) = f32::from_bits(UNWRITTEN);
        }
        let stray = rest.buffer.as_slice().iter().position(|value| value.to_bits() != UNWRITTEN);
        assert_eq!(stray, None, "{what}: index of a float that was written before or between the elements");
    }

    /// Asserts the numeric contract: elements of the same bits, every NaN being equal to every other.
    #[track_caller]
    pub fn assert_same_bits(&self, expected: &Self, what: impl fmt::Display) {
        assert_eq!(self.shape, expected.shape, "{what}: shape");
        for (row, col) in indices(self.shape) {
            let (found, expected) = (self.at(row, col), expected.at(row, col));
            let same = canonical(found) == canonical(expected);
            assert!(same, "{what}: ({row}, {col}) of {:?}: {found:e}, expected {expected:e}", self.shape);
        }
    }

    /// Asserts the bound of row kernels without fused multiply-add: 2^-18 (32 ulp) of the result plus
    /// `unit(row, col)`.
    #[track_caller]
    pub fn assert_close(&self, expected: &Self, unit: impl Fn(usize, usize) -> f32) {
        for (row, col) in indices(self.shape) {
            let (found, expected, unit) = (self.at(row, col), expected.at(row, col), unit(row, col));
            let bound = (f64::from(expected.abs()) + f64::from(unit)) * 2f64.powi(-18);
            let near = expected.is_finite() && (f64::from(found) - f64::from(expected)).abs() <= bound;
            let close = canonical(found) == canonical(expected) || near || !unit.is_finite();
            assert!(close, "portable: ({row}, {col}) of {:?}: {found:e}, expected {expected:e}", self.shape);
        }
    }

    /// Asserts that this is bias + a b, within the bound of products without fused multiply-add.
    ///
    /// The bound is that of `densely::reference`.
    #[track_caller]
    pub fn assert_product(&self, a: MatRef<'_>, b: MatRef<'_>, bias: Option<&[f32]>) {
        let depth = a.cols();
        for (row, col) in indices(self.shape) {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[col]));
            let term = |k| f64::from(a.get(row, k).unwrap()) * f64::from(b.get(k, col).unwrap());
            let exact = (0..depth).map(term).fold(bias, |sum, term| sum + term);
            let magnitude = (0..depth).map(term).fold(bias.abs(), |sum, term| sum + term.abs());
            // Below the smallest normal number the rounding error is absolute: half a step a term.
            let steps = (depth + 2) as f64;
            let bound = steps * 2f64.powi(-23) * magnitude + steps * 2f64.powi(-149);
            let found = f64::from(self.at(row, col));
            let holds = if exact.is_nan() {
                found.is_nan()
            } else if exact.is_infinite() {
                !found.is_finite()
            } else {
                // Where a partial sum may overflow, nothing is promised.
                (found - exact).abs() <= bound || magnitude.is_nan() || magnitude >= f64::from(f32::MAX)
            };
            assert!(holds, "portable: ({row}, {col}) of {:?}: {found:e}, expected {exact:e}", self.shape);
        }
    }
}

/// Views floats as a contiguous matrix of this number of rows.
#[track_caller]
pub fn row_major(data: &[f32], rows: usize) -> MatRef<'_> {
    MatRef::new(data, rows, data.len() / rows).unwrap()
}

/// Views floats as a contiguous matrix of this number of rows, to write.
#[track_caller]
pub fn row_major_mut(data: &mut [f32], rows: usize) -> MatMut<'_> {
    let cols = data.len() / rows;
    MatMut::new(data, rows, cols).unwrap()
}

fn indices([rows, cols]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..cols).map(move |col| (row, col)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layouts() -> impl Iterator<Item = Layout> {
        Layout::ALL.into_iter().chain([Layout::Strided(Strides { row: 2, col: 9 })])
    }

    fn written(layout: Layout) -> Matrix {
        let mut matrix = Matrix::unwritten([3, 4], layout);
        indices([3, 4]).for_each(|(row, col)| assert!(matrix.view_mut().set(row, col, (4 * row + col) as f32)));
        matrix
    }

    #[test]
    fn elements_keep_their_places_in_every_layout() {
        for layout in layouts() {
            let input = Matrix::from_fn([3, 4], layout, |row, col| (4 * row + col) as f32);
            input.assert_same_bits(&written(layout), format!("{layout:?}"));
            assert_eq!(input.view().to_vec(), (0..12).map(|i| i as f32).collect::<Vec<_>>());
            written(layout).assert_written("all");
            Matrix::unwritten([3, 4], layout).assert_untouched();
        }
        assert!(Matrix::unwritten([0, 4], Layout::Scattered).slice().is_empty());
    }

    #[test]
    #[should_panic(expected = "element (1, 2) is not written")]
    fn missing_writes_are_noticed() {
        let mut matrix = written(Layout::Scattered);
        *matrix.at_mut(1, 2) = f32::from_bits(UNWRITTEN);
        matrix.assert_written("one less");
    }

    #[test]
    #[should_panic(expected = "before or between the elements")]
    fn writes_to_a_gap_are_noticed_even_of_nan() {
        let mut matrix = written(Layout::Padded);
        matrix.slice_mut()[5] = f32::NAN;
        matrix.assert_gaps_untouched("a gap");
    }

    #[test]
    #[should_panic(expected = "before or between the elements")]
    fn writes_before_a_matrix_are_noticed() {
        let mut matrix = written(Layout::RowMajor);
        matrix.buffer.as_mut_slice()[MARGIN - 1] = 1.0;
        matrix.assert_written("the margin");
    }

    #[test]
    #[should_panic(expected = "(2, 3) of [3, 4]")]
    fn differing_elements_are_noticed() {
        let mut matrix = written(Layout::RowMajor);
        *matrix.at_mut(2, 3) += 1e-6;
        matrix.assert_same_bits(&written(Layout::Transposed), "the last");
    }
}
