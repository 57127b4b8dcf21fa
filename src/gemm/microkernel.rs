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
//! B is read as it stands, be its rows or its columns without gaps, and may be copied to packed
//! panels on the way, for the tiles below: the loads, shuffles and stores of that fill the time that
//! the multiply-adds leave.
//!
//! The accumulators are only ever indexed by loops of constant length and without branches: those
//! are unrolled, and anything else would move the accumulators from the registers to the stack.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::packed::Line;
use crate::simd::strided::load_strided;
use crate::simd::{MAX_LANES, Simd, SimdOp, opaque_ptr};
use crate::tuning::CACHE_LINE;
use crate::tuning::gemm::{PACK_PREFETCH_STEPS, STAGED_PIECE, STREAM_PREFETCH, UNROLL};

/// Where the accumulators begin.
#[derive(Clone, Copy)]
pub(super) enum TileStart {
    /// At +0.
    Zero,
    /// At one value a column, from this address.
    Bias(*const f32),
    /// At one value a row, from this address.
    RowBias(*const f32),
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

/// A tile's operands. Strides in elements.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// A's rows and columns may stand anyhow.
    pub a: *const f32,
    pub a_row: usize,
    pub a_col: usize,
    /// The elements of a vector of B stand as its [`Source`] says, its vectors `b_vector` apart.
    pub b: *const f32,
    pub b_row: usize,
    pub b_col: usize,
    pub b_vector: usize,
    /// Where to copy B, vectors of a row `panel_vector` apart and rows `panel_row`.
    pub panel: *mut f32,
    pub panel_row: usize,
    pub panel_vector: usize,
    pub c: *mut f32,
    pub c_row: usize,
    pub c_col: usize,
    pub depth: usize,
    /// The depth of a sum of its own, which is then added to C.
    pub chunk: usize,
    /// Of a streamed B: what lies between the end of what is read in one run and the beginning of
    /// the next.
    pub gap: usize,
    /// What the next row of tiles needs of A: a line is asked for each step of the depth, unless tiles are terse
    /// ([`Simd::FRONT_END_BOUND`]). Of neighbours in a row only the last asks: more would push what is in use out of L1.
    pub ahead: *const f32,
    pub ahead_step: usize,
    /// Columns of C from the tile's first to the last of the block: more than `(NV - 1) * LANES`.
    pub cols: usize,
    pub start: TileStart,
    pub finish: TileFinish,
}

impl Tile {
    /// Reads B from the panels from now on.
    #[inline(always)]
    pub(super) fn read_panels(&mut self) {
        (self.b, self.b_row, self.b_col, self.b_vector) = (self.panel, self.panel_row, 1, self.panel_vector);
    }

    /// Goes on by the depth, from a chunk to the next.
    #[inline(always)]
    fn next_chunk(&mut self) {
        self.a = self.a.wrapping_add(self.depth * self.a_col);
        self.b = self.b.wrapping_add(self.depth * self.b_row);
        self.panel = self.panel.wrapping_add(self.depth * self.panel_row);
        self.ahead = self.ahead.wrapping_add(self.depth * self.ahead_step);
        (self.start, self.finish) = (TileStart::Zero, TileFinish::Add);
    }

    /// The tile `i` rows below and `vectors` to the right.
    #[inline(always)]
    pub(super) fn at<S: Simd>(self, i: usize, vectors: usize) -> Self {
        Self {
            b: self.b.wrapping_add(vectors.wrapping_mul(self.b_vector)),
            panel: self.panel.wrapping_add(vectors * self.panel_vector),
            ..self.beside_b(i, vectors * S::LANES)
        }
    }

    /// The tile of the last vectors of a B whose columns are neighbours, all of them whole, if it may
    /// compute again what the tile before it has computed.
    #[inline(always)]
    pub(super) fn last_whole<S: Simd>(self, vectors: usize) -> Option<Self> {
        let again = !matches!(self.start, TileStart::Resume) && !matches!(self.finish, TileFinish::Add);
        let j = self.cols.checked_sub(vectors * S::LANES)?;
        (again && self.b_vector == S::LANES).then(|| Self { b: self.b.wrapping_add(j), ..self.beside_b(0, j) })
    }

    /// The tile `i` rows below and `j` columns to the right, but for B.
    #[inline(always)]
    fn beside_b(self, i: usize, j: usize) -> Self {
        Self {
            a: self.a.wrapping_add(i * self.a_row),
            c: self.c.wrapping_add(i * self.c_row + j * self.c_col),
            cols: self.cols - j,
            start: match self.start {
                TileStart::Bias(bias) => TileStart::Bias(bias.wrapping_add(j)),
                TileStart::RowBias(bias) => TileStart::RowBias(bias.wrapping_add(i)),
                same => same,
            },
            finish: match self.finish {
                TileFinish::Gate { gate, row, col } => {
                    TileFinish::Gate { gate: gate.wrapping_add(i * row + j * col), row, col }
                }
                same => same,
            },
            ..self
        }
    }
}

/// How A stands, as far as the compiler knows: a stride of 1 saves instructions that compute addresses.
pub(super) trait Order {
    /// Elements from a row to the next.
    const ROW_STRIDE: Option<usize> = None;
    /// Elements from a column to the next.
    const COL_STRIDE: Option<usize> = None;
}

/// Rows without gaps.
pub(super) struct RowMajor;
/// Columns without gaps.
pub(super) struct ColumnMajor;
/// Anyhow.
pub(super) struct AnyOrder;

impl Order for RowMajor {
    const COL_STRIDE: Option<usize> = Some(1);
}
impl Order for ColumnMajor {
    const ROW_STRIDE: Option<usize> = Some(1);
}
impl Order for AnyOrder {}

/// How a tile reads B.
pub(super) trait Source {
    /// Whether its columns are without gaps, `b_row` is 1 and the distance of columns is `b_col`; else its rows are.
    const COLUMNS: bool;
    /// Whether its columns go through a buffer, a piece at a time.
    const STAGED: bool;
    /// Whether it is copied to the panel.
    const COPIED: bool;
    /// Whether it is packed panels of `LANES` columns: then all its vectors are whole, and `b_row` is `LANES`.
    const PANELS: bool = false;
    /// Whether it comes from memory, once, in the order in which it is read: then it is asked for
    /// [`STREAM_PREFETCH`] elements ahead.
    const STREAMED: bool = false;
    /// The most rows of a tile, beside what the registers allow: each height is code of its own.
    const MAX_ROWS: usize = usize::MAX;
}

/// Rows without gaps.
pub(super) struct Rows;
/// Packed panels.
pub(super) struct Panels;
/// Rows without gaps, to be copied to panels.
pub(super) struct CopiedRows;
/// Columns without gaps.
pub(super) struct Columns;
/// Rows without gaps from memory: few of them, so that each is read in one long run.
pub(super) struct StreamedRows;
/// Columns without gaps from memory, one narrow vector of them at a time.
pub(super) struct StreamedColumns;
/// Columns without gaps, copied to panels.
pub(super) struct CopiedColumns;
/// The same for columns of a [`CONFLICT_STRIDE`].
pub(super) struct CrowdedColumns;

impl Source for Rows {
    const COLUMNS: bool = false;
    const STAGED: bool = false;
    const COPIED: bool = false;
}
impl Source for Panels {
    const COLUMNS: bool = false;
    const STAGED: bool = false;
    const COPIED: bool = false;
    const PANELS: bool = true;
}
impl Source for CopiedRows {
    const COLUMNS: bool = false;
    const STAGED: bool = false;
    const COPIED: bool = true;
}
impl Source for Columns {
    const COLUMNS: bool = true;
    const STAGED: bool = false;
    const COPIED: bool = false;
    // With more, the copying for nobody is lost among the multiply-adds.
    const MAX_ROWS: usize = 6;
}
impl Source for StreamedRows {
    const COLUMNS: bool = false;
    const STAGED: bool = false;
    const COPIED: bool = false;
    const STREAMED: bool = true;
    // More take longer than memory does.
    const MAX_ROWS: usize = 6;
}
impl Source for StreamedColumns {
    const COLUMNS: bool = true;
    const STAGED: bool = false;
    const COPIED: bool = false;
    const STREAMED: bool = true;
    const MAX_ROWS: usize = 1;
}
impl Source for CopiedColumns {
    const COLUMNS: bool = true;
    const STAGED: bool = false;
    const COPIED: bool = true;
}
impl Source for CrowdedColumns {
    const COLUMNS: bool = true;
    const STAGED: bool = true;
    const COPIED: bool = true;
}

/// Some tiles of a row, as a function of its own: the compiler's time grows faster than a function's length.
pub(super) struct Outlined<'a, S, A, B, const MR: usize, const NV: usize, const WHOLE: bool> {
    s: S,
    row: &'a Tile,
    first: usize,
    tiles: usize,
    operands: PhantomData<(A, B)>,
}

impl<'a, S: Simd, A: Order, B: Source, const MR: usize, const NV: usize, const WHOLE: bool>
    Outlined<'a, S, A, B, MR, NV, WHOLE>
{
    /// So many neighbours from vector `first` of the row on, all of them `WHOLE`, or none.
    ///
    /// # Safety
    /// As for [`tile`], for all of them, when it is run.
    #[inline(always)]
    pub(super) unsafe fn new(s: S, row: &'a Tile, first: usize, tiles: usize) -> Self {
        Self { s, row, first, tiles, operands: PhantomData }
    }
}

impl<S: Simd, A: Order, B: Source, const MR: usize, const NV: usize, const WHOLE: bool> SimdOp
    for Outlined<'_, S, A, B, MR, NV, WHOLE>
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let first = self.row.at::<S>(0, self.first);
        for i in 0..self.tiles {
            let mut t = first.at::<S>(0, i * NV);
            if i + 1 < self.tiles {
                t.ahead_step = 0;
            }
            let mut left = t.depth;
            loop {
                t.depth = left.min(t.chunk);
                // SAFETY: the word of the caller of `new`.
                unsafe { tile::<S, A, B, MR, NV, WHOLE>(self.s, t) };
                left -= t.depth;
                if left == 0 {
                    break;
                }
                t.next_chunk();
            }
        }
    }
}

/// Elements of the pieces of a vector's columns.
const STAGE: usize = STAGED_PIECE * MAX_LANES;
/// Steps of the depth between two rows, so that all are copied while a piece is used up.
const STEPS_A_ROW: usize = STAGED_PIECE / MAX_LANES;
/// Elements of the largest tile.
const TILE_ELEMENTS: usize = 512;

/// Whether there are tiles of this size: those whose accumulators, and either a row of B or a column of A beside one
/// element of the other, fit the registers. Of those that copy B for others there are tall ones only, since each tile is
/// code of its own, and for few rows nothing is copied.
pub(super) const fn fits<S: Simd, B: Source>(mr: usize, nv: usize) -> bool {
    if mr > S::MAX_MR || mr > B::MAX_ROWS || B::COPIED && !B::STAGED && 2 * mr < S::MAX_MR {
        return false;
    }
    if B::COLUMNS {
        // Four columns are sorted at a time. A few rows have too few accumulators to keep the units
        // busy with a single vector.
        let few = mr * nv <= MAX_COLUMN_VECTORS && !B::STAGED && !B::STREAMED;
        return (nv == 1 || few) && mr * nv + 4 < S::REGISTERS;
    }
    let beside = if mr < nv { mr } else { nv };
    mr * nv + beside < S::REGISTERS && mr * nv * S::LANES <= TILE_ELEMENTS
}

/// The most vectors of a tile that sorts columns.
const MAX_COLUMN_VECTORS: usize = 4;

/// The most rows that a tile of one vector may have.
pub(super) const fn tallest<S: Simd, B: Source>() -> usize {
    let mut rows = S::MAX_MR;
    while !fits::<S, B>(rows, 1) {
        rows -= 1;
    }
    rows
}

/// Computes one tile; `WHOLE` if it has all its `NV * LANES` columns.
///
/// Where the columns of C or of a gate are not neighbours, it goes by way of buffers in which they are.
///
/// # Safety
/// MR rows of A and C, `depth` columns of A, `depth` rows of B, `cols` columns of B and C, and bias
/// or gate where there is one, lie within what the caller may read or write; of panels, all of each vector.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, A: Order, B: Source, const MR: usize, const NV: usize, const WHOLE: bool>(
    s: S,
    mut t: Tile,
) {
    let gate_col = if let TileFinish::Gate { col, .. } = t.finish { col } else { 1 };
    let (c, c_strides) = (t.c, [t.c_row, t.c_col]);
    let buffered = t.c_col != 1 || gate_col != 1;
    let (row, size) = (NV * S::LANES, [MR, t.cols.min(NV * S::LANES)]);
    let mut buffers = [const { MaybeUninit::<[Line; TILE_ELEMENTS / MAX_LANES]>::uninit() }; 2];
    let c_buffer: *mut f32 = buffers.as_mut_ptr().cast();
    // SAFETY: the caller's; a tile is no larger than its buffer.
    unsafe {
        if buffered {
            if matches!(t.start, TileStart::Resume) || matches!(t.finish, TileFinish::Add) {
                copy(c, c_strides, c_buffer, [row, 1], size);
            }
            if let TileFinish::Gate { gate, row: gate_row, col } = t.finish {
                let gate_buffer = c_buffer.wrapping_add(TILE_ELEMENTS);
                copy(gate, [gate_row, col], gate_buffer, [row, 1], size);
                t.finish = TileFinish::Gate { gate: gate_buffer, row, col: 1 };
            }
            (t.c, t.c_row) = (c_buffer, row);
        }
        in_rows::<S, A, B, MR, NV, WHOLE>(s, t);
        // Opaque, or the compiler would write all of the tile twice, for either case.
        if !opaque_ptr(if buffered { c_buffer } else { std::ptr::null() }).is_null() {
            copy(c_buffer, [row, 1], c, c_strides, size);
        }
    }
}

/// The length of `n` strides. Addresses and reads of a tile wrap and take any alignment: unrolled, the
/// checks that debug builds make of others would be most of its code.
#[inline(always)]
fn steps(n: usize, stride: usize) -> usize {
    n.wrapping_mul(stride)
}

/// Copies a matrix between places of any strides. Not a part of the tiles, whose code would be made
/// for this.
///
/// # Safety
/// The elements can be read and written.
#[inline(never)]
unsafe fn copy(
    from: *const f32,
    from_strides: [usize; 2],
    to: *mut f32,
    to_strides: [usize; 2],
    [rows, cols]: [usize; 2],
) {
    for i in 0..rows {
        for j in 0..cols {
            // SAFETY: the caller's.
            unsafe {
                *to.add(i * to_strides[0] + j * to_strides[1]) = *from.add(i * from_strides[0] + j * from_strides[1]);
            }
        }
    }
}

/// [`tile`] where the columns of C, and of a gate, are neighbours.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn in_rows<S: Simd, A: Order, B: Source, const MR: usize, const NV: usize, const WHOLE: bool>(
    s: S,
    mut t: Tile,
) {
    t.a_row = A::ROW_STRIDE.unwrap_or(t.a_row);
    t.a_col = A::COL_STRIDE.unwrap_or(t.a_col);
    t.b_row = if B::PANELS { S::LANES } else { t.b_row };
    let t = t;
    let zero = s.splat(0.0);
    let part = if WHOLE {
        Part { s, whole: NV, tail: 0 }
    } else {
        Part { s, whole: NV - 1, tail: t.cols - (NV - 1) * S::LANES }
    };
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[zero; NV]; MR];
        match t.start {
            TileStart::Zero => {}
            TileStart::RowBias(bias) => {
                for (i, row) in acc.iter_mut().enumerate() {
                    *row = [s.splat(bias.wrapping_add(i).read_unaligned()); NV];
                }
            }
            TileStart::Bias(_) | TileStart::Resume => {
                let (mut from, row) = match t.start {
                    TileStart::Bias(bias) => (bias, 0),
                    _ => (t.c.cast_const(), t.c_row),
                };
                for values in &mut acc {
                    for (v, value) in values.iter_mut().enumerate() {
                        *value = part.get(from.wrapping_add(v * S::LANES), v);
                    }
                    from = opaque_ptr(from.wrapping_add(row));
                }
            }
        }
        // C comes while the sums are taken.
        let mut c = t.c.cast_const();
        for _ in 0..MR {
            for v in 0..NV {
                s.prefetch(c.wrapping_add(v * S::LANES));
            }
            c = opaque_ptr(c.wrapping_add(t.c_row));
        }
        let (mut a, mut b, mut panel, mut ahead) = (t.a, t.b, t.panel, t.ahead);
        let mut left = t.depth;
        let mut stages = [MaybeUninit::<Line>::uninit(); 2 * STAGE / MAX_LANES];
        let stages = stages.as_mut_ptr().cast::<f32>();
        if B::STAGED {
            stage_pieces(s, b, t.b_col, 0..t.cols.min(S::LANES), left, stages);
        }
        while B::COLUMNS && left >= 4 {
            for v in 0..NV {
                let columns = if B::STAGED {
                    let done = t.depth - left;
                    let (chunk, offset) = (done / STAGED_PIECE, done % STAGED_PIECE);
                    let (now, next) =
                        (stages.wrapping_add(chunk % 2 * STAGE), stages.wrapping_add((chunk + 1) % 2 * STAGE));
                    // Part of the next pieces: their loads have the time until they are needed.
                    let row = offset / STEPS_A_ROW;
                    let all = if WHOLE { S::LANES } else { part.tail };
                    let rows = row.min(all)..(row + 1).min(all);
                    let ahead = STAGED_PIECE - offset;
                    stage_pieces(s, b.wrapping_add(ahead), t.b_col, rows, left.saturating_sub(ahead), next);
                    // Behind them, the stage has never been written.
                    s.load_4_columns(now.wrapping_add(offset), STAGED_PIECE, all)
                } else {
                    if B::STREAMED && (t.depth - left).is_multiple_of(CACHE_LINE) {
                        let far = b.wrapping_add(if left > STREAM_PREFETCH {
                            STREAM_PREFETCH
                        } else {
                            STREAM_PREFETCH.wrapping_add(t.gap)
                        });
                        (0..S::LANES).for_each(|column| s.prefetch_l2(far.wrapping_add(steps(column, t.b_col))));
                    }
                    let rows = if v < part.whole { S::LANES } else { part.tail };
                    s.load_4_columns(b.wrapping_add(steps(v, t.b_vector)), t.b_col, rows)
                };
                for (k, &column) in columns.iter().enumerate() {
                    if B::COPIED {
                        s.store(
                            panel.wrapping_add(steps(k, t.panel_row)).wrapping_add(steps(v, t.panel_vector)),
                            column,
                        );
                    }
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let x =
                            s.splat(a.wrapping_add(steps(i, t.a_row)).wrapping_add(steps(k, t.a_col)).read_unaligned());
                        acc[v] = s.fma(x, column, acc[v]);
                    }
                }
            }
            (a, panel) = (a.wrapping_add(4 * t.a_col), panel.wrapping_add(4 * t.panel_row));
            b = b.wrapping_add(4);
            left -= 4;
        }
        // The rows that are left of columns, up to three, are sorted beforehand.
        let mut rows = [MaybeUninit::<Line>::uninit(); 4 * MAX_COLUMN_VECTORS];
        let (mut b_row, mut b_vector) = (t.b_row, t.b_vector);
        if B::COLUMNS && left > 0 {
            let to = rows.as_mut_ptr().cast::<f32>();
            for v in 0..NV {
                let (from, to) = (b.wrapping_add(steps(v, t.b_vector)), to.wrapping_add(v * S::LANES));
                let n = if v < part.whole { S::LANES } else { part.tail };
                if t.depth < 4 {
                    for k in 0..left {
                        s.store(
                            to.wrapping_add(k * NV * S::LANES),
                            load_strided(s, from.wrapping_add(k), t.b_col, n, zero),
                        );
                    }
                } else {
                    let columns = s.load_4_columns(from.wrapping_sub(4 - left), t.b_col, n);
                    for (k, &column) in columns.iter().enumerate() {
                        s.store(to.wrapping_add(k * NV * S::LANES), column);
                    }
                }
            }
            b = if t.depth < 4 { to } else { to.wrapping_add((4 - left) * NV * S::LANES) };
            (b_row, b_vector) = (NV * S::LANES, S::LANES);
        }
        // A macro, since a function would take the accumulators' address.
        macro_rules! step {
            ($k:expr) => {
                let mut row = [zero; NV];
                for (v, value) in row.iter_mut().enumerate() {
                    let b = b.wrapping_add(steps(v, b_vector));
                    *value = if B::COLUMNS || B::PANELS { s.load(b) } else { part.get(b, v) };
                    if B::COPIED {
                        s.store(panel.wrapping_add(steps(v, t.panel_vector)), *value);
                    }
                }
                for (i, acc) in acc.iter_mut().enumerate() {
                    let x =
                        s.splat(a.wrapping_add(steps(i, t.a_row)).wrapping_add(steps($k, t.a_col)).read_unaligned());
                    for (acc, &w) in acc.iter_mut().zip(&row) {
                        *acc = s.fma(x, w, *acc);
                    }
                }
                b = b.wrapping_add(b_row);
                if B::COPIED {
                    panel = panel.wrapping_add(t.panel_row);
                    for v in 0..NV {
                        s.prefetch(b.wrapping_add(steps(PACK_PREFETCH_STEPS, b_row)).wrapping_add(steps(v, b_vector)));
                    }
                } else if B::STREAMED {
                    for v in 0..NV {
                        let far = if t.cols > STREAM_PREFETCH {
                            STREAM_PREFETCH
                        } else {
                            STREAM_PREFETCH.wrapping_add(t.gap)
                        };
                        s.prefetch_l2(b.wrapping_add(far).wrapping_add(steps(v, b_vector)));
                    }
                } else if !S::FRONT_END_BOUND {
                    s.prefetch(ahead);
                    ahead = ahead.wrapping_add(t.ahead_step);
                }
            };
        }
        while S::FRONT_END_BOUND && !B::COLUMNS && !B::COPIED && left >= UNROLL {
            for k in 0..UNROLL {
                step!(k);
                (a, b) = s.load_barrier(a, b);
            }
            a = a.wrapping_add(steps(UNROLL, t.a_col));
            left -= UNROLL;
        }
        while left > 0 {
            step!(0);
            a = a.wrapping_add(t.a_col);
            left -= 1;
        }
        finish(part, t, &acc);
    }
}

/// Writes a tile.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(part: Part<S>, t: Tile, acc: &[[S::F32; NV]; MR]) {
    let (s, zero) = (part.s, part.s.splat(0.0));
    let mut c = t.c;
    // SAFETY: the caller's.
    unsafe {
        match t.finish {
            TileFinish::Store => {
                for row in acc {
                    for (v, &acc) in row.iter().enumerate() {
                        part.put(c.wrapping_add(v * S::LANES), v, acc);
                    }
                    c = opaque_ptr(c.wrapping_add(t.c_row)).cast_mut();
                }
            }
            TileFinish::Relu => {
                for row in acc {
                    for (v, &acc) in row.iter().enumerate() {
                        part.put(c.wrapping_add(v * S::LANES), v, s.max(zero, acc));
                    }
                    c = opaque_ptr(c.wrapping_add(t.c_row)).cast_mut();
                }
            }
            TileFinish::Gate { mut gate, row: gate_row, .. } => {
                for row in acc {
                    for (v, &acc) in row.iter().enumerate() {
                        let gate = part.get(gate.wrapping_add(v * S::LANES), v);
                        part.put(c.wrapping_add(v * S::LANES), v, s.select(s.lt(zero, gate), acc, zero));
                    }
                    gate = opaque_ptr(gate.wrapping_add(gate_row));
                    c = opaque_ptr(c.wrapping_add(t.c_row)).cast_mut();
                }
            }
            TileFinish::Add => {
                for row in acc {
                    for (v, &acc) in row.iter().enumerate() {
                        let c = c.wrapping_add(v * S::LANES);
                        part.put(c, v, s.add(part.get(c, v), acc));
                    }
                    c = opaque_ptr(c.wrapping_add(t.c_row)).cast_mut();
                }
            }
        }
    }
}

/// Copies a piece, or the `n` elements that are left of it, of some rows.
///
/// # Safety
/// These elements can be read, and the rows' pieces behind `to` be written.
#[inline(always)]
unsafe fn stage_pieces<S: Simd>(s: S, from: *const f32, stride: usize, rows: Range<usize>, n: usize, to: *mut f32) {
    for row in rows {
        let (piece, to) = (from.wrapping_add(row * stride), to.wrapping_add(row * STAGED_PIECE));
        // SAFETY: the caller's.
        unsafe {
            for j in (0..STAGED_PIECE).step_by(S::LANES) {
                let (piece, to) = (piece.wrapping_add(j), to.wrapping_add(j));
                if n >= j + S::LANES {
                    s.store(to, s.load(piece))
                } else if n > j {
                    s.store(to, s.load_first(piece, n - j, s.splat(0.0)))
                }
            }
        }
    }
}

/// Loads and stores of a tile's vectors, of which the last may be short: methods, since closures
/// are not sure to be inlined.
#[derive(Clone, Copy)]
struct Part<S> {
    s: S,
    /// How many are whole.
    whole: usize,
    /// The columns of the one that is not.
    tail: usize,
}

impl<S: Simd> Part<S> {
    /// Vector `v`.
    ///
    /// # Safety
    /// `p` points to that vector's readable elements.
    #[inline(always)]
    unsafe fn get(self, p: *const f32, v: usize) -> S::F32 {
        // SAFETY: the caller's.
        unsafe { if v < self.whole { self.s.load(p) } else { self.s.load_first(p, self.tail, self.s.splat(0.0)) } }
    }

    /// # Safety
    /// `p` points to that vector's writable elements.
    #[inline(always)]
    unsafe fn put(self, p: *mut f32, v: usize, value: S::F32) {
        // SAFETY: the caller's.
        unsafe { if v < self.whole { self.s.store(p, value) } else { self.s.store_first(p, self.tail, value) } }
    }
}
