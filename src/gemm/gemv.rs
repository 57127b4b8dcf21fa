//! One sample through a dense layer with packed weights: its product has nothing to plan, which would take longer than small
//! layers do.

use std::ops::Range;

use super::packed::{Line, Panels};
use crate::contract::ROW_LANES;
use crate::kernels::activation::Activation;
use crate::kernels::activation_formulas::ActivationBlock;
use crate::matrix::{MatPtr, Size};
use crate::simd::Simd;
use crate::simd::tier::Tier;

/// y = activation(x w + bias), of as many elements as `w` has columns, or `y` elements if those are fewer; the sums are
/// those of a [`Product`](super::product::Product) with fma. The bias is as long, or missing.
#[inline(always)]
pub(crate) fn forward<T: Tier>(
    tier: T,
    x: &[f32],
    w: Panels<'_>,
    bias: Option<&[f32]>,
    activation: Activation,
    y: &mut [f32],
) {
    let s = tier.row();
    let cols = w.cols().min(y.len()).min(bias.map_or(usize::MAX, <[f32]>::len));
    let y = &mut y[..cols];
    let x = &x[..w.depth().min(x.len())];
    let relu = activation == Activation::Relu;
    for (number, y) in y.chunks_mut(MOST * ROW_LANES).enumerate() {
        let col = number * MOST * ROW_LANES;
        let row =
            Row { s, x, lines: w.lines_from(0, col), depth: w.depth(), bias: bias.map(|bias| &bias[col..]), relu, y };
        match row.y.len().div_ceil(ROW_LANES) {
            1 => row.panels::<1>(),
            2 => row.panels::<2>(),
            3 => row.panels::<3>(),
            _ => row.panels::<MOST>(),
        }
    }
    if !matches!(activation, Activation::Linear | Activation::Relu) {
        let block = MatPtr { p: y.as_mut_ptr(), row_stride: cols, col_stride: 1 };
        // SAFETY: y is a row of so many.
        unsafe {
            ActivationBlock { s: tier.vector(), activation, saved: None, block, size: Size { rows: 1, cols } }.apply()
        };
    }
}

/// The most panels that are worked on at a time.
const MOST: usize = 4;

/// At most [`MOST`] panels' share of a layer.
struct Row<'a, S> {
    s: S,
    x: &'a [f32],
    /// Of these panels, and those behind them, `depth` each.
    lines: &'a [Line],
    depth: usize,
    bias: Option<&'a [f32]>,
    relu: bool,
    y: &'a mut [f32],
}

impl<S: Simd> Row<'_, S> {
    #[inline(always)]
    fn panels<const N: usize>(self) {
        let Self { s, x, lines, depth, bias, relu, y } = self;
        let zero = s.splat(0.0);
        let panels: [&[Line]; N] = std::array::from_fn(|panel| &lines[panel * depth..][..x.len()]);
        // Only ever gone through in loops of constant length: else they would be in memory.
        let mut sums = [zero; N];
        if let Some(bias) = bias {
            for (panel, sum) in sums.iter_mut().enumerate() {
                let bias = &bias[columns(panel, y.len())];
                // SAFETY: the part has so many.
                *sum = unsafe { s.load_first(bias.as_ptr(), bias.len(), zero) };
            }
        }
        for (k, &x) in x.iter().enumerate() {
            let x = s.splat(x);
            for (sum, panel) in sums.iter_mut().zip(panels) {
                // SAFETY: a line has as many floats as a row's vector has lanes.
                *sum = s.fma(x, unsafe { s.load(panel[k].0.as_ptr()) }, *sum);
            }
        }
        for (panel, sum) in sums.into_iter().enumerate() {
            let sum = if relu { s.max(zero, sum) } else { sum };
            let cols = columns(panel, y.len());
            let y = &mut y[cols];
            // SAFETY: the part has so many.
            unsafe { s.store_first(y.as_mut_ptr(), y.len(), sum) };
        }
    }
}

/// A panel's columns of so many.
#[inline(always)]
fn columns(panel: usize, cols: usize) -> Range<usize> {
    let first = (panel * ROW_LANES).min(cols);
    first..(first + ROW_LANES).min(cols)
}
