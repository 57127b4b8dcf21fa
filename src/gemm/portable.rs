//! Products without guaranteed fused multiply-add, by `matrixmultiply`.
//!
//! It brings kernels for processors that this crate has none for, and allocates its packing buffers in each
//! call.

use super::epilogue::Corner;
use super::packed::BOperand;
use super::product::{Bias, Product, Sizes, Summation};
use crate::contract::{CHUNK_ROWS, ROW_LANES};
use crate::matrix::{MatPtr, Size};
use crate::simd::portable::Portable;

/// Computes a product as [`driver`](super::driver) does, within the error bound of the portable instruction
/// set.
pub(super) fn gemm(mut p: Product<'_>) {
    let Sizes { m, n, k } = p.sizes();
    if m == 0 || n == 0 {
        return;
    }
    let biased = write_bias(&mut p);
    let kc = match p.summation {
        Summation::Running => k.max(1),
        Summation::Chunked => CHUNK_ROWS,
    };
    for pc in (0..k.div_ceil(kc).max(1)).map(|i| i * kc) {
        let beta = if pc == 0 && !biased { 0.0 } else { 1.0 };
        let depth = kc.min(k - pc);
        match p.b {
            BOperand::Strided(b) => {
                let part = BPart { b: b.as_mat_ptr().from(pc, 0), pc, depth, jc: 0, cols: n };
                // SAFETY: m, n and k are sizes that all three operands have.
                unsafe { multiply(&mut p, m, part, beta) };
            }
            BOperand::Packed(b) => {
                for jc in (0..n).step_by(ROW_LANES) {
                    let rows = b.rows_from(pc, jc).as_ptr().cast_mut().cast();
                    let b = MatPtr { p: rows, row_stride: ROW_LANES, col_stride: 1 };
                    let part = BPart { b, pc, depth, jc, cols: ROW_LANES.min(n - jc) };
                    // SAFETY: as above; a panel has `depth` rows from `pc` on.
                    unsafe { multiply(&mut p, m, part, beta) };
                }
            }
        }
    }
    let c = p.c.as_mat_ptr();
    // SAFETY: C has m rows and n columns.
    unsafe { p.epilogue.apply(Portable, c, Corner { row: 0, col: 0 }, Size { rows: m, cols: n }) };
}

/// Writes the bias to C; returns whether there is one.
fn write_bias(p: &mut Product<'_>) -> bool {
    let Sizes { m, n, .. } = p.sizes();
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let bias = match p.bias {
            Bias::None => return false,
            Bias::Columns(bias) => bias.get(j),
            Bias::Rows(bias) => bias.get(i),
        };
        p.c.set(i, j, bias.copied().unwrap_or(0.0));
    }
    true
}

/// Columns of B from `jc` on, over k-steps from `pc` on.
#[derive(Clone, Copy)]
struct BPart {
    b: MatPtr,
    pc: usize,
    depth: usize,
    jc: usize,
    cols: usize,
}

/// C = A B + beta C, for a part of B.
///
/// # Safety
/// A has m rows and the part's k-steps, C m rows and the part's columns.
unsafe fn multiply(p: &mut Product<'_>, m: usize, BPart { b, pc, depth, jc, cols }: BPart, beta: f32) {
    let (a, c) = (p.a.as_mat_ptr().from(0, pc), p.c.as_mat_ptr().from(0, jc));
    let strides = |x: MatPtr| (x.row_stride as isize, x.col_stride as isize);
    let ((a_row, a_col), (b_row, b_col), (c_row, c_col)) = (strides(a), strides(b), strides(c));
    // SAFETY: the three matrices have these sizes, and no two elements of C share a place.
    unsafe {
        matrixmultiply::sgemm(m, depth, cols, 1.0, a.p, a_row, a_col, b.p, b_row, b_col, beta, c.p, c_row, c_col)
    };
}
