//! `Plan`: the block sizes of a product, and which operands are packed.

use super::access::{BAccess, Columns, PackingColumns, StreamedRows, max_mr};
use super::element::Element;
use super::packed::BOperand;
use super::product::{Product, Sizes, Summation};
use crate::contract::{CHUNK_ROWS, ROW_LANES};
use crate::matrix::MatRef;
use crate::simd::Simd;
use crate::tuning::gemm::*;

/// Block sizes, in the letters of BLIS, and packing modes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Rows of a micro-tile.
    pub mr: usize,
    /// Rows of the micro-tiles in the first row, which may pack B.
    pub first_mr: usize,
    /// Rows of a block of A: all of them, unless A is packed.
    pub mc: usize,
    /// Depth of a block.
    pub kc: usize,
    /// Columns of a block of B.
    pub nc: usize,
    /// Elements per row of A's packed panels; none if A is read in place.
    pub a_panel: Option<usize>,
    pub b: BPacking,
}

/// How micro-tiles get B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BPacking {
    /// By rows, in place.
    Rows,
    /// The first row of micro-tiles by rows, in place, while it packs them into panels for the others.
    PackRows,
    /// By rows, in place, streamed from DRAM once.
    StreamRows,
    /// By columns, in place.
    ///
    /// In narrow vectors for a single row, which takes fewer shuffles, and for more rows than the registers
    /// hold else.
    Columns,
    /// By columns, in place, streamed from DRAM once by a single row.
    StreamColumns,
    /// The first row of micro-tiles by columns, in place, while it packs them into panels for the others.
    PackColumns,
    /// From panels that were packed before the product, of whatever element type.
    Prepacked,
    /// From the panels of this product, once one of the other modes has packed them.
    Panels,
    /// From panels that are packed before the first micro-tile.
    ///
    /// For a B from DRAM, which is read in long runs, and for one with neither contiguous rows nor columns.
    PackBlock,
}

impl BPacking {
    /// The mode for a block of fewer rows than a micro-tile of the first row has.
    pub(super) fn of_few_rows(self) -> Self {
        match self {
            Self::PackRows => Self::Rows,
            Self::PackColumns => Self::PackBlock,
            same => same,
        }
    }
}

/// Whether rows (or columns) this far apart fall into few sets of a cache.
fn conflicts(stride: usize) -> bool {
    stride > 0 && stride.is_multiple_of(CONFLICT_STRIDE)
}

/// Whether rows this far apart also take a page of their own each.
fn one_page_per_row(stride: usize) -> bool {
    conflicts(stride) && stride >= PAGE_STRIDE
}

impl Plan {
    /// Plans a product for row vectors `S` and narrow vectors `N`.
    pub(super) fn new<S: Simd, N: Simd, E: Element>(p: &Product<'_, E>) -> Self {
        let Sizes { m, n, k } = p.sizes();
        let packs_a = packs_a::<S, N>(p.a, p.sizes());
        let b = b_packing::<S, N, E>(p, packs_a);
        let balanced = |rows: usize| rows.div_ceil(rows.div_ceil(S::MAX_MR));
        let tallest = const { max_mr::<S, PackingColumns>() };
        let (first_mr, mr) = match b {
            BPacking::PackColumns if tallest < balanced(m) => (tallest, balanced(m - tallest)),
            _ => (balanced(m), balanced(m)),
        };
        let long_rows = match p.b {
            BOperand::Strided(matrix) if b == BPacking::PackBlock => {
                is_streamed(p) || one_page_per_row(matrix.row_stride())
            }
            _ => false,
        };
        let kc = match (p.summation, b) {
            (Summation::Running, BPacking::Prepacked) if m <= mr => usize::MAX,
            (_, BPacking::StreamRows) => KC_STREAMED,
            (_, BPacking::StreamColumns) => usize::MAX,
            (Summation::Running, BPacking::Columns | BPacking::PackColumns) if m <= first_mr => usize::MAX,
            _ if long_rows => KC_LONG_ROWS,
            // Each chunk streams C through the caches in any case.
            (Summation::Chunked, _) => CHUNK_ROWS,
            _ => KC,
        };
        let kc = kc.min(k.max(1));
        let small = S::FRONT_END_BOUND && m <= SMALL_B_BLOCK_ROWS && !long_rows;
        let block = if small { SMALL_B_BLOCK } else { B_BLOCK };
        let nc = (block / kc).max(1).next_multiple_of(ROW_LANES).min(n.next_multiple_of(ROW_LANES));
        let a_panel = packs_a.then_some(if mr <= N::LANES { N::LANES } else { S::LANES });
        // At least two rows of micro-tiles, or there might be blocks with fewer rows than the first, which
        // pack otherwise.
        let mc = a_panel.map_or(m, |lanes| (A_BLOCK / (kc * lanes)).max(2) * mr);
        Self { mr, first_mr, mc: mc.min(m.next_multiple_of(mr)), kc, nc, a_panel, b }
    }

    /// Elements of the packed panels of A and of B.
    pub(super) fn scratch(self) -> (usize, usize) {
        let a = self.a_panel.map_or(0, |lanes| self.mc.div_ceil(self.mr) * self.kc * lanes);
        let b = match self.b {
            BPacking::Rows | BPacking::StreamRows => 0,
            BPacking::Columns | BPacking::StreamColumns | BPacking::Prepacked | BPacking::Panels => 0,
            BPacking::PackColumns if self.mc <= self.first_mr => ROW_LANES,
            _ => self.kc * self.nc,
        };
        (a, b)
    }
}

/// Whether B is read from DRAM.
fn is_streamed<E: Element>(p: &Product<'_, E>) -> bool {
    let Sizes { n, k, .. } = p.sizes();
    p.summation == Summation::Running && k.saturating_mul(n) >= STREAMED_B
}

/// Whether A is packed: its stride conflicts, or a low micro-tile would use a few elements of each of its
/// cache lines.
fn packs_a<S: Simd, N: Simd>(a: MatRef<'_>, Sizes { m, n, k }: Sizes) -> bool {
    let stride = if a.col_stride() == 1 { a.row_stride() } else { a.col_stride() };
    let wasteful = a.row_stride() == 1 && S::MAX_MR <= N::LANES && k > L1_LINES;
    n >= PACK_A_MIN_COLS && m > S::MAX_MR / 2 && (conflicts(stride) || wasteful)
}

fn b_packing<S: Simd, N: Simd, E: Element>(p: &Product<'_, E>, packs_a: bool) -> BPacking {
    let Sizes { m, n, k } = p.sizes();
    let BOperand::Strided(b) = p.b else { return BPacking::Prepacked };
    let streamed = is_streamed(p);
    if b.col_stride() == 1 || n == 1 {
        let size = k.saturating_mul(n);
        let large = size > B_BLOCK;
        // In place, the last columns need no masks.
        let odd = S::FRONT_END_BOUND && !n.is_multiple_of(ROW_LANES);
        let packing_pays = m > PACK_B_MIN_TILE_ROWS * S::MAX_MR && !odd
            || m > 2 * S::MAX_MR && (large || conflicts(b.row_stride()))
            || m > S::MAX_MR && S::MAX_MR <= LOW_MR && size > PACK_B_LOW_MR;
        return match streamed {
            true if m <= StreamedRows::MAX_MR => BPacking::StreamRows,
            true => BPacking::PackBlock,
            false if packing_pays && large && one_page_per_row(b.row_stride()) => BPacking::PackBlock,
            false if packing_pays => BPacking::PackRows,
            false => BPacking::Rows,
        };
    }
    if b.row_stride() != 1 {
        return BPacking::PackBlock;
    }
    // Micro-kernels that are front-end bound may take more rows of narrow vectors.
    let few = const { if S::FRONT_END_BOUND { max_mr::<N, Columns>() } else { max_mr::<S, Columns>() } };
    let tallest = const { max_mr::<S, PackingColumns>() };
    if m == 1 && streamed {
        BPacking::StreamColumns
    } else if m <= few && !b.col_stride().is_multiple_of(CONFLICT_STRIDE) {
        BPacking::Columns
    } else if tallest >= S::MAX_MR || m <= tallest || !packs_a {
        BPacking::PackColumns
    } else {
        BPacking::PackBlock
    }
}
