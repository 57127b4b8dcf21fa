//! The micro-kernel: a micro-tile of C, MR rows by NV vectors, stays in registers over the depth.
//!
//! ```text
//! acc[i][v] = start                                   MR x NV registers
//! for k in 0..depth
//!     b[v]      = B[k][v * LANES ..]                  NV loads
//!     acc[i][v] = fma(A[i][k], b[v], acc[i][v])       MR broadcasts, MR * NV fmas
//! C[i][v] = store(acc[i][v])
//! ```
//!
//! Each element has one accumulator that takes k in ascending order: that is the numeric contract, and the
//! reason why neither the shape of the micro-tile nor its place changes a bit.
//!
//! Beyond the plain loop a micro-kernel may:
//!
//! 1. read contiguous columns of B, four k-steps at a time, transposed in registers;
//! 2. pack B for the micro-tiles below on the way: its stores fill issue slots that the multiply-adds leave;
//! 3. prefetch C during the k-loop, B where it is streamed or packed, and A of the next row of micro-tiles.
//!
//! Accumulators are indexed only by loops of constant length without branches, which are unrolled; anything
//! else would spill them to the stack.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::access::{ALayout, BAccess, MAX_NV_BY_COLUMNS, MAX_TILE};
use super::columns::{by_columns, transpose_last_rows};
use super::element::{Element, Line};
use super::k_loop::{Acc, Cursor, Vectors};
use super::microtile::{MicroTile, Start, Store, at};
use crate::matrix::MatPtr;
use crate::simd::{MAX_LANES, Simd, SimdOp, opaque_ptr};
use crate::tuning::gemm::{PACK_PREFETCH_STEPS, STREAM_PREFETCH, UNROLL};

/// Neighbouring micro-tiles of a row, as a function of their own: compile time grows faster than a function's
/// length.
pub(super) struct MicroTiles<'a, S, A, B, const MR: usize, const NV: usize, const FULL: bool> {
    s: S,
    row: &'a MicroTile,
    first_vector: usize,
    count: usize,
    operands: PhantomData<(A, B)>,
}

impl<'a, S: Simd, A: ALayout, B: BAccess, const MR: usize, const NV: usize, const FULL: bool>
    MicroTiles<'a, S, A, B, MR, NV, FULL>
{
    /// `count` micro-tiles from a vector of the row on; all are `FULL`, or the only one is not.
    ///
    /// # Safety
    /// When it runs, the requirements of [`microtile`] hold for each of them.
    #[inline(always)]
    pub(super) unsafe fn new(s: S, row: &'a MicroTile, first_vector: usize, count: usize) -> Self {
        Self { s, row, first_vector, count, operands: PhantomData }
    }
}

impl<S: Simd, A: ALayout, B: BAccess, const MR: usize, const NV: usize, const FULL: bool> SimdOp
    for MicroTiles<'_, S, A, B, MR, NV, FULL>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let first = self.row.at::<S, B::Element>(0, self.first_vector);
        for i in 0..self.count {
            let mut t = first.at::<S, B::Element>(0, i * NV);
            if i + 1 < self.count {
                t.next_a.step = 0;
            }
            let mut left = t.depth;
            loop {
                t.depth = left.min(t.chunk);
                // SAFETY: `new` had the caller promise the requirements of `microtile`.
                unsafe { microtile::<S, A, B, MR, NV, FULL>(self.s, t) };
                left -= t.depth;
                if left == 0 {
                    break;
                }
                t.next_chunk::<B::Element>();
            }
        }
    }
}

/// Computes a micro-tile; `FULL` if it has all of its `NV * LANES` columns.
///
/// Where the columns of C or of a gate are not contiguous, it goes through buffers in which they are.
///
/// # Safety
/// - A has MR rows and `depth` columns to read, B `depth` rows and `cols` columns, of panels all of each
///   vector;
/// - C has MR rows and `cols` columns to write, the bias and the gate, where there is one, as many to read;
/// - where B is packed, the panel has room for `depth` rows of NV vectors.
#[inline(always)]
unsafe fn microtile<S: Simd, A: ALayout, B: BAccess, const MR: usize, const NV: usize, const FULL: bool>(
    s: S,
    mut t: MicroTile,
) {
    let c = t.c;
    let (rows, cols) = (MR, t.cols.min(NV * S::LANES));
    let buffered = c.col_stride != 1 || t.store.gate().is_some_and(|gate| gate.col_stride != 1);
    let mut buffers = [const { MaybeUninit::<[Line; MAX_TILE / MAX_LANES]>::uninit() }; 2];
    let p: *mut f32 = buffers.as_mut_ptr().cast();
    let buffer = MatPtr { p, row_stride: NV * S::LANES, col_stride: 1 };
    // SAFETY: a micro-tile is no larger than its buffer, and C and the gate have its rows and columns.
    unsafe {
        if buffered {
            if matches!(t.start, Start::Resume) || matches!(t.store, Store::Add) {
                copy(c, buffer, rows, cols);
            }
            if let Store::Gate(gate) = &mut t.store {
                let buffer = MatPtr { p: p.wrapping_add(MAX_TILE), ..buffer };
                copy(*gate, buffer, rows, cols);
                *gate = buffer;
            }
            t.c = buffer;
        }
        microkernel::<S, A, B, MR, NV, FULL>(s, t);
        // Opaque, or the compiler would emit the micro-kernel twice, once for either case.
        if !opaque_ptr(if buffered { p } else { std::ptr::null() }).is_null() {
            copy(buffer, c, rows, cols);
        }
    }
}

/// Copies a matrix. Out of line, or it would be part of every micro-kernel.
///
/// # Safety
/// `from` has these rows and columns to read, `to` to write.
#[inline(never)]
unsafe fn copy(from: MatPtr, to: MatPtr, rows: usize, cols: usize) {
    for row in 0..rows {
        for col in 0..cols {
            // SAFETY: both matrices have this row and column.
            unsafe { *to.at(row, col) = *from.at(row, col) };
        }
    }
}

/// [`microtile`] where the columns of C and of a gate are contiguous.
///
/// # Safety
/// As for [`microtile`].
#[inline(always)]
unsafe fn microkernel<S: Simd, A: ALayout, B: BAccess, const MR: usize, const NV: usize, const FULL: bool>(
    s: S,
    mut t: MicroTile,
) {
    t.a.row = A::ROW_STRIDE.unwrap_or(t.a.row);
    t.a.col = A::COL_STRIDE.unwrap_or(t.a.col);
    t.b.row = if B::PANELS { S::LANES } else { t.b.row };
    let t = t;
    let vectors = if FULL {
        Vectors { s, full: NV, tail: 0 }
    } else {
        Vectors { s, full: NV - 1, tail: t.cols - (NV - 1) * S::LANES }
    };
    // SAFETY: `microtile` requires what each part reads and writes.
    unsafe {
        let mut acc: Acc<S, MR, NV> = start(vectors, &t);
        prefetch_c::<S, MR, NV>(s, &t);
        let mut cursor = Cursor {
            a: t.a.p,
            b: t.b.p.cast::<B::Element>(),
            b_row: t.b.row,
            b_vector: t.b.vector,
            panel: t.panel.p,
            next_a: t.next_a.p,
            left: t.depth,
        };
        let mut last_rows = [MaybeUninit::<Line>::uninit(); 4 * MAX_NV_BY_COLUMNS];
        if B::BY_COLUMNS {
            by_columns::<S, B, MR, NV, FULL>(vectors, &t, &mut cursor, &mut acc);
            if cursor.left > 0 {
                transpose_last_rows::<S, B, NV>(vectors, &t, &mut cursor, last_rows.as_mut_ptr().cast());
            }
        }
        while S::FRONT_END_BOUND && !B::BY_COLUMNS && !B::PACKS && cursor.left >= UNROLL {
            for k in 0..UNROLL {
                step::<S, B, MR, NV>(vectors, &t, k, &mut cursor, &mut acc);
                let (a, b) = s.load_barrier(cursor.a, cursor.b.cast());
                (cursor.a, cursor.b) = (a, b.cast());
            }
            cursor.a = cursor.a.wrapping_add(at(UNROLL, t.a.col));
            cursor.left -= UNROLL;
        }
        while cursor.left > 0 {
            step::<S, B, MR, NV>(vectors, &t, 0, &mut cursor, &mut acc);
            cursor.a = cursor.a.wrapping_add(t.a.col);
            cursor.left -= 1;
        }
        store(vectors, &t, &acc);
    }
}

/// Starts the accumulators: at zero, at the bias, or at C.
///
/// # Safety
/// The bias or C has the rows and columns of the micro-tile.
#[inline(always)]
unsafe fn start<S: Simd, const MR: usize, const NV: usize>(vectors: Vectors<S>, t: &MicroTile) -> Acc<S, MR, NV> {
    let s = vectors.s;
    let mut acc = [[s.splat(0.0); NV]; MR];
    // SAFETY: the bias has an element per row or column of the micro-tile; C has its rows and columns.
    unsafe {
        match t.start {
            Start::Zero => {}
            Start::RowBias(bias) => {
                for (i, row) in acc.iter_mut().enumerate() {
                    *row = [s.splat(bias.wrapping_add(i).read_unaligned()); NV];
                }
            }
            Start::ColBias(_) | Start::Resume => {
                let (mut from, row_stride) = match t.start {
                    Start::ColBias(bias) => (bias, 0),
                    _ => (t.c.p.cast_const(), t.c.row_stride),
                };
                for row in &mut acc {
                    for (v, value) in row.iter_mut().enumerate() {
                        *value = vectors.load(from.wrapping_add(v * S::LANES), v);
                    }
                    from = opaque_ptr(from.wrapping_add(row_stride));
                }
            }
        }
    }
    acc
}

/// Prefetches C, which is written after the k-loop.
#[inline(always)]
fn prefetch_c<S: Simd, const MR: usize, const NV: usize>(s: S, t: &MicroTile) {
    let mut c = t.c.p.cast_const();
    for _ in 0..MR {
        for v in 0..NV {
            s.prefetch(c.wrapping_add(v * S::LANES));
        }
        c = opaque_ptr(c.wrapping_add(t.c.row_stride));
    }
}

/// Takes one k-step from a row of B, `k` columns of A behind the cursor.
///
/// # Safety
/// A and B have this k-step, and the panel has room for it where B is packed.
#[inline(always)]
unsafe fn step<S: Simd, B: BAccess, const MR: usize, const NV: usize>(
    vectors: Vectors<S>,
    t: &MicroTile,
    k: usize,
    cursor: &mut Cursor<B::Element>,
    acc: &mut Acc<S, MR, NV>,
) {
    let s = vectors.s;
    let mut row = [s.splat(0.0); NV];
    for (v, value) in row.iter_mut().enumerate() {
        let b = cursor.b.wrapping_add(at(v, cursor.b_vector));
        // SAFETY: B has a row for this step; panels, and transposed rows, have all of each vector.
        unsafe {
            *value = if B::BY_COLUMNS || B::PANELS { B::Element::load(s, b) } else { vectors.load(b.cast(), v) };
            if B::PACKS {
                s.store(cursor.panel.wrapping_add(at(v, t.panel.vector)), *value);
            }
        }
    }
    for (i, acc) in acc.iter_mut().enumerate() {
        let a = cursor.a.wrapping_add(at(i, t.a.row)).wrapping_add(at(k, t.a.col));
        // SAFETY: A has MR rows and a column for this step.
        let a = s.splat(unsafe { a.read_unaligned() });
        for (acc, &b) in acc.iter_mut().zip(&row) {
            *acc = s.fma(a, b, *acc);
        }
    }
    cursor.b = cursor.b.wrapping_add(cursor.b_row);
    if B::PACKS {
        cursor.panel = cursor.panel.wrapping_add(t.panel.row);
        let ahead = cursor.b.wrapping_add(at(PACK_PREFETCH_STEPS, cursor.b_row));
        (0..NV).for_each(|v| s.prefetch(ahead.wrapping_add(at(v, cursor.b_vector)).cast()));
    } else if B::STREAMED {
        let ahead = if t.cols > STREAM_PREFETCH { STREAM_PREFETCH } else { STREAM_PREFETCH.wrapping_add(t.gap) };
        (0..NV).for_each(|v| s.prefetch_l2(cursor.b.wrapping_add(ahead).wrapping_add(at(v, cursor.b_vector)).cast()));
    } else if !S::FRONT_END_BOUND {
        s.prefetch(cursor.next_a);
        cursor.next_a = cursor.next_a.wrapping_add(t.next_a.step);
    }
}

/// Stores a micro-tile, with the part of the epilogue that is done in registers.
///
/// # Safety
/// C has its rows and columns to write, the gate, if there is one, to read.
#[inline(always)]
unsafe fn store<S: Simd, const MR: usize, const NV: usize>(vectors: Vectors<S>, t: &MicroTile, acc: &Acc<S, MR, NV>) {
    let (s, zero) = (vectors.s, vectors.s.splat(0.0));
    let mut c = t.c.p;
    // A macro, since each epilogue has a loop of its own: a branch within would spill the accumulators.
    macro_rules! each {
        (|$c:ident, $v:ident, $acc:ident| $value:expr $(; $after_row:expr)?) => {
            for row in acc {
                for ($v, &$acc) in row.iter().enumerate() {
                    let $c = c.wrapping_add($v * S::LANES);
                    vectors.store($c, $v, $value);
                }
                $($after_row;)?
                c = opaque_ptr(c.wrapping_add(t.c.row_stride)).cast_mut();
            }
        };
    }
    // SAFETY: C and the gate have these rows, and `vectors` keeps to their columns.
    unsafe {
        match t.store {
            Store::Plain => each!(|_c, v, acc| acc),
            Store::Relu => each!(|_c, v, acc| s.max(zero, acc)),
            Store::Gate(gate) => {
                let mut gate_row = gate.p.cast_const();
                each!(|_c, v, acc| {
                    let gate = vectors.load(gate_row.wrapping_add(v * S::LANES), v);
                    s.select(s.lt(zero, gate), acc, zero)
                }; gate_row = opaque_ptr(gate_row.wrapping_add(gate.row_stride)))
            }
            Store::Add => each!(|c, v, acc| s.add(vectors.load(c, v), acc)),
        }
    }
}
