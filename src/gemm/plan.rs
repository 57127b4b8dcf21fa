//! Blocking and packing mode of a product.

use super::microkernel::{Columns, CopiedColumns, Source, StreamedRows, tallest};
use super::packed::BOperand;
use super::product::{Depth, Product};
use crate::contract::{CHUNK_ROWS, ROW_LANES};
use crate::simd::Simd;
use crate::tuning::gemm::*;

/// What of a product is taken at a time, and what is copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Rows of a tile.
    pub(super) height: usize,
    /// Rows of a tile of the first row, which may copy B.
    pub(super) first: usize,
    /// Rows of a block of A.
    pub(super) rows: usize,
    /// Depth of a block.
    pub(super) depth: usize,
    /// Columns of a block of B.
    pub(super) cols: usize,
    pub(super) pack_a: bool,
    /// Width of A's panels: that of narrow vectors if a tile's rows fit one, so that less of L1 is taken.
    pub(super) a_lanes: usize,
    pub(super) b: Way,
}

/// How tiles get B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// All from its rows, as they stand.
    Rows,
    /// The first row of tiles from its rows, the others from the panels that the first copies.
    CopiedRows,
    /// All from its rows, as they stand, once through memory.
    StreamedRows,
    /// All from its columns, as they stand; in narrow vectors for a single row, since their columns take
    /// fewer shuffles to sort and there is little else to do, and for more rows than fit the registers else.
    Columns,
    /// The same for a single row, once through memory.
    StreamedColumns,
    /// The first row of tiles from its columns, the others from the panels that the first copies.
    CopiedColumns,
    /// All from panels, as they stand.
    Panels,
    /// All from panels that are packed beforehand: what comes from memory, for it likes long rows, and
    /// what has neither rows nor columns without gaps.
    Packed,
}

impl Way {
    /// What does the same for fewer rows than a tile of the first row has.
    pub(super) fn of_few(self) -> Self {
        match self {
            Self::CopiedRows => Self::Rows,
            Self::CopiedColumns => Self::Packed,
            same => same,
        }
    }
}

/// The most rows that read columns as they stand: terse tiles may be of narrow vectors.
const fn few_rows<S: Simd, N: Simd>() -> usize {
    if S::FRONT_END_BOUND { tallest::<N, Columns>() } else { tallest::<S, Columns>() }
}

impl Plan {
    pub(super) fn new<S: Simd, N: Simd>(p: &Product<'_>) -> Self {
        let height = S::MAX_MR;
        let (m, n, k) = p.sizes();
        let awkward = |stride: usize| stride > 0 && stride.is_multiple_of(CONFLICT_STRIDE);
        let paged = |stride: usize| awkward(stride) && stride >= PAGE_STRIDE;
        let crowded = |stride: usize| stride.is_multiple_of(CONFLICT_STRIDE);
        let size = k.saturating_mul(n);
        let large = size > B_BLOCK;
        let streamed = p.depth == Depth::Running && size >= STREAMED_B;
        // The stride over which a tile collects its part of A.
        let a_stride = if p.a.col_stride() == 1 { p.a.row_stride() } else { p.a.col_stride() };
        // Of each line of such an A a low tile uses a few elements.
        let wasteful = p.a.row_stride() == 1 && height <= N::LANES && k > L1_LINES;
        let pack_a = n >= PACK_A_MIN_COLS && m > height / 2 && (awkward(a_stride) || wasteful);
        let tallest = const { tallest::<S, CopiedColumns>() };
        let few = const { few_rows::<S, N>() };
        let b = match p.b {
            BOperand::Packed(_) => Way::Panels,
            BOperand::Strided(b) if b.col_stride() == 1 || n == 1 => {
                // In place, the last columns need no masks.
                let odd = S::FRONT_END_BOUND && !n.is_multiple_of(ROW_LANES);
                let copy = m > PACK_B_MIN_TILE_ROWS * height && !odd
                    || m > 2 * height && (large || awkward(b.row_stride()))
                    || m > height && height <= LOW_MR && size > PACK_B_LOW_MR;
                match streamed {
                    true if m <= StreamedRows::MAX_ROWS => Way::StreamedRows,
                    true => Way::Packed,
                    false if copy && large && paged(b.row_stride()) => Way::Packed,
                    false if copy => Way::CopiedRows,
                    false => Way::Rows,
                }
            }
            BOperand::Strided(b) if b.row_stride() == 1 && m == 1 && streamed => Way::StreamedColumns,
            BOperand::Strided(b) if b.row_stride() == 1 && m <= few && !crowded(b.col_stride()) => Way::Columns,
            BOperand::Strided(b) if b.row_stride() == 1 && (tallest >= height || m <= tallest || !pack_a) => {
                Way::CopiedColumns
            }
            BOperand::Strided(_) => Way::Packed,
        };
        let sorted = matches!(b, Way::Columns | Way::CopiedColumns);
        let equal = |rows: usize| rows.div_ceil(rows.div_ceil(height));
        let (first, height) = match b {
            Way::CopiedColumns if tallest < equal(m) => (tallest, equal(m - tallest)),
            _ => (equal(m), equal(m)),
        };
        let long_rows = match p.b {
            BOperand::Strided(matrix) if b == Way::Packed => streamed || paged(matrix.row_stride()),
            _ => false,
        };
        let depth = match p.depth {
            Depth::Running if m <= height && matches!(p.b, BOperand::Packed(_)) => usize::MAX,
            _ if b == Way::StreamedRows => KC_STREAMED,
            _ if b == Way::StreamedColumns => usize::MAX,
            Depth::Running if m <= first && sorted => usize::MAX,
            _ if long_rows => KC_LONG_ROWS,
            // Each chunk takes C through memory in any case.
            Depth::Chunked => CHUNK_ROWS,
            _ => KC,
        };
        let depth = depth.min(k.max(1));
        let small = S::FRONT_END_BOUND && m <= SMALL_B_BLOCK_ROWS && !long_rows;
        let block = if small { SMALL_B_BLOCK } else { B_BLOCK };
        let cols = (block / depth).max(1).next_multiple_of(ROW_LANES).min(n.next_multiple_of(ROW_LANES));
        let a_lanes = if height <= N::LANES { N::LANES } else { S::LANES };
        // At least two rows of tiles, or there might be blocks with fewer rows than the first, which copy another way.
        let rows = if pack_a { (A_BLOCK / (depth * a_lanes)).max(2) * height } else { m };
        let rows = rows.min(m.next_multiple_of(height));
        Self { height, first, rows, depth, cols, pack_a, a_lanes, b }
    }

    /// Elements of the packed panels of A and of B.
    pub(super) fn room(self) -> [usize; 2] {
        let a = if self.pack_a { self.rows.div_ceil(self.height) * self.depth * self.a_lanes } else { 0 };
        let b = match self.b {
            Way::Rows | Way::StreamedRows | Way::Columns | Way::StreamedColumns | Way::Panels => 0,
            Way::CopiedColumns if self.rows <= self.first => ROW_LANES,
            _ => self.depth * self.cols,
        };
        [a, b]
    }
}
