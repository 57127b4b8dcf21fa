//! Rows of few elements: one in each lane, so that nothing is summed across lanes. As many rows as the widest vector
//! has lanes are a group: what is done once a row, a logarithm or a division, is done for a group at a time, which
//! hides how long it takes.

use std::mem::MaybeUninit;

use super::Softmaxes;
use crate::kernels::elementwise::Operand;
use crate::kernels::tier::Tier;
use crate::kernels::{load_row, store_row};
use crate::matrix::{MatMut, MatRef};
use crate::simd::{ROW_LANES, Simd};

/// The most elements.
pub(super) const SHORT: usize = 64;

/// Vectors of the least lanes that hold a number for each row of a group.
pub(super) const MAX_VECTORS: usize = 4;

/// Columns that [`Simd::load_columns`] takes at a time.
const GROUP: usize = 4;

/// A number for each row of a group.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct PerRow(pub(super) [f32; ROW_LANES]);

impl PerRow {
    /// Those of rows from `row` on.
    #[inline(always)]
    pub(super) fn load<S: Simd>(&self, s: S, row: usize) -> S::F32 {
        let rows = &self.0[row..row + S::LANES];
        // SAFETY: the slice has so many.
        unsafe { s.load(rows.as_ptr()) }
    }

    #[inline(always)]
    pub(super) fn store<S: Simd>(&mut self, s: S, row: usize, v: S::F32) {
        let rows = &mut self.0[row..row + S::LANES];
        // SAFETY: as above.
        unsafe { s.store(rows.as_mut_ptr(), v) };
    }
}

/// Room for the columns of as many rows as there are lanes.
pub(super) struct Columns<S: Simd>([MaybeUninit<S::F32>; SHORT]);

impl<S: Simd> Columns<S> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self([MaybeUninit::uninit(); SHORT])
    }

    /// So many columns, at most [`SHORT`], and as many more as make whole groups for [`sum`]; all are 0.
    #[inline(always)]
    pub(super) fn zeroed(&mut self, s: S, cols: usize) -> &mut [S::F32] {
        self.0[..whole_groups(cols)].fill(MaybeUninit::new(s.splat(0.0)));
        // SAFETY: they have just been written.
        unsafe { self.written(cols) }
    }

    /// The same as they are.
    ///
    /// # Safety
    /// They have been [`zeroed`](Self::zeroed) once.
    #[inline(always)]
    pub(super) unsafe fn written(&mut self, cols: usize) -> &mut [S::F32] {
        let columns = &mut self.0[..whole_groups(cols)];
        // SAFETY: the caller's.
        unsafe { &mut *(std::ptr::from_mut(columns) as *mut [S::F32]) }
    }
}

fn whole_groups(cols: usize) -> usize {
    cols.next_multiple_of(ROW_LANES).min(SHORT)
}

/// Reads so many columns of so many rows, 1 to `LANES`; what is past them stays as it is.
///
/// # Safety
/// There are so many rows and columns to read.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(s: S, x: Operand, [rows, cols]: [usize; 2], columns: &mut [S::F32]) {
    // SAFETY: the caller's.
    unsafe {
        // Where the number of rows is known to the compiler, no row is looked at on its own.
        if rows == S::LANES {
            load_rows(s, x, [S::LANES, cols], columns);
        } else {
            load_rows(s, x, [rows, cols], columns);
        }
    }
}

/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn load_rows<S: Simd>(
    s: S,
    Operand { p, strides: [row_stride, col_stride] }: Operand,
    [rows, cols]: [usize; 2],
    columns: &mut [S::F32],
) {
    // SAFETY: the caller's.
    unsafe {
        if col_stride == 1 && cols >= GROUP {
            for col in (0..cols).step_by(GROUP) {
                // The last group may hold columns of the one before.
                let col = col.min(cols - GROUP);
                let group = s.load_columns(p.wrapping_add(col), row_stride, rows);
                columns[col..col + GROUP].copy_from_slice(&group);
            }
        } else {
            for (col, v) in columns[..cols].iter_mut().enumerate() {
                *v = load_row(s, p.wrapping_add(col * col_stride), row_stride, rows, s.splat(0.0));
            }
        }
    }
}

/// Writes columns to so many rows, 1 to `LANES`.
///
/// # Safety
/// There are so many rows and columns to write.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(s: S, y: Operand, rows: usize, columns: &[S::F32]) {
    // SAFETY: the caller's.
    unsafe {
        if rows == S::LANES {
            store_rows(s, y, S::LANES, columns);
        } else {
            store_rows(s, y, rows, columns);
        }
    }
}

/// # Safety
/// As for [`store`].
#[inline(always)]
unsafe fn store_rows<S: Simd>(
    s: S,
    Operand { p, strides: [row_stride, col_stride] }: Operand,
    rows: usize,
    columns: &[S::F32],
) {
    let cols = columns.len();
    // SAFETY: the caller's.
    unsafe {
        if col_stride == 1 && cols >= GROUP {
            for col in (0..cols).step_by(GROUP) {
                let col = col.min(cols - GROUP);
                let group = [columns[col], columns[col + 1], columns[col + 2], columns[col + 3]];
                s.store_columns(p.wrapping_add(col), row_stride, rows, group);
            }
        } else {
            for (col, &v) in columns.iter().enumerate() {
                store_row(s, p.wrapping_add(col * col_stride), row_stride, rows, v);
            }
        }
    }
}

/// Works on all rows.
///
/// # Safety
/// The views have so many rows and columns, 1 to [`SHORT`] of these.
#[inline(always)]
pub(super) unsafe fn each_group<T: Tier, Op: Softmaxes<INPUTS>, const INPUTS: usize>(
    tier: T,
    op: Op,
    x: [MatRef<'_>; INPUTS],
    mut y: MatMut<'_>,
    [rows, cols]: [usize; 2],
) {
    let (s, lanes) = (tier.vector(), T::Vector::LANES);
    let mut blocks = [(); MAX_VECTORS].map(|()| [(); INPUTS].map(|()| Columns::<T::Vector>::new()));
    for columns in blocks[..ROW_LANES / lanes].iter_mut().flatten() {
        columns.zeroed(s, cols);
    }
    let mut room = Columns::new();
    let room = room.zeroed(s, cols);
    let y = Operand { p: y.as_mut_ptr(), strides: [y.row_stride(), y.col_stride()] };
    let x = x.map(Operand::of);
    for first in (0..rows).step_by(ROW_LANES) {
        let (x, y) = (x.map(|x| x.from(first, 0)), y.from(first, 0));
        // SAFETY: the caller's; all columns are zeroed.
        unsafe {
            // With a number of rows that the compiler knows, the usual case asks for nothing.
            if rows - first >= ROW_LANES {
                group(tier, op, x, y, [ROW_LANES, cols], &mut blocks, room);
            } else {
                group(tier, op, x, y, [rows - first, cols], &mut blocks, room);
            }
        }
    }
}

/// Works on a group of rows.
///
/// # Safety
/// There are so many rows and columns to read and write; the blocks' columns are zeroed.
#[inline(always)]
unsafe fn group<T: Tier, Op: Softmaxes<INPUTS>, const INPUTS: usize>(
    tier: T,
    op: Op,
    x: [Operand; INPUTS],
    y: Operand,
    [rows, cols]: [usize; 2],
    blocks: &mut [[Columns<T::Vector>; INPUTS]; MAX_VECTORS],
    room: &mut [<T::Vector as Simd>::F32],
) {
    let (s, r, lanes) = (tier.vector(), tier.row(), T::Vector::LANES);
    let mut of_rows = [PerRow([0.0; ROW_LANES]); 2];
    for (v, blocks) in blocks.iter_mut().enumerate().take(rows.div_ceil(lanes)) {
        let (row, n) = (v * lanes, lanes.min(rows - v * lanes));
        // SAFETY: the caller's.
        let mut columns = blocks.each_mut().map(|columns| unsafe { columns.written(cols) });
        for (columns, x) in columns.iter_mut().zip(x) {
            // SAFETY: as above.
            unsafe { load(s, x.from(row, 0), [n, cols], columns) };
        }
        let of_these = op.reduce(s, columns, room, cols);
        for (of_rows, of_these) in of_rows.iter_mut().zip(of_these) {
            of_rows.store(s, row, of_these);
        }
    }
    let sums = op.of_sums(r, of_rows[1].load(r, 0));
    of_rows[1].store(r, 0, sums);
    for (v, blocks) in blocks.iter_mut().enumerate().take(rows.div_ceil(lanes)) {
        let (row, n) = (v * lanes, lanes.min(rows - v * lanes));
        // SAFETY: the caller's.
        let mut columns = blocks.each_mut().map(|columns| unsafe { &mut columns.written(cols)[..cols] });
        let of_these = [of_rows[0].load(s, row), of_rows[1].load(s, row)];
        op.finish(s, &mut columns, of_these);
        // SAFETY: as above.
        unsafe { store(s, y.from(row, 0), n, columns[INPUTS - 1]) };
    }
}

/// Each row's maximum, NaNs left out; no less than the least finite number.
#[inline(always)]
pub(super) fn max<S: Simd>(s: S, x: &[S::F32]) -> S::F32 {
    let mut max = s.splat(f32::MIN);
    for &x in x {
        max = s.max(x, max);
    }
    max
}

/// The sum of the columns, whose number is a multiple of the partial sums', by way of those.
#[inline(always)]
pub(super) fn sum<S: Simd>(s: S, columns: &[S::F32]) -> S::F32 {
    let zero = s.splat(0.0);
    let mut partials = [zero; ROW_LANES];
    partials.copy_from_slice(&columns[..ROW_LANES]);
    for columns in columns[ROW_LANES..].chunks_exact(ROW_LANES) {
        for (partial, &column) in partials.iter_mut().zip(columns) {
            *partial = s.add(column, *partial);
        }
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            partials[i] = s.add(partials[i], partials[i + half]);
        }
    }
    // Sums begin with 0, which makes one of -0.
    s.add(partials[0], zero)
}
