//! What the targets draw from the fuzzer's bytes: matrices of any strides and values, activations, backends.

use std::num::NonZeroUsize;

use densely::{Activation, Backend, Threads};
use densely_testkit::activations::with_parameters;
use densely_testkit::{Layout, Matrix, Random, Strides, exact_backends};
use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// Draws the strides of a matrix with gaps of up to three floats between rows or columns.
fn any_layout(u: &mut Unstructured<'_>, [rows, cols]: [usize; 2]) -> Result<Layout> {
    let (inner, gap) = (u.int_in_range(1..=2)?, u.int_in_range(0..=3)?);
    let transposed = u.arbitrary::<bool>()?;
    let outer = (inner * if transposed { rows } else { cols }).max(1) + gap;
    let (row, col) = if transposed { (inner, outer) } else { (outer, inner) };
    Ok(Layout::Strided(Strides { row, col }))
}

/// Draws an output.
pub fn any_output(u: &mut Unstructured<'_>, shape: [usize; 2]) -> Result<Matrix> {
    Ok(Matrix::unwritten(shape, any_layout(u, shape)?))
}

/// Draws an input.
pub fn any_matrix(u: &mut Unstructured<'_>, shape: [usize; 2]) -> Result<Matrix> {
    let layout = any_layout(u, shape)?;
    let mut values = Values::any(u)?;
    Ok(Matrix::from_fn(shape, layout, |_, _| values.next(u)))
}

/// Where values come from.
pub enum Values {
    /// The fuzzer's bytes, as any bits; 0 when they are used up.
    Bits,
    /// A generator, between -0.5 and 0.5: few bytes fill any size.
    Random(Random),
}

impl Values {
    pub fn any(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(if u.arbitrary()? { Self::Random(Random::new(u.arbitrary::<u32>()?.into())) } else { Self::Bits })
    }

    pub fn next(&mut self, u: &mut Unstructured<'_>) -> f32 {
        match self {
            Self::Bits => f32::from_bits(u.arbitrary().unwrap_or(0)),
            Self::Random(random) => random.uniform() / 2.0,
        }
    }

    pub fn take(&mut self, u: &mut Unstructured<'_>, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next(u)).collect()
    }
}

/// Draws an activation with a parameter in its range.
pub fn any_activation(u: &mut Unstructured<'_>) -> Result<Activation> {
    let parameter = f32::from(u.arbitrary::<u8>()?) / 64.0;
    let activations = with_parameters(parameter, parameter);
    Ok(activations[u.int_in_range(0..=activations.len() - 1)?])
}

/// Draws a number of threads; gives every instruction set with fused multiply-add on it.
pub fn any_backends(u: &mut Unstructured<'_>) -> Result<Vec<Backend>> {
    let threads = NonZeroUsize::new(u.int_in_range(1..=4)?).map_or(Threads::One, Threads::Exactly);
    Ok(exact_backends().into_iter().map(|backend| backend.with_threads(threads)).collect())
}
