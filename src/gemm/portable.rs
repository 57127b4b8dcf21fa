//! The portable tier's products, by `matrixmultiply`: it brings kernels for processors that have
//! no tier here, and allocates its packing buffers anew in each call.

use super::packed::BOperand;
use super::product::{Bias, Depth, Epilogue, Product};
use crate::contract::{CHUNK_ROWS, ROW_LANES};
use crate::kernels::activation_formulas::ActivationBlock;
use crate::matrix::Size;
use crate::simd::portable::Portable;

/// Computes a product as `gemm` does, within the bound of the portable tier.
pub(crate) fn gemm(mut p: Product<'_>) {
    let (m, n, k) = p.sizes();
    if m == 0 || n == 0 {
        return;
    }
    let block = match p.depth {
        Depth::Running => k.max(1),
        Depth::Chunked => CHUNK_ROWS,
    };
    let biased = !matches!(p.bias, Bias::None);
    for i in 0..if biased { m } else { 0 } {
        for j in 0..n {
            let bias = match p.bias {
                Bias::None => None,
                Bias::Columns(bias) => bias.get(j),
                Bias::Rows(bias) => bias.get(i),
            };
            p.c.set(i, j, bias.copied().unwrap_or(0.0));
        }
    }
    let blocks = k.div_ceil(block).max(1);
    for k0 in (0..blocks).map(|i| i * block) {
        let beta = if k0 == 0 && !biased { 0.0 } else { 1.0 };
        let depth = block.min(k - k0);
        match p.b {
            BOperand::Strided(b) => {
                let (row, col) = (b.row_stride(), b.col_stride());
                // SAFETY: m, n and k are sizes that all three views have.
                unsafe { add(&mut p, [m, depth, n], k0, 0, b.as_ptr().wrapping_add(k0 * row), [row, col], beta) };
            }
            BOperand::Packed(b) => {
                for j in (0..n).step_by(ROW_LANES) {
                    let lines = b.lines_from(k0, j).as_ptr().cast();
                    // SAFETY: as above; a panel has `depth` lines from k0 on.
                    unsafe { add(&mut p, [m, depth, ROW_LANES.min(n - j)], k0, j, lines, [ROW_LANES, 1], beta) };
                }
            }
        }
    }
    let (activation, kept) = match p.epilogue {
        Epilogue::None => return,
        Epilogue::Value(activation) => (activation, None),
        Epilogue::Gradient(activation, kept) => (activation, Some(kept.as_mat_ptr())),
    };
    let block = p.c.as_mat_ptr();
    // SAFETY: C and what was kept have m rows and n columns.
    unsafe { ActivationBlock { s: Portable, activation, saved: kept, block, size: Size { rows: m, cols: n } }.apply() };
}

/// Columns from j on of C = A B + beta C, over `depth` steps from k on.
///
/// # Safety
/// A and C have m rows, A so many columns from k on and C n columns from j on; `b` has `depth` rows
/// of n.
unsafe fn add(
    p: &mut Product<'_>,
    [m, depth, n]: [usize; 3],
    k: usize,
    j: usize,
    b: *const f32,
    b_strides: [usize; 2],
    beta: f32,
) {
    let (a_row, a_col) = (p.a.row_stride(), p.a.col_stride());
    let (c_row, c_col) = (p.c.row_stride(), p.c.col_stride());
    let [b_row, b_col] = b_strides.map(|stride| stride as isize);
    let a = p.a.as_ptr().wrapping_add(k * a_col);
    let c = p.c.as_mut_ptr().wrapping_add(j * c_col);
    // SAFETY: the caller's; C's elements are distinct.
    unsafe {
        let (a_row, a_col, c_row, c_col) = (a_row as isize, a_col as isize, c_row as isize, c_col as isize);
        matrixmultiply::sgemm(m, depth, n, 1.0, a, a_row, a_col, b, b_row, b_col, beta, c, c_row, c_col);
    }
}
