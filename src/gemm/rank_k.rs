//! Products of a small depth, as of the weight gradient of a few samples: written row by row.
//!
//! ```text
//! for each pair of rows i of C
//!   x[i][k] = A[i][k]                                     K registers a row
//!   for each vector j of the row
//!     acc[i] = bias[j];  acc[i] = fma(x[i][k], B[k][j], acc[i])  for k in 0..K
//!     C[i][j] = finish(acc[i])
//! ```
//!
//! Such a product is bound by the writing of C. Tiles would write it in pieces, and spend more time on
//! their way in and out than on their sums.

use super::packed::BOperand;
use super::product::{Bias, Depth, Epilogue, Product};
use crate::kernels::activation::Activation;
use crate::matrix::MatRef;
use crate::simd::strided::{load_strided, store_strided};
use crate::simd::{Simd, SimdOp};
use crate::tuning::gemm::{RANK_K_B, RANK_K_MAX_DEPTH, WRITE_PREFETCH};

/// Computes a product if its depth is small and the rows of B and C are without gaps.
#[inline(always)]
pub(super) fn flat<S: Simd>(s: S, p: &mut Product<'_>) -> bool {
    let (m, n, k) = p.sizes();
    let bias = match p.bias {
        Bias::None => std::ptr::null(),
        Bias::Columns(bias) => bias.as_ptr(),
        Bias::Rows(_) => return false,
    };
    let relu = match p.epilogue {
        Epilogue::None | Epilogue::Value(Activation::Linear) => false,
        Epilogue::Value(Activation::Relu) if p.depth == Depth::Running => true,
        _ => return false,
    };
    let BOperand::Strided(b) = p.b else { return false };
    if k == 0 || k > RANK_K_MAX_DEPTH || k * n > RANK_K_B || b.col_stride() != 1 || p.c.col_stride() != 1 {
        return false;
    }
    p.add_columns(s);
    let (c, c_row) = (p.c.as_mut_ptr(), p.c.row_stride());
    let flat = Flat { s, a: p.a, b, c, c_row, bias, relu, size: [m, n] };
    match k {
        1 => s.outline(Deep::<S, 1>(flat)),
        2 => s.outline(Deep::<S, 2>(flat)),
        3 => s.outline(Deep::<S, 3>(flat)),
        4 => s.outline(Deep::<S, 4>(flat)),
        5 => s.outline(Deep::<S, 5>(flat)),
        6 => s.outline(Deep::<S, 6>(flat)),
        7 => s.outline(Deep::<S, 7>(flat)),
        _ => s.outline(Deep::<S, RANK_K_MAX_DEPTH>(flat)),
    }
    true
}

/// The product's operands: views, or what [`flat`] found out of them.
#[derive(Clone, Copy)]
struct Flat<'a, S> {
    s: S,
    a: MatRef<'a>,
    b: MatRef<'a>,
    c: *mut f32,
    c_row: usize,
    /// Null for zeros.
    bias: *const f32,
    relu: bool,
    /// Rows and columns of C.
    size: [usize; 2],
}

/// A product of depth `K`, as a function of its own.
struct Deep<'a, S, const K: usize>(Flat<'a, S>);

impl<S: Simd, const K: usize> SimdOp for Deep<'_, S, K> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [m, _] = self.0.size;
        let mut i = 0;
        // SAFETY: the rows are C's and A's.
        unsafe {
            // Pair as many rows would not fit 16 registers.
            while S::REGISTERS >= 32 && i + 2 <= m {
                self.0.rows::<K, 2>(i);
                i += 2;
            }
            while i < m {
                self.0.rows::<K, 1>(i);
                i += 1;
            }
        }
    }
}

impl<S: Simd> Flat<'_, S> {
    /// `MR` rows of C from row `i` on.
    ///
    /// # Safety
    /// A and C have these rows, A has `K` columns, B `K` rows, and B, C and the bias have all columns.
    #[inline(always)]
    unsafe fn rows<const K: usize, const MR: usize>(self, i: usize) {
        let Self { s, a, b, c_row, bias, relu, size: [_, n], .. } = self;
        let c = self.c.wrapping_add(i * c_row);
        let zero = s.splat(0.0);
        // SAFETY: the caller's.
        unsafe {
            let mut x = [[zero; K]; MR];
            for (row, x) in x.iter_mut().enumerate() {
                for (k, x) in x.iter_mut().enumerate() {
                    *x = s.splat(*a.as_ptr().wrapping_add((i + row) * a.row_stride() + k * a.col_stride()));
                }
            }
            let mut j = 0;
            while j < n {
                let lanes = S::LANES.min(n - j);
                let start = if bias.is_null() { zero } else { load_strided(s, bias.wrapping_add(j), 1, lanes, zero) };
                let mut acc = [start; MR];
                for k in 0..K {
                    let w = load_strided(s, b.as_ptr().wrapping_add(k * b.row_stride() + j), 1, lanes, zero);
                    for (acc, x) in acc.iter_mut().zip(&x) {
                        *acc = s.fma(x[k], w, *acc);
                    }
                }
                for (row, acc) in acc.into_iter().enumerate() {
                    let acc = if relu { s.max(zero, acc) } else { acc };
                    let c = c.wrapping_add(row * c_row + j);
                    s.prefetch(c.wrapping_add(WRITE_PREFETCH));
                    store_strided(s, c, 1, lanes, acc);
                }
                j += S::LANES;
            }
        }
    }
}
