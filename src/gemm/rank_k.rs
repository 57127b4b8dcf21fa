//! Rank-k updates of a small depth, such as the weight gradient of a few samples: C is written row by row.
//!
//! ```text
//! for each pair of rows i of C
//!   a[i][k] = A[i][k]                                     K registers per row
//!   for each vector j of the row
//!     acc[i] = bias[j];  acc[i] = fma(a[i][k], B[k][j], acc[i])  for k in 0..K
//!     C[i][j] = store(acc[i])
//! ```
//!
//! Such a product is bound by writing C. Micro-tiles would write it in short runs, and spend more time on
//! starting and storing than on their sums.

use super::microtile::Store;
use super::packed::BOperand;
use super::product::{Bias, Product, Sizes};
use crate::matrix::MatPtr;
use crate::simd::strided::{load_strided, store_strided};
use crate::simd::{Simd, SimdOp};
use crate::tuning::gemm::{RANK_K_B, RANK_K_MAX_DEPTH, WRITE_PREFETCH};

/// Computes a product if its depth is small and the rows of B and C are contiguous; returns whether it did.
#[inline(always)]
pub(super) fn run<S: Simd>(s: S, p: &mut Product<'_>) -> bool {
    let Sizes { m, n, k } = p.sizes();
    let bias = match p.bias {
        Bias::None => std::ptr::null(),
        Bias::Columns(bias) => bias.as_ptr(),
        Bias::Rows(_) => return false,
    };
    let (BOperand::Strided(b), Some(store)) = (p.b, p.epilogue.as_store()) else { return false };
    if k == 0 || k > RANK_K_MAX_DEPTH || k * n > RANK_K_B || b.col_stride() != 1 || p.c.col_stride() != 1 {
        return false;
    }
    p.write_column_sums(s);
    let update = Update { s, a: p.a.as_mat_ptr(), b: b.as_mat_ptr(), c: p.c.as_mat_ptr(), bias, store, m, n };
    match k {
        1 => s.outline(OfDepth::<S, 1>(update)),
        2 => s.outline(OfDepth::<S, 2>(update)),
        3 => s.outline(OfDepth::<S, 3>(update)),
        4 => s.outline(OfDepth::<S, 4>(update)),
        5 => s.outline(OfDepth::<S, 5>(update)),
        6 => s.outline(OfDepth::<S, 6>(update)),
        7 => s.outline(OfDepth::<S, 7>(update)),
        _ => s.outline(OfDepth::<S, RANK_K_MAX_DEPTH>(update)),
    }
    true
}

/// The operands: C is m x n, its rows and those of B are contiguous.
#[derive(Clone, Copy)]
struct Update<S> {
    s: S,
    a: MatPtr,
    b: MatPtr,
    c: MatPtr,
    /// Null for zeros.
    bias: *const f32,
    store: Store,
    m: usize,
    n: usize,
}

/// An update of depth `K`, as a function of its own.
struct OfDepth<S, const K: usize>(Update<S>);

impl<S: Simd, const K: usize> SimdOp for OfDepth<S, K> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mut i = 0;
        // SAFETY: rows below m are those of A and C; `run` has checked the depth and the columns.
        unsafe {
            // Two rows would not fit 16 registers.
            while S::REGISTERS >= 32 && i + 2 <= self.0.m {
                self.0.rows::<K, 2>(i);
                i += 2;
            }
            while i < self.0.m {
                self.0.rows::<K, 1>(i);
                i += 1;
            }
        }
    }
}

impl<S: Simd> Update<S> {
    /// Writes `MR` rows of C from row `i` on.
    ///
    /// # Safety
    /// A and C have these rows, A has `K` columns, B `K` rows, and B, C and the bias have n columns.
    #[inline(always)]
    unsafe fn rows<const K: usize, const MR: usize>(self, i: usize) {
        let Self { s, a, b, bias, store, n, .. } = self;
        let (zero, relu) = (s.splat(0.0), matches!(store, Store::Relu));
        let mut x = [[zero; K]; MR];
        for (row, x) in x.iter_mut().enumerate() {
            for (k, x) in x.iter_mut().enumerate() {
                // SAFETY: A has this row and column.
                *x = s.splat(unsafe { *a.at(i + row, k) });
            }
        }
        for j in (0..n).step_by(S::LANES) {
            let lanes = S::LANES.min(n - j);
            // SAFETY: `lanes` columns from j on are those of the bias, B and C.
            unsafe {
                let start = if bias.is_null() { zero } else { load_strided(s, bias.wrapping_add(j), 1, lanes, zero) };
                let mut acc = [start; MR];
                for k in 0..K {
                    let b = load_strided(s, b.p.wrapping_add(k * b.row_stride + j), 1, lanes, zero);
                    for (acc, x) in acc.iter_mut().zip(&x) {
                        *acc = s.fma(x[k], b, *acc);
                    }
                }
                for (row, acc) in acc.into_iter().enumerate() {
                    let acc = if relu { s.max(zero, acc) } else { acc };
                    let c = self.c.p.wrapping_add((i + row) * self.c.row_stride + j);
                    s.prefetch(c.wrapping_add(WRITE_PREFETCH));
                    store_strided(s, c, 1, lanes, acc);
                }
            }
        }
    }
}
