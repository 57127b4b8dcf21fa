//! Packing: a block of B copied to panels of one vector's width, each a column of vectors.
//!
//! ```text
//! panel 0: B[0][0..16], B[1][0..16], ... B[depth-1][0..16]; panel 1: B[0][16..32], ...
//! ```
//!
//! Whatever strides B has, a tile then walks through memory without gaps. Rows of A are packed in the
//! same way, as the columns of A's transpose, with as many to a panel as a tile has rows.

use crate::simd::Simd;
use crate::tuning::gemm::{PACK_ROWS, STREAM_PREFETCH};

/// Copies `depth` rows by `cols` columns of B to panels of `width` columns (at most `LANES`); what
/// stands in a vector behind the last column is not to be used.
///
/// # Safety
/// The elements of B can be read; `to` has room for `depth` vectors for every `width` columns begun.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd>(
    s: S,
    b: *const f32,
    [b_row, b_col]: [usize; 2],
    [depth, cols]: [usize; 2],
    width: usize,
    to: *mut f32,
) {
    let panel = depth * S::LANES;
    // SAFETY: the caller's; rows stay below `depth` and columns below `cols`.
    unsafe {
        if b_col == 1 || cols == 1 {
            for first in (0..depth).step_by(PACK_ROWS) {
                for (j, col) in (0..cols).step_by(width).enumerate() {
                    for k in first..depth.min(first + PACK_ROWS) {
                        let (from, to) = (b.wrapping_add(k * b_row + col), to.wrapping_add(j * panel + k * S::LANES));
                        let row = if col + S::LANES <= cols {
                            s.load(from)
                        } else {
                            s.load_first(from, cols - col, s.splat(0.0))
                        };
                        s.prefetch_l2(from.wrapping_add(STREAM_PREFETCH));
                        s.store(to, row);
                    }
                }
            }
            return;
        }
        for (j, col) in (0..cols).step_by(width).enumerate() {
            let (from, to) = (b.wrapping_add(col * b_col), to.wrapping_add(j * panel));
            let lanes = width.min(cols - col);
            let mut done = 0;
            if b_row == 1 && lanes == S::LANES {
                done = pack_columns(s, from, b_col, S::LANES, depth, to);
            } else if b_row == 1 {
                done = pack_columns(s, from, b_col, lanes, depth, to);
            }
            for k in done..depth {
                for lane in 0..lanes {
                    *to.add(k * S::LANES + lane) = *from.add(k * b_row + lane * b_col);
                }
            }
        }
    }
}

/// Packs one panel of columns whose elements are neighbours, four rows at a time; the rows done.
///
/// # Safety
/// As for [`pack`].
#[inline(always)]
unsafe fn pack_columns<S: Simd>(
    s: S,
    from: *const f32,
    stride: usize,
    cols: usize,
    depth: usize,
    to: *mut f32,
) -> usize {
    let mut done = 0;
    while done + 4 <= depth {
        // SAFETY: the caller's.
        unsafe {
            let rows = s.load_4_columns(from.add(done), stride, cols);
            for (k, row) in rows.into_iter().enumerate() {
                s.store(to.add((done + k) * S::LANES), row);
            }
        }
        done += 4;
    }
    done
}
