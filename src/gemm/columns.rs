//! k-steps over contiguous columns of B: four at a time, transposed in registers.
//!
//! Columns whose stride conflicts go through a stage: a piece of each, several cache lines, is copied while
//! the piece before it is consumed, so that no set of a cache holds more than its ways.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::access::BAccess;
use super::element::Line;
use super::k_loop::{Acc, Cursor, Vectors};
use super::microtile::{MicroTile, at};
use crate::simd::strided::load_strided;
use crate::simd::{MAX_LANES, Simd};
use crate::tuning::CACHE_LINE;
use crate::tuning::gemm::{STAGED_PIECE, STREAM_PREFETCH};

/// Elements of the staged pieces of a vector's columns.
const STAGE: usize = STAGED_PIECE * MAX_LANES;
/// k-steps between staging two columns, so that all of the next piece is staged while this one is consumed.
const STEPS_PER_STAGED_COLUMN: usize = STAGED_PIECE / MAX_LANES;

/// Takes four k-steps at a time from contiguous columns of B, transposed in registers, while there are four.
///
/// # Safety
/// As for [`microtile`].
#[inline(always)]
pub(super) unsafe fn by_columns<S: Simd, B: BAccess, const MR: usize, const NV: usize, const FULL: bool>(
    vectors: Vectors<S>,
    t: &MicroTile,
    cursor: &mut Cursor<B::Element>,
    acc: &mut Acc<S, MR, NV>,
) {
    let s = vectors.s;
    let mut stages = [MaybeUninit::<Line>::uninit(); 2 * STAGE / MAX_LANES];
    let stages = stages.as_mut_ptr().cast::<f32>();
    // SAFETY: columns are staged and read up to the end of the depth, and of the columns.
    unsafe {
        if B::STAGED {
            stage(s, cursor.b.cast(), t.b.col, 0..t.cols.min(S::LANES), cursor.left, stages);
        }
        while cursor.left >= 4 {
            let (b, done) = (cursor.b.cast::<f32>(), t.depth - cursor.left);
            for v in 0..NV {
                let columns = if B::STAGED {
                    let cols = if FULL { S::LANES } else { vectors.tail };
                    staged_columns(s, b, t.b.col, cols, [done, cursor.left], stages)
                } else {
                    if B::STREAMED && done.is_multiple_of(CACHE_LINE) {
                        let gap = if cursor.left > STREAM_PREFETCH { 0 } else { t.gap };
                        let ahead = b.wrapping_add(STREAM_PREFETCH.wrapping_add(gap));
                        (0..S::LANES).for_each(|column| s.prefetch_l2(ahead.wrapping_add(at(column, t.b.col))));
                    }
                    let cols = if v < vectors.full { S::LANES } else { vectors.tail };
                    s.load_4_columns(b.wrapping_add(at(v, t.b.vector)), t.b.col, cols)
                };
                for (k, &column) in columns.iter().enumerate() {
                    if B::PACKS {
                        let to = cursor.panel.wrapping_add(at(k, t.panel.row)).wrapping_add(at(v, t.panel.vector));
                        s.store(to, column);
                    }
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let a = cursor.a.wrapping_add(at(i, t.a.row)).wrapping_add(at(k, t.a.col));
                        acc[v] = s.fma(s.splat(a.read_unaligned()), column, acc[v]);
                    }
                }
            }
            cursor.a = cursor.a.wrapping_add(4 * t.a.col);
            cursor.panel = cursor.panel.wrapping_add(4 * t.panel.row);
            cursor.b = cursor.b.wrapping_add(4);
            cursor.left -= 4;
        }
    }
}

/// Loads four k-steps of staged columns, and stages one column of the next piece.
///
/// # Safety
/// B has `cols` columns with `left` elements from here on; `stages` holds the pieces for the `done` steps
/// before.
#[inline(always)]
unsafe fn staged_columns<S: Simd>(
    s: S,
    b: *const f32,
    stride: usize,
    cols: usize,
    [done, left]: [usize; 2],
    stages: *mut f32,
) -> [S::F32; 4] {
    let (piece, offset) = (done / STAGED_PIECE, done % STAGED_PIECE);
    let now = stages.wrapping_add(piece % 2 * STAGE);
    let next = stages.wrapping_add((piece + 1) % 2 * STAGE);
    // Its loads have until the next piece begins.
    let column = offset / STEPS_PER_STAGED_COLUMN;
    let columns = column.min(cols)..(column + 1).min(cols);
    let ahead = STAGED_PIECE - offset;
    // SAFETY: `stage` reads no further than `left`; behind the columns a stage is uninitialised, so none of
    // it is loaded.
    unsafe {
        stage(s, b.wrapping_add(ahead), stride, columns, left.saturating_sub(ahead), next);
        s.load_4_columns(now.wrapping_add(offset), STAGED_PIECE, cols)
    }
}

/// Copies a piece, or the `n` elements that are left of it, of some columns.
///
/// # Safety
/// These columns have `n` elements to read, and `to` has room for a piece of each.
#[inline(always)]
unsafe fn stage<S: Simd>(s: S, from: *const f32, stride: usize, columns: Range<usize>, n: usize, to: *mut f32) {
    for column in columns {
        let (piece, to) = (from.wrapping_add(column * stride), to.wrapping_add(column * STAGED_PIECE));
        for j in (0..STAGED_PIECE).step_by(S::LANES) {
            let (piece, to) = (piece.wrapping_add(j), to.wrapping_add(j));
            // SAFETY: of this column's `n` elements none but the first `n - j` from `j` on are read.
            unsafe {
                if n >= j + S::LANES {
                    s.store(to, s.load(piece))
                } else if n > j {
                    s.store(to, s.load_first(piece, n - j, s.splat(0.0)))
                }
            }
        }
    }
}

/// Transposes the up to three rows of B that [`by_columns`] leaves into `to`, from which the k-loop then
/// reads.
///
/// # Safety
/// B has `cursor.left` rows from here on; `to` has room for four rows of NV vectors.
#[inline(always)]
pub(super) unsafe fn transpose_last_rows<S: Simd, B: BAccess, const NV: usize>(
    vectors: Vectors<S>,
    t: &MicroTile,
    cursor: &mut Cursor<B::Element>,
    to: *mut f32,
) {
    let (s, left, row) = (vectors.s, cursor.left, NV * S::LANES);
    for v in 0..NV {
        let (from, to) = (cursor.b.cast::<f32>().wrapping_add(at(v, t.b.vector)), to.wrapping_add(v * S::LANES));
        let cols = if v < vectors.full { S::LANES } else { vectors.tail };
        // SAFETY: a depth of at least 4 has three rows before the last, which are read again.
        unsafe {
            if t.depth < 4 {
                for k in 0..left {
                    s.store(
                        to.wrapping_add(k * row),
                        load_strided(s, from.wrapping_add(k), t.b.col, cols, s.splat(0.0)),
                    );
                }
            } else {
                let columns = s.load_4_columns(from.wrapping_sub(4 - left), t.b.col, cols);
                for (k, &column) in columns.iter().enumerate() {
                    s.store(to.wrapping_add(k * row), column);
                }
            }
        }
    }
    let first = if t.depth < 4 { to } else { to.wrapping_add((4 - left) * row) };
    (cursor.b, cursor.b_row, cursor.b_vector) = (first.cast_const().cast(), row, S::LANES);
}
