//! Shared by the targets: matrices of arbitrary shape, strides and bits.

use std::num::NonZeroUsize;

use densely::{Activation, Backend, Isa, MatMut, MatRef, Threads};
use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// A matrix with gaps between its elements, which hold [`GAP`].
#[derive(Clone)]
pub struct Matrix {
    data: Vec<f32>,
    shape: [usize; 2],
    strides: [usize; 2],
}

/// A NaN with distinct bits, for gaps and for outputs not yet written.
const GAP: f32 = f32::from_bits(0x7fc0_d00d);

impl Matrix {
    /// Makes a matrix with arbitrary strides, every element [`GAP`].
    pub fn empty(u: &mut Unstructured<'_>, rows: usize, cols: usize) -> Result<Self> {
        let (inner, outer) = (u.int_in_range(1..=2)?, u.int_in_range(0..=3)?);
        let transposed = u.arbitrary::<bool>()?;
        let (short, long) = if transposed { (rows, cols) } else { (cols, rows) };
        let outer = (short * inner).max(1) + outer;
        let strides = if transposed { [inner, outer] } else { [outer, inner] };
        Ok(Self { data: vec![GAP; long * outer], shape: [rows, cols], strides })
    }

    /// Makes a matrix with arbitrary strides and values.
    pub fn arbitrary(u: &mut Unstructured<'_>, rows: usize, cols: usize) -> Result<Self> {
        let mut matrix = Self::empty(u, rows, cols)?;
        let mut values = Values::new(u)?;
        let mut view = matrix.view_mut();
        for row in 0..rows {
            for col in 0..cols {
                view.set(row, col, values.next(u));
            }
        }
        Ok(matrix)
    }

    pub fn view(&self) -> MatRef<'_> {
        let ([rows, cols], [row_stride, col_stride]) = (self.shape, self.strides);
        MatRef::with_strides(&self.data, rows, cols, row_stride, col_stride).expect("strides that do not overlap")
    }

    pub fn view_mut(&mut self) -> MatMut<'_> {
        let ([rows, cols], [row_stride, col_stride]) = (self.shape, self.strides);
        MatMut::with_strides(&mut self.data, rows, cols, row_stride, col_stride).expect("strides that do not overlap")
    }

    /// Fails unless all elements, and the gaps between them, have the same bits; all NaNs are equal.
    pub fn assert_same(&self, expected: &Self, isa: Isa) {
        assert_same(&self.data, &expected.data, isa);
    }
}

/// Values of a matrix.
pub enum Values {
    /// Any bits; 0 where the input has no bytes left.
    Bits,
    /// Between -0.5 and 0.5, from a generator with this state: few bytes fill any size.
    Random(u32),
}

impl Values {
    pub fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(if u.arbitrary()? { Self::Random(u.arbitrary()?) } else { Self::Bits })
    }

    pub fn next(&mut self, u: &mut Unstructured<'_>) -> f32 {
        match self {
            Self::Bits => f32::from_bits(u.arbitrary().unwrap_or(0)),
            Self::Random(state) => {
                // The linear congruential generator of Numerical Recipes, without its lowest bits.
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (*state >> 8) as f32 / 16_777_216.0 - 0.5
            }
        }
    }
}

/// Chooses an activation, with parameters in their range.
pub fn activation(u: &mut Unstructured<'_>) -> Result<Activation> {
    let parameter = f32::from(u.arbitrary::<u8>()?) / 64.0;
    Ok(match u.int_in_range(0..=8)? {
        0 => Activation::Linear,
        1 => Activation::Relu,
        2 => Activation::LeakyRelu { slope: parameter },
        3 => Activation::Elu { alpha: parameter },
        4 => Activation::Sigmoid,
        5 => Activation::Tanh,
        6 => Activation::Softplus,
        7 => Activation::Silu,
        _ => Activation::Gelu,
    })
}

/// Fails unless all elements have the same bits; all NaNs are equal.
pub fn assert_same(found: &[f32], expected: &[f32], isa: Isa) {
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{isa}: {a:e} for {b:e} at {i}");
    }
}

/// Lists the instruction sets of this host that keep the contract bit for bit, with an arbitrary number of
/// threads.
pub fn backends(u: &mut Unstructured<'_>) -> Result<Vec<Backend>> {
    let pieces = u.int_in_range(1..=4)?;
    let threads = NonZeroUsize::new(pieces).map_or(Threads::One, Threads::Exactly);
    let exact = Isa::available().into_iter().filter(|&isa| isa != Isa::Portable);
    Ok(exact.filter_map(|isa| Backend::with_isa(isa).ok()).map(|backend| backend.with_threads(threads)).collect())
}
