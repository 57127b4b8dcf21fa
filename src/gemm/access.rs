//! How micro-kernels read A and B, and which micro-tiles fit the registers.

use super::element::Element;
use crate::simd::Simd;

/// The layout of A as far as the compiler knows it: a stride of 1 saves address arithmetic.
pub(super) trait ALayout {
    /// Elements from one row to the next.
    const ROW_STRIDE: Option<usize> = None;
    /// Elements from one column to the next.
    const COL_STRIDE: Option<usize> = None;
}

/// Contiguous rows.
pub(super) struct RowMajor;
/// Contiguous columns.
pub(super) struct ColMajor;
/// Any strides.
pub(super) struct AnyStrides;

impl ALayout for RowMajor {
    const COL_STRIDE: Option<usize> = Some(1);
}
impl ALayout for ColMajor {
    const ROW_STRIDE: Option<usize> = Some(1);
}
impl ALayout for AnyStrides {}

/// How a micro-kernel reads B. Each access is code of its own.
pub(super) trait BAccess {
    /// What B is stored in; `f32` unless B is packed.
    type Element: Element;
    /// Whether the columns of B are contiguous (`b.row` is 1), and not its rows.
    const BY_COLUMNS: bool = false;
    /// Whether columns are staged through a buffer, a piece at a time, since their stride conflicts.
    const STAGED: bool = false;
    /// Whether B is written to the panel on the way, for the micro-tiles below.
    const PACKS: bool = false;
    /// Whether B is packed in panels of `LANES` columns: all of its vectors are full.
    const PANELS: bool = false;
    /// Whether B comes from DRAM, once, in the order in which it is read: then it is prefetched into L2.
    const STREAMED: bool = false;
    /// Most rows of a micro-tile, beside what the registers allow.
    const MAX_MR: usize = usize::MAX;
}

/// Contiguous rows, read in place.
pub(super) struct Rows;
/// Packed panels of `E`.
pub(super) struct Panels<E>(std::marker::PhantomData<E>);
/// Contiguous rows, packed on the way.
pub(super) struct PackingRows;
/// Contiguous rows from DRAM: few of them, so that each is read in one long run.
pub(super) struct StreamedRows;
/// Contiguous columns, read in place.
pub(super) struct Columns;
/// Contiguous columns from DRAM, one narrow vector of them at a time.
pub(super) struct StreamedColumns;
/// Contiguous columns, packed on the way.
pub(super) struct PackingColumns;
/// Contiguous columns whose stride conflicts ([`CONFLICT_STRIDE`](crate::tuning::gemm::CONFLICT_STRIDE)),
/// packed on the way.
pub(super) struct StagedColumns;

impl BAccess for Rows {
    type Element = f32;
}
impl<E: Element> BAccess for Panels<E> {
    type Element = E;
    const PANELS: bool = true;
}
impl BAccess for PackingRows {
    type Element = f32;
    const PACKS: bool = true;
}
impl BAccess for StreamedRows {
    type Element = f32;
    const STREAMED: bool = true;
    // Computing more rows takes longer than reading B.
    const MAX_MR: usize = 6;
}
impl BAccess for Columns {
    type Element = f32;
    const BY_COLUMNS: bool = true;
    // With more rows, packing costs nothing beside the multiply-adds.
    const MAX_MR: usize = 6;
}
impl BAccess for StreamedColumns {
    type Element = f32;
    const BY_COLUMNS: bool = true;
    const STREAMED: bool = true;
    const MAX_MR: usize = 1;
}
impl BAccess for PackingColumns {
    type Element = f32;
    const BY_COLUMNS: bool = true;
    const PACKS: bool = true;
}
impl BAccess for StagedColumns {
    type Element = f32;
    const BY_COLUMNS: bool = true;
    const STAGED: bool = true;
    const PACKS: bool = true;
}

/// Elements of the largest micro-tile.
pub(super) const MAX_TILE: usize = 512;
/// Most vectors of a micro-tile that transposes columns in registers.
pub(super) const MAX_NV_BY_COLUMNS: usize = 4;

/// Whether a micro-tile of `mr` rows by `nv` vectors exists.
///
/// Its accumulators, and either a row of B or a column of A beside one element of the other, must fit the
/// registers. Micro-kernels that pack B exist for tall tiles only, since for few rows nothing is packed.
pub(super) const fn fits<S: Simd, B: BAccess>(mr: usize, nv: usize) -> bool {
    if mr > S::MAX_MR || mr > B::MAX_MR || B::PACKS && !B::STAGED && 2 * mr < S::MAX_MR {
        return false;
    }
    if B::BY_COLUMNS {
        // Four columns are transposed at a time. A few rows have too few accumulators to keep the FMA units
        // busy with a single vector.
        let few = mr * nv <= MAX_NV_BY_COLUMNS && !B::STAGED && !B::STREAMED;
        return (nv == 1 || few) && mr * nv + 4 < S::REGISTERS;
    }
    let beside = if mr < nv { mr } else { nv };
    mr * nv + beside < S::REGISTERS && mr * nv * S::LANES <= MAX_TILE
}

/// Most rows of a micro-tile of one vector.
pub(super) const fn max_mr<S: Simd, B: BAccess>() -> usize {
    let mut mr = S::MAX_MR;
    while !fits::<S, B>(mr, 1) {
        mr -= 1;
    }
    mr
}
