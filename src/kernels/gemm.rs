//! C = A B with what dense layers wrap around it: a bias before, an activation or a gate after.
//!
//! ```text
//! for each block of the depth k                      accumulators continue through C
//!   for each block of ROW_BLOCK rows of A            stays in L2
//!     for each panel of NV vectors of columns of B   packed if its columns are not neighbours
//!       for each MR rows of A
//!         tile
//! ```
//!
//! The loops are those of Goto and van de Geijn, "Anatomy of High-Performance Matrix
//! Multiplication" (2008), less the packing where the operands are in good order already.

use super::pack::{PANEL_COLS, PANEL_DEPTH, Panel};
use super::tier::Tier;
use super::tile::{Tile, TileFinish, TileStart, tile};
use super::{CHUNK_ROWS, Kernel};
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;

/// Depth of a block where B is used as it stands: longer ones cost fewer trips of C through
/// memory, and 1024 rows of a panel still fit L2.
const DEPTH_BLOCK: usize = 1024;
/// Rows of A that meet one panel of B before the next panel is taken.
const ROW_BLOCK: usize = 256;

/// How the sum over the depth is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// One running sum, k ascending.
    Running,
    /// Running sums over chunks of [`CHUNK_ROWS`], added in ascending order.
    Chunked,
}

/// What is done to a finished element of C.
#[derive(Clone, Copy)]
pub(crate) enum Epilogue<'a> {
    /// Nothing.
    None,
    /// relu.
    Relu,
    /// 0 unless the same element of this matrix is above 0: relu's gradient.
    Gate(MatRef<'a>),
}

impl<'a> Epilogue<'a> {
    /// The epilogues of two parts of C.
    fn split(self, at: impl Fn(MatRef<'a>) -> (MatRef<'a>, MatRef<'a>)) -> (Self, Self) {
        match self {
            Self::Gate(gate) => {
                let (first, rest) = at(gate);
                (Self::Gate(first), Self::Gate(rest))
            }
            same => (same, same),
        }
    }
}

/// An axis of C.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Rows,
    Columns,
}

/// C (m x n) = bias + A (m x k) B (k x n), then the epilogue.
pub(crate) struct Product<'a> {
    pub a: MatRef<'a>,
    pub b: MatRef<'a>,
    pub c: MatMut<'a>,
    /// n elements; none stands for zeros.
    pub bias: Option<&'a [f32]>,
    /// Only [`Depth::Running`] goes with a bias or an epilogue.
    pub depth: Depth,
    pub epilogue: Epilogue<'a>,
    /// Along which axis threads may split the work.
    pub split: Axis,
}

impl Product<'_> {
    /// (m, n, k), the smallest that the operands have in common.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let mut m = self.a.rows().min(self.c.rows());
        let mut n = self.b.cols().min(self.c.cols());
        if let Some(bias) = self.bias {
            n = n.min(bias.len());
        }
        if let Epilogue::Gate(gate) = self.epilogue {
            m = m.min(gate.rows());
            n = n.min(gate.cols());
        }
        (m, n, self.a.cols().min(self.b.rows()))
    }
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        tier.gemm(self);
    }

    fn len(&self) -> usize {
        match self.split {
            Axis::Rows => self.c.rows(),
            Axis::Columns => self.c.cols(),
        }
    }

    fn split(self, at: usize) -> (Self, Self) {
        match self.split {
            Axis::Rows => {
                let (a, c) = (self.a.split_at_row(at), self.c.split_at_row(at));
                let epilogue = self.epilogue.split(|gate| gate.split_at_row(at));
                (
                    Self { a: a.0, c: c.0, epilogue: epilogue.0, ..self },
                    Self { a: a.1, c: c.1, epilogue: epilogue.1, ..self },
                )
            }
            Axis::Columns => {
                let (b, c) = (self.b.split_at_col(at), self.c.split_at_col(at));
                let bias = self.bias.map(|bias| bias.split_at(at.min(bias.len()))).unzip();
                let epilogue = self.epilogue.split(|gate| gate.split_at_col(at));
                (
                    Self { b: b.0, c: c.0, bias: bias.0, epilogue: epilogue.0, ..self },
                    Self { b: b.1, c: c.1, bias: bias.1, epilogue: epilogue.1, ..self },
                )
            }
        }
    }
}

/// Computes a product with tiles of `MR` rows by `NV` vectors, `NV` 1 or 2.
#[inline(always)]
pub(crate) fn gemm<S: Simd, const MR: usize, const NV: usize>(s: S, mut p: Product<'_>) {
    const { assert!(NV * S::LANES <= PANEL_COLS && CHUNK_ROWS <= PANEL_DEPTH) };
    let (m, n, k) = p.sizes();
    if m == 0 || n == 0 {
        return;
    }
    let (b_row, b_col) = (p.b.row_stride(), p.b.col_stride());
    let packs = b_col != 1 && n > 1;
    let block = match p.depth {
        Depth::Chunked => CHUNK_ROWS,
        Depth::Running if packs => PANEL_DEPTH,
        Depth::Running => DEPTH_BLOCK,
    };
    let mut panel = Panel::new();
    let width = NV * S::LANES;
    let blocks = k.div_ceil(block).max(1);
    for k0 in (0..blocks).map(|i| i * block) {
        let depth = block.min(k - k0);
        for i0 in (0..m).step_by(ROW_BLOCK) {
            let rows = ROW_BLOCK.min(m - i0);
            for j0 in (0..n).step_by(width) {
                let cols = width.min(n - j0);
                let mut t = p.tile(i0, j0, k0, depth, cols);
                // SAFETY: all indices lie below m, n and k, which every operand has.
                unsafe {
                    if packs {
                        t.b = panel.fill(t.b, [b_row, b_col], [depth, cols], width);
                        t.b_row = width;
                    }
                    if cols == width {
                        column::<S, MR, NV, true>(s, t, rows);
                    } else {
                        column::<S, MR, NV, false>(s, t, rows);
                    }
                }
            }
        }
    }
}

impl Product<'_> {
    /// The operands of the tile whose corner is (i, j), over `depth` steps from k on.
    #[inline(always)]
    fn tile(&mut self, i: usize, j: usize, k: usize, depth: usize, cols: usize) -> Tile {
        let (first, last) = (k == 0, k + depth == self.a.cols().min(self.b.rows()));
        let start = match (self.depth, self.bias) {
            (Depth::Running, _) if !first => TileStart::Resume,
            (Depth::Running, Some(bias)) => TileStart::Bias(bias.as_ptr().wrapping_add(j)),
            _ => TileStart::Zero,
        };
        let finish = match (self.depth, self.epilogue) {
            (Depth::Chunked, _) if !first => TileFinish::Add,
            (Depth::Running, Epilogue::Relu) if last => TileFinish::Relu,
            (Depth::Running, Epilogue::Gate(gate)) if last => {
                let (row, col) = (gate.row_stride(), gate.col_stride());
                TileFinish::Gate { gate: gate.as_ptr().wrapping_add(i * row + j * col), row, col }
            }
            _ => TileFinish::Store,
        };
        let (a_row, a_col) = (self.a.row_stride(), self.a.col_stride());
        let (b_row, b_col) = (self.b.row_stride(), self.b.col_stride());
        let (c_row, c_col) = (self.c.row_stride(), self.c.col_stride());
        Tile {
            a: self.a.as_ptr().wrapping_add(i * a_row + k * a_col),
            a_row,
            a_col,
            b: self.b.as_ptr().wrapping_add(k * b_row + j * b_col),
            b_row,
            c: self.c.as_mut_ptr().wrapping_add(i * c_row + j * c_col),
            c_row,
            c_col,
            depth,
            cols,
            start,
            finish,
        }
    }
}

/// `rows` rows of C below the tile's corner, in tiles of MR, then 4, 2 and 1 rows.
///
/// # Safety
/// As for [`tile`], for that many rows.
#[inline(always)]
unsafe fn column<S: Simd, const MR: usize, const NV: usize, const WHOLE: bool>(s: S, t: Tile, rows: usize) {
    // SAFETY: the caller's; `done` stays at or below `rows`.
    unsafe {
        let mut done = 0;
        done += strip::<S, MR, NV, WHOLE>(s, t, rows, done);
        done += strip::<S, 4, NV, WHOLE>(s, t, rows, done);
        done += strip::<S, 2, NV, WHOLE>(s, t, rows, done);
        strip::<S, 1, NV, WHOLE>(s, t, rows, done);
    }
}

/// As many tiles of MR rows as fit from row `done` on; the number of rows they took. A tile with
/// no columns in its second vector is computed with one vector.
///
/// # Safety
/// As for [`column`].
#[inline(always)]
unsafe fn strip<S: Simd, const MR: usize, const NV: usize, const WHOLE: bool>(
    s: S,
    t: Tile,
    rows: usize,
    done: usize,
) -> usize {
    let tiles = (rows - done) / MR;
    for i in (0..tiles).map(|i| done + i * MR) {
        let row = Tile {
            a: t.a.wrapping_add(i * t.a_row),
            c: t.c.wrapping_add(i * t.c_row),
            finish: match t.finish {
                TileFinish::Gate { gate, row, col } => TileFinish::Gate { gate: gate.wrapping_add(i * row), row, col },
                same => same,
            },
            ..t
        };
        // SAFETY: the caller's.
        unsafe {
            if NV == 1 || t.cols <= S::LANES {
                tile::<S, MR, 1, WHOLE>(s, row);
            } else {
                tile::<S, MR, NV, WHOLE>(s, row);
            }
        }
    }
    tiles * MR
}
