//! Packing: a block of B copied into panels of one vector's width.
//!
//! ```text
//! panel 0: B[0][0..16], B[1][0..16], ... B[depth-1][0..16]; panel 1: B[0][16..32], ...
//! ```
//!
//! Whatever strides B has, a micro-kernel then reads memory contiguously. Rows of A are packed in the same
//! way, as the columns of its transpose, MR to a panel.

use crate::matrix::{MatPtr, Size};
use crate::simd::Simd;
use crate::tuning::gemm::{PACK_ROWS, STREAM_PREFETCH};

/// Packs a block of B into panels of `width` columns (at most `LANES`).
///
/// What a panel's vectors hold behind the last column means nothing.
///
/// # Safety
/// B has `size` to read; `to` has room for a vector per row for every `width` columns begun.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd>(s: S, b: MatPtr, size: Size, width: usize, to: *mut f32) {
    let Size { rows: depth, cols } = size;
    let panel = depth * S::LANES;
    // SAFETY: rows stay below `depth` and columns below `cols`.
    unsafe {
        if b.col_stride == 1 || cols == 1 {
            return pack_rows(s, b, size, width, to);
        }
        for (j, col) in (0..cols).step_by(width).enumerate() {
            let (from, to) = (b.from(0, col), to.wrapping_add(j * panel));
            let lanes = width.min(cols - col);
            // Where the number of columns is known to the compiler, none is looked at on its own.
            let done = match b.row_stride {
                1 if lanes == S::LANES => pack_columns(s, from, S::LANES, depth, to),
                1 => pack_columns(s, from, lanes, depth, to),
                _ => 0,
            };
            for k in done..depth {
                for lane in 0..lanes {
                    *to.add(k * S::LANES + lane) = *from.at(k, lane);
                }
            }
        }
    }
}

/// [`pack`] for contiguous rows.
///
/// # Safety
/// As for [`pack`].
#[inline(always)]
unsafe fn pack_rows<S: Simd>(s: S, b: MatPtr, size: Size, width: usize, to: *mut f32) {
    let Size { rows: depth, cols } = size;
    for first in (0..depth).step_by(PACK_ROWS) {
        for (j, col) in (0..cols).step_by(width).enumerate() {
            for k in first..depth.min(first + PACK_ROWS) {
                let (from, to) = (b.at(k, col), to.wrapping_add((j * depth + k) * S::LANES));
                // SAFETY: row k has `cols - col` elements from here on, the panel a vector.
                unsafe {
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
    }
}

/// Packs one panel of contiguous columns, four rows at a time; returns the rows done.
///
/// # Safety
/// As for [`pack`].
#[inline(always)]
unsafe fn pack_columns<S: Simd>(s: S, from: MatPtr, cols: usize, depth: usize, to: *mut f32) -> usize {
    let mut done = 0;
    while done + 4 <= depth {
        // SAFETY: the columns have four elements from `done` on, the panel four vectors.
        unsafe {
            let rows = s.load_4_columns(from.p.add(done), from.col_stride, cols);
            for (k, row) in rows.into_iter().enumerate() {
                s.store(to.add((done + k) * S::LANES), row);
            }
        }
        done += 4;
    }
    done
}
