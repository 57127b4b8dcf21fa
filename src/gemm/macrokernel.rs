//! Loop 1: a row of micro-tiles over all columns of a block, each as wide as the registers allow.

use super::access::{ALayout, AnyStrides, BAccess, ColMajor, RowMajor, fits};
use super::microkernel::MicroTiles;
use super::microtile::MicroTile;
use crate::simd::Simd;

/// Computes a row of micro-tiles of `mr` rows.
///
/// # Safety
/// The requirements of [`microtile`](super::microkernel::microtile) hold for all columns.
#[inline(always)]
pub(super) unsafe fn loop_1<S: Simd, B: BAccess>(s: S, mr: usize, t: &MicroTile) {
    let any_strides = const { B::PACKS || B::STREAMED || !S::FRONT_END_BOUND };
    // SAFETY: as the caller promises.
    unsafe {
        // A known stride of A saves instructions, which counts where the front end is the bound.
        match (t.a.row, t.a.col) {
            (_, 1) if const { B::BY_COLUMNS && S::FRONT_END_BOUND } => of_height::<S, RowMajor, B>(s, mr, t),
            _ if const { B::BY_COLUMNS } || any_strides => of_height::<S, AnyStrides, B>(s, mr, t),
            (_, 1) => of_height::<S, RowMajor, B>(s, mr, t),
            (1, _) => of_height::<S, ColMajor, B>(s, mr, t),
            _ => of_height::<S, AnyStrides, B>(s, mr, t),
        }
    }
}

/// [`loop_1`] for a layout of A.
///
/// # Safety
/// As for [`loop_1`].
#[inline(always)]
unsafe fn of_height<S: Simd, A: ALayout, B: BAccess>(s: S, mr: usize, t: &MicroTile) {
    debug_assert!(fits::<S, B>(mr, 1), "no such micro-tile exists");
    // SAFETY: as the caller promises.
    unsafe {
        match mr {
            1 => micro_tiles::<S, A, B, 1>(s, t),
            2 => micro_tiles::<S, A, B, 2>(s, t),
            3 => micro_tiles::<S, A, B, 3>(s, t),
            4 => micro_tiles::<S, A, B, 4>(s, t),
            5 => micro_tiles::<S, A, B, 5>(s, t),
            6 => micro_tiles::<S, A, B, 6>(s, t),
            7 => micro_tiles::<S, A, B, 7>(s, t),
            8 => micro_tiles::<S, A, B, 8>(s, t),
            9 => micro_tiles::<S, A, B, 9>(s, t),
            10 => micro_tiles::<S, A, B, 10>(s, t),
            11 => micro_tiles::<S, A, B, 11>(s, t),
            12 => micro_tiles::<S, A, B, 12>(s, t),
            13 => micro_tiles::<S, A, B, 13>(s, t),
            14 => micro_tiles::<S, A, B, 14>(s, t),
            _ => debug_assert!(false, "no instruction set has taller micro-tiles"),
        }
    }
}

/// Computes a row of micro-tiles of `MR` rows, the widest first.
///
/// # Safety
/// As for [`loop_1`].
#[inline(always)]
pub(super) unsafe fn micro_tiles<S: Simd, A: ALayout, B: BAccess, const MR: usize>(s: S, t: &MicroTile) {
    let mut done = 0;
    // SAFETY: as the caller promises.
    unsafe {
        done = of_width::<S, A, B, MR, 8>(s, t, done);
        done = of_width::<S, A, B, MR, 4>(s, t, done);
        done = of_width::<S, A, B, MR, 2>(s, t, done);
        of_width::<S, A, B, MR, 1>(s, t, done);
    }
}

/// Computes as many micro-tiles of `NV` vectors as there are from vector `done` on; returns the vectors done
/// then.
///
/// # Safety
/// As for [`loop_1`].
#[inline(always)]
unsafe fn of_width<S: Simd, A: ALayout, B: BAccess, const MR: usize, const NV: usize>(
    s: S,
    t: &MicroTile,
    done: usize,
) -> usize {
    if const { !fits::<S, B>(MR, NV) } {
        return done;
    }
    let left = t.cols.saturating_sub(done * S::LANES);
    let (full, rest) = (left / (NV * S::LANES), left % (NV * S::LANES));
    // A last one that fills all vectors but one, and a part of that.
    let partial = usize::from(rest > (NV - 1) * S::LANES);
    // SAFETY: as the caller promises, for a part of the columns.
    unsafe {
        if full > 0 {
            s.outline(MicroTiles::<S, A, B, MR, NV, true>::new(s, t, done, full));
        }
        if partial > 0 {
            // Masked loads and stores are slow on some processors: columns are rather computed twice.
            let again = const { S::FRONT_END_BOUND && !B::BY_COLUMNS && !B::PACKS && !B::STREAMED && !B::PANELS };
            match if again { t.last_full::<S>(NV) } else { None } {
                Some(last) => s.outline(MicroTiles::<S, A, B, MR, NV, true>::new(s, &last, 0, 1)),
                None => s.outline(MicroTiles::<S, AnyStrides, B, MR, NV, false>::new(s, t, done + full * NV, 1)),
            }
        }
    }
    done + (full + partial) * NV
}
