//! C = A B with what dense layers wrap around it: a bias before, an activation or a gate after.
//!
//! ```text
//! for each block of rows of A                          all of them, unless A is packed
//!   for each block of the depth                        accumulators continue through C
//!     pack A's block, if its strides are awkward
//!     for each block of columns of B                   fits half of L2, or less
//!       for each row of tiles, for each tile           A's rows come from L1, B streams from L2
//!         the first row copies B to packed panels for the others, if it is large or stands badly
//! ```
//!
//! These are the loops of Goto and van de Geijn, "Anatomy of High-Performance Matrix
//! Multiplication" (2008), with A and B in each other's place and less packing.
//!
//! What small batches are made of goes other ways: a C of few columns is turned over; a small depth is
//! written row by row ([`flat`]); a B that meets a single row of tiles is read as it stands, by rows or
//! by columns, and asked for long before if no cache holds it. Rows that no cache holds, or that lie on
//! pages of their own, are packed beforehand where more tiles meet them. [`Plan`] chooses.

use super::activation::{Activation, Finish, finish};
use super::elementwise::{Operand, column_sums};
use super::flat::flat;
use super::pack::pack;
use super::tier::Tier;
use super::tile::{
    AnyOrder, CROWDED_STRIDE, ColumnMajor, Columns, CopiedColumns, CopiedRows, CrowdedColumns, Order, Outlined, Panels,
    RowMajor, Rows, Source, StreamedColumns, StreamedRows, Tile, TileFinish, TileStart, fits, tallest,
};
use super::workspace::Workspace;
use super::{CHUNK_ROWS, Kernel, Split, threshold};
use crate::matrix::{MatMut, MatRef};
use crate::packed::Factor;
use crate::simd::{ROW_LANES, Simd};

/// How the sum over the depth is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// One running sum, k ascending.
    Running,
    /// Running sums over chunks of [`CHUNK_ROWS`], added in ascending order.
    Chunked,
}

/// What is done to a finished element of C. ReLU goes with the tiles; other activations follow a row
/// of tiles while it is in the cache.
#[derive(Clone, Copy)]
pub(crate) enum Epilogue<'a> {
    /// Nothing.
    None,
    /// An activation.
    Value(Activation),
    /// An activation's gradient, with the same element of what it kept.
    Gradient(Activation, MatRef<'a>),
}

impl<'a> Epilogue<'a> {
    /// The epilogues of two parts of C.
    fn split(self, at: impl Fn(MatRef<'a>) -> (MatRef<'a>, MatRef<'a>)) -> (Self, Self) {
        match self {
            Self::Gradient(activation, kept) => {
                let (first, rest) = at(kept);
                (Self::Gradient(activation, first), Self::Gradient(activation, rest))
            }
            same => (same, same),
        }
    }
}

/// Where the sums begin.
#[derive(Clone, Copy)]
pub(crate) enum Bias<'a> {
    /// At zero.
    None,
    /// At one value a column.
    Columns(&'a [f32]),
    /// At one value a row.
    Rows(&'a [f32]),
}

impl Bias<'_> {
    /// The biases of the first `at` along an axis, and of the others.
    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        match (self, axis) {
            (Self::Columns(bias), Axis::Columns) => {
                let (first, rest) = bias.split_at(at.min(bias.len()));
                (Self::Columns(first), Self::Columns(rest))
            }
            (Self::Rows(bias), Axis::Rows) => {
                let (first, rest) = bias.split_at(at.min(bias.len()));
                (Self::Rows(first), Self::Rows(rest))
            }
            (same, _) => (same, same),
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
    pub b: Factor<'a>,
    pub c: MatMut<'a>,
    pub bias: Bias<'a>,
    /// Only [`Depth::Running`] goes with a bias or an epilogue.
    pub depth: Depth,
    pub epilogue: Epilogue<'a>,
    /// n elements: what the column sums of B are written to, in the order of [`Depth::Chunked`].
    pub sums: Option<&'a mut [f32]>,
    /// Along which axis threads may split the work.
    pub split: Axis,
}

impl Product<'_> {
    /// (m, n, k), the smallest that the operands have in common.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let mut m = self.a.rows().min(self.c.rows());
        let mut n = self.b.cols().min(self.c.cols());
        match self.bias {
            Bias::None => {}
            Bias::Columns(bias) => n = n.min(bias.len()),
            Bias::Rows(bias) => m = m.min(bias.len()),
        }
        if let Some(sums) = &self.sums {
            n = n.min(sums.len());
        }
        if let Epilogue::Gradient(_, kept) = self.epilogue {
            m = m.min(kept.rows());
            n = n.min(kept.cols());
        }
        (m, n, self.a.cols().min(self.b.rows()))
    }

    /// Writes the column sums of all of B, if they are asked for.
    #[inline(always)]
    pub(crate) fn add_columns<S: Simd>(&mut self, s: S) {
        let (_, n, k) = self.sizes();
        if let (Some(sums), Factor::Matrix(b)) = (self.sums.take(), self.b) {
            // SAFETY: B has k rows and n columns, and there are n sums.
            unsafe { column_sums(s, b.as_ptr(), [b.row_stride(), b.col_stride()], [k, n], true, sums.as_mut_ptr()) };
        }
    }

    /// The same product turned over, Cᵀ = Bᵀ Aᵀ, where that wastes fewer lanes: a C of few columns
    /// fills no vector, but all of its rows are neighbours' neighbours.
    #[inline(always)]
    fn turned<S: Simd>(mut self, s: S) -> Self {
        let (m, n, _) = self.sizes();
        let padded = n.next_multiple_of(ROW_LANES);
        match self.b {
            Factor::Matrix(b) if n <= MAX_TURNED && 4 * padded >= 5 * n && m >= 2 * ROW_LANES => {
                self.add_columns(s);
                Self {
                    a: b.t(),
                    b: Factor::Matrix(self.a.t()),
                    c: self.c.t(),
                    bias: match self.bias {
                        Bias::Columns(bias) => Bias::Rows(bias),
                        Bias::Rows(bias) => Bias::Columns(bias),
                        Bias::None => Bias::None,
                    },
                    epilogue: match self.epilogue {
                        Epilogue::Gradient(activation, kept) => Epilogue::Gradient(activation, kept.t()),
                        same => same,
                    },
                    ..self
                }
            }
            _ => self,
        }
    }
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        tier.gemm(self);
    }
}

impl Split for Product<'_> {
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
                let bias = self.bias.split(self.split, at);
                let epilogue = self.epilogue.split(|kept| kept.split_at_row(at));
                (
                    Self { a: a.0, c: c.0, bias: bias.0, epilogue: epilogue.0, ..self },
                    Self { a: a.1, c: c.1, bias: bias.1, epilogue: epilogue.1, sums: None, ..self },
                )
            }
            Axis::Columns => {
                let (b, c) = (self.b.split_at_col(at), self.c.split_at_col(at));
                let bias = self.bias.split(self.split, at);
                let epilogue = self.epilogue.split(|kept| kept.split_at_col(at));
                let sums = self.sums.map(|sums| sums.split_at_mut(at.min(sums.len()))).unzip();
                (
                    Self { b: b.0, c: c.0, bias: bias.0, epilogue: epilogue.0, sums: sums.0, ..self },
                    Self { b: b.1, c: c.1, bias: bias.1, epilogue: epilogue.1, sums: sums.1, ..self },
                )
            }
        }
    }
}

/// What of a product is taken at a time, and what is copied.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Rows of a tile.
    height: usize,
    /// Rows of a tile of the first row, which may copy B.
    first: usize,
    /// Rows of a block of A.
    rows: usize,
    /// Depth of a block.
    depth: usize,
    /// Columns of a block of B.
    cols: usize,
    pack_a: bool,
    /// Width of A's panels: that of narrow vectors if a tile's rows fit one, so that less of L1 is taken.
    a_lanes: usize,
    b: Way,
}

/// How tiles get B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
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
    fn of_few(self) -> Self {
        match self {
            Self::CopiedRows => Self::Rows,
            Self::CopiedColumns => Self::Packed,
            same => same,
        }
    }
}

/// Elements of a block of B: half of an L2 cache of 1 MiB.
const B_BLOCK: usize = threshold(128 * 1024, 1024);
/// The same for terse tiles: half of an L2 cache of 256 KiB.
const SMALL_B_BLOCK: usize = threshold(32 * 1024, 512);
/// Rows of A that pay for being read once more for each small block: more of them come from memory.
const SMALL_BLOCK_ROWS: usize = threshold(1024, 24);
/// Elements of a packed block of A, which is read from L3 in one stream. B is copied anew for each.
const A_BLOCK: usize = threshold(2 * 1024 * 1024, 512);
/// Longest depth of a block, of whole chunks. Each further block costs a trip of C through memory.
const MAX_DEPTH: usize = 4 * CHUNK_ROWS;
/// Elements of a B that no cache holds: 16 MiB.
const STREAM: usize = threshold(4 * 1024 * 1024, 2048);
/// Depth of a block where such a B is read once, by a single row of tiles: so few rows of B are
/// read along their whole length, as memory likes it, in place of many rows a piece at a time.
const STREAM_DEPTH: usize = 8;
/// Depth of a block where more rows of tiles read it, so that it is packed: less would carry C through
/// the caches more often, more would leave the rows of a block shorter than memory likes.
const PACKED_DEPTH: usize = 2 * CHUNK_ROWS;
/// Neighbouring rows so many elements apart, or a multiple, fall into few sets of a cache.
const AWKWARD_STRIDE: usize = threshold(512, 16);
/// Neighbouring rows that are so far apart, too, lie on pages of their own, of which a processor knows few:
/// then long pieces of rows are read.
const PAGED_STRIDE: usize = threshold(2048, 32);
/// Rows of tiles that pay for copying any B to panels, which are read a little faster.
const MANY_TILES: usize = threshold(32, 2);
/// Tiles of so few rows, as of AVX2 and NEON, are low: they read B more often than tall ones.
const LOW_TILE: usize = 6;
/// Elements of a B above which two rows of low tiles pay for copying it: twice an L1 cache of 32 KiB.
const LOW_TILE_COPY: usize = threshold(16 * 1024, 256);
/// Lines of an L1 cache of 32 KiB.
const L1_LINES: usize = threshold(512, 16);
/// Fewer columns do not pay for packing A.
const MIN_PACK_COLS: usize = threshold(64, 20);

/// The most columns of a C that is turned over.
const MAX_TURNED: usize = 25;

/// The most rows that read columns as they stand: terse tiles may be of narrow vectors.
const fn few_rows<S: Simd, N: Simd>() -> usize {
    if S::TERSE { tallest::<N, Columns>() } else { tallest::<S, Columns>() }
}

impl Plan {
    fn new<S: Simd, N: Simd>(p: &Product<'_>) -> Self {
        let height = S::TILE_ROWS;
        let (m, n, k) = p.sizes();
        let awkward = |stride: usize| stride > 0 && stride.is_multiple_of(AWKWARD_STRIDE);
        let paged = |stride: usize| awkward(stride) && stride >= PAGED_STRIDE;
        let crowded = |stride: usize| stride.is_multiple_of(CROWDED_STRIDE);
        let size = k.saturating_mul(n);
        let large = size > B_BLOCK;
        let streamed = p.depth == Depth::Running && size >= STREAM;
        // The stride over which a tile collects its part of A.
        let a_stride = if p.a.col_stride() == 1 { p.a.row_stride() } else { p.a.col_stride() };
        // Of each line of such an A a low tile uses a few elements.
        let wasteful = p.a.row_stride() == 1 && height <= N::LANES && k > L1_LINES;
        let pack_a = n >= MIN_PACK_COLS && m > height / 2 && (awkward(a_stride) || wasteful);
        let tallest = const { tallest::<S, CopiedColumns>() };
        let few = const { few_rows::<S, N>() };
        let b = match p.b {
            Factor::Panels(_) => Way::Panels,
            Factor::Matrix(b) if b.col_stride() == 1 || n == 1 => {
                // In place, the last columns need no masks.
                let odd = S::TERSE && !n.is_multiple_of(ROW_LANES);
                let copy = m > MANY_TILES * height && !odd
                    || m > 2 * height && (large || awkward(b.row_stride()))
                    || m > height && height <= LOW_TILE && size > LOW_TILE_COPY;
                match streamed {
                    true if m <= StreamedRows::MAX_ROWS => Way::StreamedRows,
                    true => Way::Packed,
                    false if copy && large && paged(b.row_stride()) => Way::Packed,
                    false if copy => Way::CopiedRows,
                    false => Way::Rows,
                }
            }
            Factor::Matrix(b) if b.row_stride() == 1 && m == 1 && streamed => Way::StreamedColumns,
            Factor::Matrix(b) if b.row_stride() == 1 && m <= few && !crowded(b.col_stride()) => Way::Columns,
            Factor::Matrix(b) if b.row_stride() == 1 && (tallest >= height || m <= tallest || !pack_a) => {
                Way::CopiedColumns
            }
            Factor::Matrix(_) => Way::Packed,
        };
        let sorted = matches!(b, Way::Columns | Way::CopiedColumns);
        let equal = |rows: usize| rows.div_ceil(rows.div_ceil(height));
        let (first, height) = match b {
            Way::CopiedColumns if tallest < equal(m) => (tallest, equal(m - tallest)),
            _ => (equal(m), equal(m)),
        };
        let long_rows = match p.b {
            Factor::Matrix(matrix) if b == Way::Packed => streamed || paged(matrix.row_stride()),
            _ => false,
        };
        let depth = match p.depth {
            Depth::Running if m <= height && matches!(p.b, Factor::Panels(_)) => usize::MAX,
            _ if b == Way::StreamedRows => STREAM_DEPTH,
            _ if b == Way::StreamedColumns => usize::MAX,
            Depth::Running if m <= first && sorted => usize::MAX,
            _ if long_rows => PACKED_DEPTH,
            // Each chunk takes C through memory in any case.
            Depth::Chunked => CHUNK_ROWS,
            _ => MAX_DEPTH,
        };
        let depth = depth.min(k.max(1));
        let small = S::TERSE && m <= SMALL_BLOCK_ROWS && !long_rows;
        let block = if small { SMALL_B_BLOCK } else { B_BLOCK };
        let cols = (block / depth).max(1).next_multiple_of(ROW_LANES).min(n.next_multiple_of(ROW_LANES));
        let a_lanes = if height <= N::LANES { N::LANES } else { S::LANES };
        // At least two rows of tiles, or there might be blocks with fewer rows than the first, which copy another way.
        let rows = if pack_a { (A_BLOCK / (depth * a_lanes)).max(2) * height } else { m };
        let rows = rows.min(m.next_multiple_of(height));
        Self { height, first, rows, depth, cols, pack_a, a_lanes, b }
    }

    /// Elements of the packed panels of A and of B.
    fn room(self) -> [usize; 2] {
        let a = if self.pack_a { self.rows.div_ceil(self.height) * self.depth * self.a_lanes } else { 0 };
        let b = match self.b {
            Way::Rows | Way::StreamedRows | Way::Columns | Way::StreamedColumns | Way::Panels => 0,
            Way::CopiedColumns if self.rows <= self.first => ROW_LANES,
            _ => self.depth * self.cols,
        };
        [a, b]
    }
}

/// Computes a product. `narrow` vectors have 4 or 8 lanes: for panels of low tiles, and to sort columns.
#[inline(always)]
pub(crate) fn gemm<S: Simd, N: Simd>(s: S, narrow: N, mut p: Product<'_>) {
    // First of all, since sizes of a matrix without elements can be any numbers.
    let (m, n, _) = p.sizes();
    if m == 0 || n == 0 {
        return p.add_columns(s);
    }
    let mut p = p.turned(s);
    let (m, n, k) = p.sizes();
    if flat(s, &mut p) {
        return;
    }
    let sums = p.sums.take().map(|sums| sums.as_mut_ptr());
    let plan = Plan::new::<S, N>(&p);
    let [room_a, room_b] = plan.room();
    let mut workspace = Workspace::take(room_a + room_b);
    let a_panels = workspace.as_mut_ptr();
    let b_panels = a_panels.wrapping_add(room_a);
    let a_strides = [p.a.row_stride(), p.a.col_stride()];
    let blocks = k.div_ceil(plan.depth).max(1);
    for i0 in (0..m).step_by(plan.rows) {
        let rows = plan.rows.min(m - i0);
        for k0 in (0..blocks).map(|i| i * plan.depth) {
            let depth = plan.depth.min(k - k0);
            if plan.pack_a {
                let t = p.tile(i0, 0, k0, depth, n);
                // SAFETY: all indices lie below m, n and k, which every operand has.
                unsafe {
                    let strides = [a_strides[1], a_strides[0]];
                    if plan.a_lanes == N::LANES {
                        pack(narrow, t.a, strides, [depth, rows], plan.height, a_panels);
                    } else {
                        pack(s, t.a, strides, [depth, rows], plan.height, a_panels);
                    }
                }
            }
            for j0 in (0..n).step_by(plan.cols) {
                let cols = plan.cols.min(n - j0);
                let mut block = p.tile(i0, j0, k0, depth, cols);
                (block.panel, block.panel_row, block.panel_vector) = (b_panels, S::LANES, depth * S::LANES);
                // The last rows may be too few for tiles that copy.
                let mut b = if rows < plan.first { plan.b.of_few() } else { plan.b };
                if b == Way::CopiedColumns && rows <= plan.first {
                    // Nobody reads the panels: a vector's room will do.
                    (block.panel_row, block.panel_vector) = (0, 0);
                }
                // SAFETY: as above.
                unsafe {
                    if let (Some(sums), 0) = (sums, i0) {
                        // Brings the block into the cache, too.
                        let strides = [block.b_row, block.b_col];
                        column_sums(s, block.b, strides, [depth, cols], k0 == 0, sums.wrapping_add(j0));
                    }
                    if b == Way::Packed {
                        pack(s, block.b, [block.b_row, block.b_col], [depth, cols], S::LANES, b_panels);
                        block.read_panels();
                        b = Way::Panels;
                    }
                    let mut i = 0;
                    while i < rows {
                        let height = if i == 0 { plan.first } else { plan.height }.min(rows - i);
                        let mut row = block.at::<S>(i, 0);
                        if plan.pack_a {
                            row.a = a_panels.wrapping_add(i / plan.height * depth * plan.a_lanes);
                            (row.a_row, row.a_col) = (1, plan.a_lanes);
                        }
                        (row.ahead, row.ahead_step) = if i + height == rows {
                            // There is no next row: what lies there would only come in the way of B.
                            (row.a, 0)
                        } else if plan.pack_a {
                            (row.a.wrapping_add(depth * plan.a_lanes), plan.a_lanes)
                        } else if row.a_row == 1 {
                            // The next row's last element of a column: the line of the first is often one of this row's.
                            (row.a.wrapping_add(2 * height - 1), row.a_col)
                        } else {
                            (row.a.wrapping_add(height.wrapping_mul(row.a_row)), S::LANES)
                        };
                        match b {
                            Way::CopiedRows => tile_row::<S, CopiedRows>(s, height, &row),
                            Way::StreamedRows => {
                                row.gap = (depth * row.b_row).wrapping_sub(cols);
                                tile_row::<S, StreamedRows>(s, height, &row);
                            }
                            Way::StreamedColumns => {
                                row.b_vector = N::LANES.wrapping_mul(row.b_col);
                                row.gap = row.b_vector.wrapping_sub(depth);
                                tiles::<N, AnyOrder, StreamedColumns, 1>(narrow, &row);
                            }
                            Way::Columns if height == 1 || height > const { tallest::<S, Columns>() } => {
                                row.b_vector = N::LANES.wrapping_mul(row.b_col);
                                if const { S::TERSE } {
                                    tile_row::<N, Columns>(narrow, height, &row);
                                } else {
                                    tiles::<N, AnyOrder, Columns, 1>(narrow, &row);
                                }
                            }
                            Way::Columns => tile_row::<S, Columns>(s, height, &row),
                            Way::CopiedColumns if row.b_col.is_multiple_of(CROWDED_STRIDE) => {
                                tile_row::<S, CrowdedColumns>(s, height, &row);
                            }
                            Way::CopiedColumns => tile_row::<S, CopiedColumns>(s, height, &row),
                            Way::Panels if S::TERSE => tile_row::<S, Panels>(s, height, &row),
                            _ => tile_row::<S, Rows>(s, height, &row),
                        }
                        if matches!(b, Way::CopiedRows | Way::CopiedColumns) {
                            block.read_panels();
                            b = Way::Panels;
                        }
                        if k0 + depth == k {
                            p.finish(s, [i0 + i, j0], [height, cols]);
                        }
                        i += height;
                    }
                }
            }
        }
    }
}

impl Product<'_> {
    /// Does to a finished block of C what tiles have not done.
    ///
    /// # Safety
    /// C has the block of this corner and size.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&mut self, s: S, [i, j]: [usize; 2], size: [usize; 2]) {
        let (activation, kept) = match self.epilogue {
            Epilogue::None | Epilogue::Value(Activation::Linear | Activation::Relu) => return,
            Epilogue::Gradient(Activation::Linear | Activation::Relu, _) => return,
            Epilogue::Value(activation) => (activation, None),
            Epilogue::Gradient(activation, kept) => (activation, Some(Operand::of(kept).from(i, j))),
        };
        let strides = [self.c.row_stride(), self.c.col_stride()];
        let block = Operand { p: self.c.as_mut_ptr(), strides }.from(i, j);
        // SAFETY: the caller's; what was kept has C's size.
        unsafe { finish(Finish { s, activation, kept, block, size }) };
    }

    /// The operands of the tile whose corner is (i, j), over `depth` steps from k on.
    #[inline(always)]
    fn tile(&mut self, i: usize, j: usize, k: usize, depth: usize, cols: usize) -> Tile {
        let (first, last) = (k == 0, k + depth == self.a.cols().min(self.b.rows()));
        let start = match (self.depth, self.bias) {
            (Depth::Running, _) if !first => TileStart::Resume,
            (Depth::Running, Bias::Columns(bias)) => TileStart::Bias(bias.as_ptr().wrapping_add(j)),
            (Depth::Running, Bias::Rows(bias)) => TileStart::RowBias(bias.as_ptr().wrapping_add(i)),
            _ => TileStart::Zero,
        };
        let finish = match (self.depth, self.epilogue) {
            (Depth::Chunked, _) if !first => TileFinish::Add,
            (Depth::Running, Epilogue::Value(Activation::Relu)) if last => TileFinish::Relu,
            (Depth::Running, Epilogue::Gradient(Activation::Relu, gate)) if last => {
                let (row, col) = (gate.row_stride(), gate.col_stride());
                TileFinish::Gate { gate: gate.as_ptr().wrapping_add(i * row + j * col), row, col }
            }
            _ => TileFinish::Store,
        };
        let (a_row, a_col) = (self.a.row_stride(), self.a.col_stride());
        let (b, b_row, b_col, b_vector) = match self.b {
            Factor::Matrix(b) => {
                let (row, col) = (b.row_stride(), b.col_stride());
                (b.as_ptr().wrapping_add(k * row + j * col), row, col, ROW_LANES.wrapping_mul(col))
            }
            Factor::Panels(b) => (b.lines_from(k, j).as_ptr().cast(), ROW_LANES, 1, b.depth() * ROW_LANES),
        };
        let (c_row, c_col) = (self.c.row_stride(), self.c.col_stride());
        Tile {
            a: self.a.as_ptr().wrapping_add(i * a_row + k * a_col),
            a_row,
            a_col,
            b,
            b_row,
            b_col,
            b_vector,
            panel: std::ptr::null_mut(),
            panel_row: 0,
            panel_vector: 0,
            c: self.c.as_mut_ptr().wrapping_add(i * c_row + j * c_col),
            c_row,
            c_col,
            depth,
            chunk: if self.depth == Depth::Chunked { CHUNK_ROWS } else { usize::MAX },
            gap: 0,
            ahead: std::ptr::null(),
            ahead_step: 0,
            cols,
            start,
            finish,
        }
    }
}

/// A row of tiles of the same height, over all columns of a block.
///
/// # Safety
/// As for [`tile`], for all its columns.
#[inline(always)]
unsafe fn tile_row<S: Simd, B: Source>(s: S, rows: usize, t: &Tile) {
    // SAFETY: the caller's.
    unsafe {
        match (t.a_row, t.a_col) {
            (_, 1) if const { B::COLUMNS && S::TERSE } => any_height::<S, RowMajor, B>(s, rows, t),
            _ if const { B::COLUMNS || B::COPIED || B::STREAMED || !S::TERSE } => {
                any_height::<S, AnyOrder, B>(s, rows, t)
            }
            (_, 1) => any_height::<S, RowMajor, B>(s, rows, t),
            (1, _) => any_height::<S, ColumnMajor, B>(s, rows, t),
            _ => any_height::<S, AnyOrder, B>(s, rows, t),
        }
    }
}

/// [`tile_row`] for an order of A.
///
/// # Safety
/// As for [`tile`], for all its columns.
#[inline(always)]
unsafe fn any_height<S: Simd, A: Order, B: Source>(s: S, rows: usize, t: &Tile) {
    debug_assert!(fits::<S, B>(rows, 1), "there are no such tiles");
    // SAFETY: the caller's.
    unsafe {
        match rows {
            1 => tiles::<S, A, B, 1>(s, t),
            2 => tiles::<S, A, B, 2>(s, t),
            3 => tiles::<S, A, B, 3>(s, t),
            4 => tiles::<S, A, B, 4>(s, t),
            5 => tiles::<S, A, B, 5>(s, t),
            6 => tiles::<S, A, B, 6>(s, t),
            7 => tiles::<S, A, B, 7>(s, t),
            8 => tiles::<S, A, B, 8>(s, t),
            9 => tiles::<S, A, B, 9>(s, t),
            10 => tiles::<S, A, B, 10>(s, t),
            11 => tiles::<S, A, B, 11>(s, t),
            12 => tiles::<S, A, B, 12>(s, t),
            13 => tiles::<S, A, B, 13>(s, t),
            14 => tiles::<S, A, B, 14>(s, t),
            _ => debug_assert!(false, "no tier has taller tiles"),
        }
    }
}

/// A row of tiles of `MR` rows, as wide as the registers allow.
///
/// # Safety
/// As for [`tile`], for all its columns.
#[inline(always)]
unsafe fn tiles<S: Simd, A: Order, B: Source, const MR: usize>(s: S, t: &Tile) {
    let mut done = 0;
    // SAFETY: the caller's.
    unsafe {
        done = strip::<S, A, B, MR, 8>(s, t, done);
        done = strip::<S, A, B, MR, 4>(s, t, done);
        done = strip::<S, A, B, MR, 2>(s, t, done);
        strip::<S, A, B, MR, 1>(s, t, done);
    }
}

/// As many tiles of `NV` vectors as there are from vector `done` on; the vectors done then.
///
/// # Safety
/// As for [`tile`], for all its columns.
#[inline(always)]
unsafe fn strip<S: Simd, A: Order, B: Source, const MR: usize, const NV: usize>(s: S, t: &Tile, done: usize) -> usize {
    if const { !fits::<S, B>(MR, NV) } {
        return done;
    }
    let left = t.cols.saturating_sub(done * S::LANES);
    let (whole, part) = (left / (NV * S::LANES), left % (NV * S::LANES));
    // Whether what is left over fills all vectors but the last, and some of that.
    let part = usize::from(part > (NV - 1) * S::LANES);
    // SAFETY: the caller's, for a part of the columns.
    unsafe {
        if whole > 0 {
            s.outline(Outlined::<S, A, B, MR, NV, true>::new(s, t, done, whole));
        }
        if part > 0 {
            // Masked loads and stores are slow on some processors.
            let again = const { S::TERSE && !B::COLUMNS && !B::COPIED && !B::STREAMED && !B::PANELS };
            match if again { t.last_whole::<S>(NV) } else { None } {
                Some(last) => s.outline(Outlined::<S, A, B, MR, NV, true>::new(s, &last, 0, 1)),
                None => s.outline(Outlined::<S, AnyOrder, B, MR, NV, false>::new(s, t, done + whole * NV, 1)),
            }
        }
    }
    done + (whole + part) * NV
}
