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

//!
//! The accumulators are only ever indexed by loops of constant length and without branches: those
//! are unrolled, and anything else would move the accumulators from the registers to the stack.

use super::pack::PANEL_COLS;
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

/// Computes one tile; `WHOLE` if it has all its `NV * LANES` columns.
///
/// Where the columns of C or of a gate are not neighbours, it goes by way of buffers in which they are.
///
/// # Safety
/// MR rows of A and C, `depth` columns of A, `depth` rows of B, `cols` columns of B and C, and bias
/// or gate where there is one, lie within what the caller may read or write.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const WHOLE: bool>(s: S, mut t: Tile) {
    let gate_col = if let TileFinish::Gate { col, .. } = t.finish { col } else { 1 };
    let detour = t.c_col != 1 || gate_col != 1;
    let (c, c_row, c_col) = (t.c, t.c_row, t.c_col);
    let mut c_buffer = [[0.0f32; PANEL_COLS]; MR];
    let mut gate_buffer = [[0.0f32; PANEL_COLS]; MR];
    // SAFETY: the caller's; `cols` is at most PANEL_COLS.
    unsafe {
        if detour {
            for (i, (c_to, gate_to)) in c_buffer.iter_mut().zip(&mut gate_buffer).enumerate() {
                for j in 0..t.cols {
                    c_to[j] = *c.add(i * c_row + j * c_col);
                    if let TileFinish::Gate { gate, row, col } = t.finish {
                        gate_to[j] = *gate.add(i * row + j * col);
                    }
                }
            }
            (t.c, t.c_row) = (c_buffer.as_mut_ptr().cast(), PANEL_COLS);
            if let TileFinish::Gate { gate, row, .. } = &mut t.finish {
                (*gate, *row) = (gate_buffer.as_ptr().cast(), PANEL_COLS);
            }
        }
        in_rows::<S, MR, NV, WHOLE>(s, t);
        if detour {
            for (i, row) in c_buffer.iter().enumerate() {
                for (j, &value) in row.iter().enumerate().take(t.cols) {
                    *c.add(i * c_row + j * c_col) = value;
                }
            }
        }
    }
}

/// [`tile`] where the columns of C, and of a gate, are neighbours.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn in_rows<S: Simd, const MR: usize, const NV: usize, const WHOLE: bool>(s: S, t: Tile) {
    const { assert!(MR * NV + NV < S::REGISTERS, "accumulators, a row of B and a broadcast must fit the registers") };
    let zero = s.splat(0.0);
    let tail = t.cols - (NV - 1) * S::LANES;
    let get = |row: *const f32, v: usize| {
        let p = row.wrapping_add(v * S::LANES);
        // SAFETY: `row` points to `cols` readable elements.
        unsafe { if WHOLE || v + 1 < NV { s.load(p) } else { s.load_first(p, tail, zero) } }
    };
    let put = |row: *mut f32, v: usize, value: S::F32| {
        let p = row.wrapping_add(v * S::LANES);
        // SAFETY: `row` points to `cols` writable elements.
        unsafe { if WHOLE || v + 1 < NV { s.store(p, value) } else { s.store_first(p, tail, value) } }
    };
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[zero; NV]; MR];
        match t.start {
            TileStart::Zero => {}
            TileStart::Bias(bias) => {
                for v in 0..NV {
                    let start = get(bias, v);
                    acc.iter_mut().for_each(|row| row[v] = start);
                }
            }
            TileStart::Resume => {
                for (i, row) in acc.iter_mut().enumerate() {
                    for (v, value) in row.iter_mut().enumerate() {
                        *value = get(t.c.add(i * t.c_row), v);
                    }
                }
            }
        }
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.depth {
            let mut row = [zero; NV];
            for (v, value) in row.iter_mut().enumerate() {
                *value = get(b, v);
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
        let c = |i: usize| t.c.wrapping_add(i * t.c_row);
        match t.finish {
            TileFinish::Store => each(&acc, |i, v, acc| put(c(i), v, acc)),
            TileFinish::Relu => each(&acc, |i, v, acc| put(c(i), v, s.max(zero, acc))),
            TileFinish::Gate { gate, row, .. } => each(&acc, |i, v, acc| {
                let open = s.lt(zero, get(gate.wrapping_add(i * row), v));
                put(c(i), v, s.select(open, acc, zero));
            }),
            TileFinish::Add => each(&acc, |i, v, acc| put(c(i), v, s.add(get(c(i), v), acc))),
        }
    }
}

/// Calls `f` with every accumulator's row and vector.
#[inline(always)]
fn each<V: Copy, const MR: usize, const NV: usize>(acc: &[[V; NV]; MR], f: impl Fn(usize, usize, V)) {
    for (i, row) in acc.iter().enumerate() {
        for (v, &acc) in row.iter().enumerate() {
            f(i, v, acc);
        }
    }
}
