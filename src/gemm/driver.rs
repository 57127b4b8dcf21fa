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

use super::microkernel::{
    AnyOrder, ColumnMajor, Columns, CopiedColumns, CopiedRows, CrowdedColumns, Order, Outlined, Panels, RowMajor, Rows,
    Source, StreamedColumns, StreamedRows, Tile, TileFinish, TileStart, fits, tallest,
};
use super::pack::pack;
use super::packed::BOperand;
use super::plan::{Plan, Way};
use super::portable;
use super::product::{Bias, Depth, Epilogue, Product};
use super::rank_k::flat;
use super::scratch::Workspace;
use crate::contract::{CHUNK_ROWS, ROW_LANES};
use crate::kernels::Kernel;
use crate::kernels::activation::Activation;
use crate::kernels::activation_formulas::ActivationBlock;
use crate::kernels::elementwise::column_sums;
use crate::matrix::{MatPtr, Size};
use crate::simd::Simd;
use crate::simd::tier::Tier;
use crate::tuning::gemm::{CONFLICT_STRIDE, MAX_TRANSPOSED_COLS};

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(mut self, tier: T) {
        if const { T::FUSED } {
            gemm(tier.row(), tier.narrow(), self);
        } else {
            self.add_columns(tier.vector());
            portable::gemm(self);
        }
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
                        let b = MatPtr { p: block.b.cast_mut(), row_stride: block.b_row, col_stride: block.b_col };
                        column_sums(s, b, Size { rows: depth, cols }, k0 == 0, sums.wrapping_add(j0));
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
                                if const { S::FRONT_END_BOUND } {
                                    tile_row::<N, Columns>(narrow, height, &row);
                                } else {
                                    tiles::<N, AnyOrder, Columns, 1>(narrow, &row);
                                }
                            }
                            Way::Columns => tile_row::<S, Columns>(s, height, &row),
                            Way::CopiedColumns if row.b_col.is_multiple_of(CONFLICT_STRIDE) => {
                                tile_row::<S, CrowdedColumns>(s, height, &row);
                            }
                            Way::CopiedColumns => tile_row::<S, CopiedColumns>(s, height, &row),
                            Way::Panels if S::FRONT_END_BOUND => tile_row::<S, Panels>(s, height, &row),
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
    /// The same product turned over, Cᵀ = Bᵀ Aᵀ, where that wastes fewer lanes: a C of few columns
    /// fills no vector, but all of its rows are neighbours' neighbours.
    #[inline(always)]
    fn turned<S: Simd>(mut self, s: S) -> Self {
        let (m, n, _) = self.sizes();
        let padded = n.next_multiple_of(ROW_LANES);
        match self.b {
            BOperand::Strided(b) if n <= MAX_TRANSPOSED_COLS && 4 * padded >= 5 * n && m >= 2 * ROW_LANES => {
                self.add_columns(s);
                Self {
                    a: b.t(),
                    b: BOperand::Strided(self.a.t()),
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
            Epilogue::Gradient(activation, kept) => (activation, Some(kept.as_mat_ptr().from(i, j))),
        };
        let block = self.c.as_mat_ptr().from(i, j);
        let size = Size { rows: size[0], cols: size[1] };
        // SAFETY: C has this block, and what was kept has C's size.
        unsafe { ActivationBlock { s, activation, saved: kept, block, size }.apply() };
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
            BOperand::Strided(b) => {
                let (row, col) = (b.row_stride(), b.col_stride());
                (b.as_ptr().wrapping_add(k * row + j * col), row, col, ROW_LANES.wrapping_mul(col))
            }
            BOperand::Packed(b) => (b.lines_from(k, j).as_ptr().cast(), ROW_LANES, 1, b.depth() * ROW_LANES),
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
            (_, 1) if const { B::COLUMNS && S::FRONT_END_BOUND } => any_height::<S, RowMajor, B>(s, rows, t),
            _ if const { B::COLUMNS || B::COPIED || B::STREAMED || !S::FRONT_END_BOUND } => {
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
            let again = const { S::FRONT_END_BOUND && !B::COLUMNS && !B::COPIED && !B::STREAMED && !B::PANELS };
            match if again { t.last_whole::<S>(NV) } else { None } {
                Some(last) => s.outline(Outlined::<S, A, B, MR, NV, true>::new(s, &last, 0, 1)),
                None => s.outline(Outlined::<S, AnyOrder, B, MR, NV, false>::new(s, t, done + whole * NV, 1)),
            }
        }
    }
    done + (whole + part) * NV
}
