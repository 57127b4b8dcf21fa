//! The portable tier's products, by `matrixmultiply`: it brings kernels for processors that have
//! no tier here, and allocates its packing buffers anew in each call.

use super::CHUNK_ROWS;
use super::gemm::{Depth, Epilogue, Product};

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
    if let Some(bias) = p.bias {
        for i in 0..m {
            for (j, &bias) in bias.iter().enumerate().take(n) {
                p.c.set(i, j, bias);
            }
        }
    }
    let blocks = k.div_ceil(block).max(1);
    for k0 in (0..blocks).map(|i| i * block) {
        let beta = if k0 == 0 && p.bias.is_none() { 0.0 } else { 1.0 };
        let (a_row, a_col) = (p.a.row_stride(), p.a.col_stride());
        let (b_row, b_col) = (p.b.row_stride(), p.b.col_stride());
        let (c_row, c_col) = (p.c.row_stride(), p.c.col_stride());
        // SAFETY: m, n and k are sizes that all three views have, and C's elements are distinct.
        unsafe {
            matrixmultiply::sgemm(
                m,
                block.min(k - k0),
                n,
                1.0,
                p.a.as_ptr().wrapping_add(k0 * a_col),
                a_row as isize,
                a_col as isize,
                p.b.as_ptr().wrapping_add(k0 * b_row),
                b_row as isize,
                b_col as isize,
                beta,
                p.c.as_mut_ptr(),
                c_row as isize,
                c_col as isize,
            );
        }
    }
    for i in 0..m {
        for j in 0..n {
            let zeroes = match p.epilogue {
                Epilogue::None => break,
                Epilogue::Relu => p.c.get(i, j) < Some(0.0),
                Epilogue::Gate(gate) => !matches!(gate.get(i, j), Some(gate) if gate > 0.0),
            };
            if zeroes {
                p.c.set(i, j, 0.0);
            }
        }
    }
}
