//! y = activation(x w + bias) for a single sample with packed weights: a GEMV.
//!
//! There is nothing to plan, which for small layers would take longer than the sums.

use std::ops::Range;

use super::element::Element;
use super::epilogue::{Corner, Epilogue};
use super::microtile::Store;
use super::packed::Panels;
use crate::contract::ROW_LANES;
use crate::kernels::activation::Activation;
use crate::matrix::MatPtr;
use crate::simd::Simd;
use crate::simd::tier::Tier;

/// Most panels that are read at a time: so many chains of multiply-adds hide each other's latency.
const MAX_PANELS: usize = 4;

/// Computes as many elements of y as `w` has columns, or `y` and the bias have elements, if those are fewer.
///
/// The sums are those of a [`Product`](super::product::Product) with fused multiply-add.
#[inline(always)]
pub(crate) fn forward<T: Tier, E: Element>(
    tier: T,
    x: &[f32],
    w: Panels<'_, E>,
    bias: Option<&[f32]>,
    activation: Activation,
    y: &mut [f32],
) {
    let s = tier.row();
    let cols = w.cols().min(y.len()).min(bias.map_or(usize::MAX, <[f32]>::len));
    let y = &mut y[..cols];
    let x = &x[..w.depth().min(x.len())];
    let epilogue = Epilogue::Activation(activation);
    let relu = matches!(epilogue.in_registers(), Store::Relu);
    for (i, y) in y.chunks_mut(MAX_PANELS * ROW_LANES).enumerate() {
        let col = i * MAX_PANELS * ROW_LANES;
        let (rows, bias) = (w.rows_from(0, col), bias.map(|bias| &bias[col..]));
        let gemv: Gemv<'_, T::Row, E> = Gemv { s, x, rows, depth: w.depth(), bias, relu, y };
        match gemv.y.len().div_ceil(ROW_LANES) {
            1 => gemv.panels::<1>(),
            2 => gemv.panels::<2>(),
            3 => gemv.panels::<3>(),
            _ => gemv.panels::<MAX_PANELS>(),
        }
    }
    let block = MatPtr { p: y.as_mut_ptr(), row_stride: cols, col_stride: 1 };
    // SAFETY: y is a row of `cols` elements.
    unsafe { epilogue.finish(tier.vector(), block, Corner { row: 0, col: 0 }, 1, cols) };
}

/// The share of up to [`MAX_PANELS`] panels.
struct Gemv<'a, S, E: Element> {
    s: S,
    x: &'a [f32],
    /// Rows of these panels, and of those behind them, `depth` each.
    rows: &'a [E::PanelRow],
    depth: usize,
    bias: Option<&'a [f32]>,
    relu: bool,
    y: &'a mut [f32],
}

impl<S: Simd, E: Element> Gemv<'_, S, E> {
    #[inline(always)]
    fn panels<const N: usize>(self) {
        let Self { s, x, rows, depth, bias, relu, y } = self;
        let zero = s.splat(0.0);
        let panels: [&[E::PanelRow]; N] = std::array::from_fn(|panel| &rows[panel * depth..][..x.len()]);
        // Indexed only by loops of constant length, or they would be in memory.
        let mut sums = [zero; N];
        if let Some(bias) = bias {
            for (panel, sum) in sums.iter_mut().enumerate() {
                let bias = &bias[columns(panel, y.len())];
                // SAFETY: the slice has these elements, at most a vector's lanes.
                *sum = unsafe { s.load_first(bias.as_ptr(), bias.len(), zero) };
            }
        }
        for (k, &x) in x.iter().enumerate() {
            let x = s.splat(x);
            for (sum, panel) in sums.iter_mut().zip(panels) {
                // SAFETY: a panel's row has as many elements as a row vector has lanes.
                *sum = s.fma(x, unsafe { E::load(s, std::ptr::from_ref(&panel[k]).cast()) }, *sum);
            }
        }
        for (panel, sum) in sums.into_iter().enumerate() {
            let sum = if relu { s.max(zero, sum) } else { sum };
            let cols = columns(panel, y.len());
            let y = &mut y[cols];
            // SAFETY: the slice has these elements, at most a vector's lanes.
            unsafe { s.store_first(y.as_mut_ptr(), y.len(), sum) };
        }
    }
}

/// The columns of a panel, of `cols` in all.
#[inline(always)]
fn columns(panel: usize, cols: usize) -> Range<usize> {
    let first = (panel * ROW_LANES).min(cols);
    first..(first + ROW_LANES).min(cols)
}
