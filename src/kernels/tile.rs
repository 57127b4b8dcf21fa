//! The register tile: MR rows by NV vectors of the product, kept in registers over the depth.
//!
//! ```text
//! acc[i][v] = start                                   MR x NV registers
//! for k in 0..depth
//!     b[v]      = B[k][v * LANES ..]                  NV loads
//!     acc[i][v] = fma(A[i][k], b[v], acc[i][v])       MR broadcasts, MR * NV fmas
//! C[i][v] = finish(acc[i][v])
//! ```
//!
//! Every element has one accumulator that takes k in ascending order: that is the numeric
//! contract, and the reason that neither the tile's shape nor its place changes a bit.

use super::{load_row, store_row};
use crate::simd::Simd;

/// Where the accumulators begin.
#[derive(Clone, Copy)]
pub(super) enum TileStart {
    /// At +0.
    Zero,
    /// At one value a column, from this address.
    Bias(*const f32),
    /// Where an earlier part of the depth left them, in C.
    Resume,
}

/// What becomes of the accumulators.
#[derive(Clone, Copy)]
pub(super) enum TileFinish {
    /// C = acc.
    Store,
    /// C = relu(acc).
    Relu,
    /// C = acc where the gate, a matrix of C's shape, is above 0, else 0.
    Gate { gate: *const f32, row: usize, col: usize },
    /// C = C + acc.
    Add,
}

/// A tile's operands. Strides in elements; B's columns are neighbours.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub a: *const f32,
    pub a_row: usize,
    pub a_col: usize,
    pub b: *const f32,
    pub b_row: usize,
    pub c: *mut f32,
    pub c_row: usize,
    pub c_col: usize,
    pub depth: usize,
    /// Columns of C to write: more than `(NV - 1) * LANES`, at most `NV * LANES`.
    pub cols: usize,
    pub start: TileStart,
    pub finish: TileFinish,
}

/// Computes one tile. With `WHOLE`, rows of B hold `NV * LANES` readable elements; else `cols`.
///
/// # Safety
/// MR rows of A and C, `depth` columns of A, `depth` rows of B, `cols` columns of C, and bias or
/// gate where there is one, lie within what the caller may read or write.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const WHOLE: bool>(s: S, t: Tile) {
    const { assert!(MR * NV + NV < S::REGISTERS, "accumulators, a row of B and a broadcast must fit the registers") };
    let zero = s.splat(0.0);
    let tail = t.cols - (NV - 1) * S::LANES;
    let width = |v: usize| if v + 1 < NV { S::LANES } else { tail };
    let mut acc = [[zero; NV]; MR];
    // SAFETY: the caller's.
    unsafe {
        match t.start {
            TileStart::Zero => {}
            TileStart::Bias(bias) => {
                for v in 0..NV {
                    let start = load_row(s, bias.add(v * S::LANES), 1, width(v), zero);
                    for row in &mut acc {
                        row[v] = start;
                    }
                }
            }
            TileStart::Resume => {
                for (i, row) in acc.iter_mut().enumerate() {
                    for (v, value) in row.iter_mut().enumerate() {
                        let c = t.c.add(i * t.c_row + v * S::LANES * t.c_col);
                        *value = load_row(s, c, t.c_col, width(v), zero);
                    }
                }
            }
        }
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.depth {
            let mut row = [zero; NV];
            for (v, value) in row.iter_mut().enumerate() {
                let p = b.add(v * S::LANES);
                *value = if WHOLE || v + 1 < NV { s.load(p) } else { s.load_first(p, tail, zero) };
            }
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = s.splat(*a.add(i * t.a_row));
                for (acc, &w) in acc.iter_mut().zip(&row) {
                    *acc = s.fma(x, w, *acc);
                }
            }
            a = a.wrapping_add(t.a_col);
            b = b.wrapping_add(t.b_row);
        }
        for (i, row) in acc.iter().enumerate() {
            for (v, &value) in row.iter().enumerate() {
                let c = t.c.add(i * t.c_row + v * S::LANES * t.c_col);
                let value = match t.finish {
                    TileFinish::Store => value,
                    TileFinish::Relu => s.max(zero, value),
                    TileFinish::Gate { gate, row, col } => {
                        let gate = load_row(s, gate.add(i * row + v * S::LANES * col), col, width(v), zero);
                        s.select(s.lt(zero, gate), value, zero)
                    }
                    TileFinish::Add => s.add(load_row(s, c, t.c_col, width(v), zero), value),
                };
                store_row(s, c, t.c_col, width(v), value);
            }
        }
    }
}
