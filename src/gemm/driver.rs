//! The loops around the micro-kernel: C = A B, with what [`Product`] wraps around it.
//!
//! ```text
//! loop 5: for ic in 0..m by MC            all rows at once, unless A is packed
//!   loop 4: for pc in 0..k by KC          accumulators continue through C
//!     pack A[ic.., pc..]                  if its stride conflicts
//!     loop 3: for jc in 0..n by NC        KC x NC of B fit half of L2, or less
//!       pack B[pc.., jc..]                if B is streamed, or has no contiguous axis
//!       loop 2: for ir in 0..MC by MR     MR rows of A stay in L1, B streams from L2
//!         loop 1: for jr in 0..NC by NR   micro-tiles; the first row of them may pack B for the others
//! ```
//!
//! These are the loops of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008),
//! numbered as in BLIS, with A and B in each other's place and less packing: small batches would not amortise
//! it. [`Plan`] chooses.

use super::access::{AnyStrides, max_mr};
use super::access::{Columns, PackingColumns, PackingRows, Panels, Rows, StagedColumns, StreamedColumns, StreamedRows};
use super::element::Element;
use super::epilogue::Corner;
use super::macrokernel::{loop_1, micro_tiles};
use super::microtile::{ATile, BTile, MicroTile, PanelTile, Prefetch, Start, Store};
use super::pack::pack;
use super::packed::BOperand;
use super::plan::{BPacking, Plan};
use super::product::{Bias, Product, Sizes, Summation};
use super::scratch::Scratch;
use super::{portable, rank_k};
use crate::contract::{CHUNK_ROWS, ROW_LANES};
use crate::kernels::Kernel;
use crate::kernels::elementwise::column_sums;
use crate::matrix::Size;
use crate::simd::Simd;
use crate::simd::tier::{IfFused, Tier};
use crate::tuning::gemm::{CONFLICT_STRIDE, MAX_TRANSPOSED_COLS};

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        tier.if_fused(self);
    }
}

impl IfFused for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn fused<S: Simd, N: Simd>(mut self, s: S, narrow: N) {
        let Sizes { m, n, .. } = self.sizes();
        // First of all, since the sizes of a matrix without elements can be any numbers.
        if m == 0 || n == 0 {
            return self.write_column_sums(s);
        }
        // A C of few columns fills no vector, but its transpose does.
        let few = n <= MAX_TRANSPOSED_COLS && 4 * n.next_multiple_of(ROW_LANES) >= 5 * n;
        if let (true, BOperand::Strided(b)) = (few && m >= 2 * ROW_LANES, self.b) {
            self.write_column_sums(s);
            self = self.transposed(b);
        }
        if !rank_k::run(s, &mut self) {
            gemm(s, narrow, self);
        }
    }

    #[inline(always)]
    fn unfused<S: Simd>(mut self, s: S) {
        self.write_column_sums(s);
        portable::gemm(self);
    }
}

/// Computes a product that is not empty. `narrow` vectors have 4 or 8 lanes.
#[inline(always)]
pub(super) fn gemm<S: Simd, N: Simd, E: Element>(s: S, narrow: N, mut p: Product<'_, E>) {
    let sums = p.column_sums.take().map(|sums| sums.as_mut_ptr());
    let plan = Plan::new::<S, N, E>(&p);
    let (a_len, b_len) = plan.scratch();
    let mut scratch = Scratch::take(a_len + b_len);
    let a_panels = scratch.as_mut_ptr();
    let b_panels = a_panels.wrapping_add(a_len);
    let sizes = p.sizes();
    let mut driver = Driver { s, narrow, sizes, plan, a_panels, b_panels, sums, p };
    // SAFETY: the operands have the sizes of the product, and the scratch those of the plan.
    unsafe { driver.loops_5_to_3() };
}

/// A product on its way through the loops.
struct Driver<'a, S, N, E: Element> {
    s: S,
    narrow: N,
    p: Product<'a, E>,
    sizes: Sizes,
    plan: Plan,
    a_panels: *mut f32,
    b_panels: *mut f32,
    /// Where the column sums of B are written.
    sums: Option<*mut f32>,
}

/// What loops 2 and 1 compute: rows of A from `ic`, columns of B from `jc`, k-steps from `pc`.
#[derive(Clone, Copy)]
struct Block {
    ic: usize,
    rows: usize,
    pc: usize,
    depth: usize,
    jc: usize,
    cols: usize,
}

impl<S: Simd, N: Simd, E: Element> Driver<'_, S, N, E> {
    /// # Safety
    /// The operands have `sizes`, and the panels the room that `plan` asks for.
    #[inline(always)]
    unsafe fn loops_5_to_3(&mut self) {
        let (Sizes { m, n, k }, Plan { mc, kc, nc, .. }) = (self.sizes, self.plan);
        for ic in (0..m).step_by(mc) {
            let rows = mc.min(m - ic);
            // An empty depth still writes the bias and the epilogue.
            for pc in (0..k.div_ceil(kc).max(1)).map(|i| i * kc) {
                let depth = kc.min(k - pc);
                // SAFETY: every block lies within the sizes.
                unsafe {
                    self.pack_a(ic, rows, pc, depth);
                    for jc in (0..n).step_by(nc) {
                        self.loop_2(Block { ic, rows, pc, depth, jc, cols: nc.min(n - jc) });
                    }
                }
            }
        }
    }

    /// Packs a block of A, if the plan says so.
    ///
    /// # Safety
    /// A has these rows and columns, and the panels room for them.
    #[inline(always)]
    unsafe fn pack_a(&mut self, ic: usize, rows: usize, pc: usize, depth: usize) {
        let Some(lanes) = self.plan.a_panel else { return };
        let a = self.p.a.as_mat_ptr().from(ic, pc).t();
        // SAFETY: as the caller promises.
        unsafe {
            if lanes == N::LANES {
                pack(self.narrow, a, Size { rows: depth, cols: rows }, self.plan.mr, self.a_panels);
            } else {
                pack(self.s, a, Size { rows: depth, cols: rows }, self.plan.mr, self.a_panels);
            }
        }
    }

    /// Computes a block, one row of micro-tiles after another.
    ///
    /// # Safety
    /// The block lies within the operands.
    #[inline(always)]
    unsafe fn loop_2(&mut self, block: Block) {
        let Block { ic, rows, pc, depth, jc, cols } = block;
        let (s, plan) = (self.s, self.plan);
        let mut t = self.first_micro_tile(block);
        // The last rows may be too few for micro-tiles that pack.
        let mut b = if rows < plan.first_mr { plan.b.of_few_rows() } else { plan.b };
        if b == BPacking::PackColumns && rows <= plan.first_mr {
            // Nobody reads the panels: room for a vector will do.
            (t.panel.row, t.panel.vector) = (0, 0);
        }
        // SAFETY: the block lies within the operands, rows and columns of micro-tiles within the block.
        unsafe {
            if let (BOperand::Strided(matrix), Some(sums), 0) = (self.p.b, self.sums, ic) {
                // Brings the block into cache, too.
                let b = matrix.as_mat_ptr().from(pc, jc);
                column_sums(s, b, Size { rows: depth, cols }, pc == 0, sums.wrapping_add(jc));
            }
            if let (BPacking::PackBlock, BOperand::Strided(matrix)) = (b, self.p.b) {
                pack(s, matrix.as_mat_ptr().from(pc, jc), Size { rows: depth, cols }, S::LANES, self.b_panels);
                t.read_panel();
                b = BPacking::Panels;
            }
            let mut ir = 0;
            while ir < rows {
                let mr = if ir == 0 { plan.first_mr } else { plan.mr }.min(rows - ir);
                let row = self.row_of_micro_tiles(t, ir, mr, ir + mr == rows);
                self.loop_1(b, row, mr);
                if matches!(b, BPacking::PackRows | BPacking::PackColumns) {
                    t.read_panel();
                    b = BPacking::Panels;
                }
                if pc + depth == self.sizes.k {
                    let corner = Corner { row: ic + ir, col: jc };
                    let c = self.p.c.as_mat_ptr().from(corner.row, corner.col);
                    self.p.epilogue.finish(s, c, corner, Size { rows: mr, cols });
                }
                ir += mr;
            }
        }
    }

    /// The first micro-tile of a block.
    #[inline(always)]
    fn first_micro_tile(&mut self, Block { ic, pc, depth, jc, cols, .. }: Block) -> MicroTile {
        let p = &mut self.p;
        let (is_first, is_last) = (pc == 0, pc + depth == self.sizes.k);
        let start = match (p.summation, p.bias) {
            (Summation::Running, _) if !is_first => Start::Resume,
            (Summation::Running, Bias::Columns(bias)) => Start::ColBias(bias.as_ptr().wrapping_add(jc)),
            (Summation::Running, Bias::Rows(bias)) => Start::RowBias(bias.as_ptr().wrapping_add(ic)),
            _ => Start::Zero,
        };
        let store = match p.summation {
            Summation::Running if is_last => match p.epilogue.in_registers() {
                Store::Gate(gate) => Store::Gate(gate.from(ic, jc)),
                same => same,
            },
            Summation::Chunked if !is_first => Store::Add,
            _ => Store::Plain,
        };
        let b = match p.b {
            BOperand::Strided(b) => BTile {
                p: b.as_mat_ptr().at(pc, jc).cast_const().cast(),
                row: b.row_stride(),
                col: b.col_stride(),
                vector: ROW_LANES.wrapping_mul(b.col_stride()),
            },
            BOperand::Packed(b) => {
                let vector = b.depth() * ROW_LANES;
                BTile { p: b.rows_from(pc, jc).as_ptr().cast(), row: ROW_LANES, col: 1, vector }
            }
        };
        let a = p.a.as_mat_ptr();
        MicroTile {
            a: ATile { p: a.at(ic, pc), row: a.row_stride, col: a.col_stride },
            b,
            panel: PanelTile { p: self.b_panels, row: S::LANES, vector: depth * S::LANES },
            c: p.c.as_mat_ptr().from(ic, jc),
            depth,
            chunk: if p.summation == Summation::Chunked { CHUNK_ROWS } else { usize::MAX },
            gap: 0,
            next_a: Prefetch { p: std::ptr::null(), step: 0 },
            cols,
            start,
            store,
        }
    }

    /// The first micro-tile of the row that begins `ir` rows below `first`; what the next row needs of A is
    /// prefetched.
    #[inline(always)]
    fn row_of_micro_tiles(&self, first: MicroTile, ir: usize, mr: usize, is_last: bool) -> MicroTile {
        let mut t = first.at::<S, E>(ir, 0);
        if let Some(lanes) = self.plan.a_panel {
            let p = self.a_panels.wrapping_add(ir / self.plan.mr * t.depth * lanes);
            t.a = ATile { p, row: 1, col: lanes };
        }
        t.next_a = match self.plan.a_panel {
            // There is no next row: whatever lies there would only evict B.
            _ if is_last => Prefetch { p: t.a.p, step: 0 },
            Some(lanes) => Prefetch { p: t.a.p.wrapping_add(t.depth * lanes), step: lanes },
            // The last element of a column in the next row: the cache line of the first is often one of this
            // row's.
            None if t.a.row == 1 => Prefetch { p: t.a.p.wrapping_add(2 * mr - 1), step: t.a.col },
            None => Prefetch { p: t.a.p.wrapping_add(mr.wrapping_mul(t.a.row)), step: S::LANES },
        };
        t
    }

    /// Computes a row of micro-tiles, reading B as the packing mode says.
    ///
    /// # Safety
    /// The row lies within the operands.
    #[inline(always)]
    unsafe fn loop_1(&self, b: BPacking, mut t: MicroTile, mr: usize) {
        let (s, narrow) = (self.s, self.narrow);
        let narrow_vector = N::LANES.wrapping_mul(t.b.col);
        // SAFETY: as the caller promises.
        unsafe {
            match b {
                BPacking::PackRows => loop_1::<S, PackingRows>(s, mr, &t),
                BPacking::StreamRows => {
                    t.gap = (t.depth * t.b.row).wrapping_sub(t.cols);
                    loop_1::<S, StreamedRows>(s, mr, &t);
                }
                BPacking::StreamColumns => {
                    t.b.vector = narrow_vector;
                    t.gap = narrow_vector.wrapping_sub(t.depth);
                    micro_tiles::<N, AnyStrides, StreamedColumns, 1>(narrow, &t);
                }
                BPacking::Columns if mr == 1 || mr > const { max_mr::<S, Columns>() } => {
                    t.b.vector = narrow_vector;
                    if const { S::FRONT_END_BOUND } {
                        loop_1::<N, Columns>(narrow, mr, &t);
                    } else {
                        micro_tiles::<N, AnyStrides, Columns, 1>(narrow, &t);
                    }
                }
                BPacking::Columns => loop_1::<S, Columns>(s, mr, &t),
                BPacking::PackColumns if t.b.col.is_multiple_of(CONFLICT_STRIDE) => {
                    loop_1::<S, StagedColumns>(s, mr, &t);
                }
                BPacking::PackColumns => loop_1::<S, PackingColumns>(s, mr, &t),
                BPacking::Prepacked if const { E::WIDENS } => loop_1::<S, Panels<E>>(s, mr, &t),
                BPacking::Prepacked | BPacking::Panels if const { S::FRONT_END_BOUND } => {
                    loop_1::<S, Panels<f32>>(s, mr, &t);
                }
                // The vectors of a panel's row are as contiguous as those of any row.
                _ => loop_1::<S, Rows>(s, mr, &t),
            }
        }
    }
}
