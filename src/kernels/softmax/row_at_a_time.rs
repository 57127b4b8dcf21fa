//! Rows of many elements, one after another: neighbours are in neighbouring lanes.

use super::Softmaxes;
use super::exponentials::sum_of_exponentials;
use super::soft_targets::{SpreadRow, part};
use crate::contract::{ROW_LANES, ROW_PIECE};
use crate::kernels::elementwise::Elementwise;
use crate::kernels::pairwise_sum::{Combine, PairwiseSum};
use crate::math::{self, UNSCALE};
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;
use crate::simd::strided::{load_strided, store_strided};
use crate::tuning::rows::WRITE_PREFETCH;

/// A row to read: address and stride.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(super) p: *const f32,
    pub(super) stride: usize,
}

/// A row to write: address and stride.
#[derive(Clone, Copy)]
pub(crate) struct RowMut {
    pub(super) p: *mut f32,
    pub(super) stride: usize,
}

impl Row {
    /// The part of the row that begins there.
    #[inline(always)]
    pub(super) fn from(self, col: usize) -> Self {
        Self { p: self.p.wrapping_add(col.wrapping_mul(self.stride)), ..self }
    }

    /// # Safety
    /// The row has elements `col..col + n`, which are neighbours if `UNIT`.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd, const UNIT: bool>(self, s: S, col: usize, n: usize, rest: S::F32) -> S::F32 {
        let stride = if UNIT { 1 } else { self.stride };
        // SAFETY: the caller's.
        unsafe { load_strided(s, self.p.wrapping_add(col * stride), stride, n, rest) }
    }
}

impl RowMut {
    /// # Safety
    /// The row has elements `col..col + n`, which are neighbours if `UNIT`.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd, const UNIT: bool>(self, s: S, col: usize, n: usize, v: S::F32) {
        let stride = if UNIT { 1 } else { self.stride };
        // SAFETY: the caller's.
        unsafe { store_strided(s, self.p.wrapping_add(col * stride), stride, n, v) }
    }

    /// The part of the row that begins there.
    #[inline(always)]
    pub(super) fn from(self, col: usize) -> Self {
        Self { p: self.p.wrapping_add(col.wrapping_mul(self.stride)), ..self }
    }

    #[inline(always)]
    pub(super) fn read(self) -> Row {
        Row { p: self.p, stride: self.stride }
    }
}

/// Works on all rows.
///
/// # Safety
/// The views have so many rows and columns.
#[inline(always)]
pub(super) unsafe fn each_row<S: Simd, Op: Softmaxes<INPUTS>, const INPUTS: usize>(
    s: S,
    op: Op,
    x: [MatRef<'_>; INPUTS],
    mut y: MatMut<'_>,
    [rows, cols]: [usize; 2],
) {
    let unit = y.col_stride() == 1 && x.iter().all(|x| x.col_stride() == 1);
    let (to, row_stride, stride) = (y.as_mut_ptr(), y.row_stride(), y.col_stride());
    for row in 0..rows {
        let x = x.map(|x| Row { p: x.as_ptr().wrapping_add(row * x.row_stride()), stride: x.col_stride() });
        let y = RowMut { p: to.wrapping_add(row * row_stride), stride };
        // SAFETY: the caller's.
        unsafe {
            if unit {
                whole_row::<S, Op, true, INPUTS>(s, op, x, y, cols);
            } else {
                whole_row::<S, Op, false, INPUTS>(s, op, x, y, cols);
            }
        }
    }
}

/// # Safety
/// The rows have `cols` elements, which are neighbours if `UNIT`.
#[inline(always)]
unsafe fn whole_row<S: Simd, Op: Softmaxes<INPUTS>, const UNIT: bool, const INPUTS: usize>(
    s: S,
    op: Op,
    x: [Row; INPUTS],
    y: RowMut,
    cols: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        if cols <= ROW_PIECE {
            let sums = op.sums::<S, UNIT>(s, x, cols, Some(y));
            op.write::<S, UNIT>(s, sums, true, x, y, cols);
        } else {
            let sums = in_pieces::<S, Op, UNIT, INPUTS>(s, op, x, cols);
            op.write::<S, UNIT>(s, sums, false, x, y, cols);
        }
    }
}

/// What is summed of a row, piece by piece.
///
/// # Safety
/// The rows have `cols` elements, which are neighbours if `UNIT`.
#[inline(always)]
pub(super) unsafe fn in_pieces<S: Simd, Op: Softmaxes<INPUTS>, const UNIT: bool, const INPUTS: usize>(
    s: S,
    op: Op,
    x: [Row; INPUTS],
    cols: usize,
) -> Op::Sums {
    let mut tree = PairwiseSum::new();
    for col in (0..cols).step_by(ROW_PIECE) {
        let mut piece = x;
        for (piece, x) in piece.iter_mut().zip(x) {
            *piece = x.from(col);
        }
        // SAFETY: the caller's.
        tree.push(s, unsafe { op.sums::<S, UNIT>(s, piece, ROW_PIECE.min(cols - col), None) });
    }
    tree.total(s)
}

/// A maximum m, NaNs left out and no less than the least finite number, and the sum of exp(x - m) 2^64.
/// Of targets that are [spread](SpreadRow) their sum, and that of their products with x - m; else 0.
#[derive(Clone, Copy)]
pub(crate) struct Statistics {
    pub(super) max: f32,
    pub(super) sum: f32,
    pub(super) targets: f32,
    pub(super) products: f32,
}

/// A row's statistics; writes the exponentials where `keep` is a row, which may be x, if the row is of one piece.
///
/// # Safety
/// The rows have `cols` elements, which are neighbours if `UNIT`.
#[inline(always)]
pub(super) unsafe fn statistics<S: Simd, const UNIT: bool>(
    s: S,
    x: Row,
    spread: Option<SpreadRow>,
    cols: usize,
    keep: Option<RowMut>,
) -> Statistics {
    // SAFETY: the caller's.
    unsafe {
        if cols <= ROW_PIECE {
            return piece::<S, UNIT>(s, x, spread, cols, keep);
        }
        let mut tree = PairwiseSum::new();
        for col in (0..cols).step_by(ROW_PIECE) {
            let spread = spread.map(|spread| spread.from(col));
            tree.push(s, piece::<S, UNIT>(s, x.from(col), spread, ROW_PIECE.min(cols - col), None));
        }
        tree.total(s)
    }
}

impl Combine for Statistics {
    const IDENTITY: Self = Self { max: f32::MIN, sum: 0.0, targets: 0.0, products: 0.0 };

    #[inline(always)]
    fn combine<S: Simd>(s: S, left: Self, right: Self) -> Self {
        let max = if left.max > right.max { left.max } else { right.max };
        let sum = left.sum * (exp_summand(s, left.max - max) * UNSCALE);
        Self {
            max,
            sum: sum + right.sum * (exp_summand(s, right.max - max) * UNSCALE),
            targets: left.targets + right.targets,
            products: left.products_below(s, max) + right.products_below(s, max),
        }
    }
}

impl Statistics {
    /// The products of the targets with what the elements lack to another maximum.
    #[inline(always)]
    fn products_below<S: Simd>(self, s: S, max: f32) -> f32 {
        self.products + lane(s, part(s, s.splat(self.targets), s.splat(self.max - max)))
    }
}

/// The partial sums of a row, in as many vectors as hold them.
#[derive(Clone, Copy)]
pub(super) struct Partials<S: Simd>([S::F32; MAX_VECTORS]);

/// Vectors of the least lanes that hold the partial sums.
const MAX_VECTORS: usize = 4;

impl<S: Simd> Partials<S> {
    pub(super) const VECTORS: usize = ROW_LANES / S::LANES;

    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        Self([s.splat(0.0); MAX_VECTORS])
    }

    /// Adds to a vector of partial sums.
    #[inline(always)]
    pub(super) fn add(&mut self, s: S, i: usize, v: S::F32) {
        self.0[i] = s.add(v, self.0[i]);
    }

    #[inline(always)]
    pub(super) fn total(mut self, s: S) -> f32 {
        let mut half = Self::VECTORS / 2;
        while half > 0 {
            for i in 0..half {
                self.0[i] = s.add(self.0[i], self.0[i + half]);
            }
            half /= 2;
        }
        s.reduce_add(self.0[0])
    }
}

/// The statistics of a piece.
///
/// # Safety
/// As for [`statistics`].
#[inline(always)]
pub(super) unsafe fn piece<S: Simd, const UNIT: bool>(
    s: S,
    x: Row,
    spread: Option<SpreadRow>,
    cols: usize,
    keep: Option<RowMut>,
) -> Statistics {
    let whole = cols - cols % ROW_LANES;
    let lowest = s.splat(f32::MIN);
    // SAFETY: the caller's.
    unsafe {
        let mut maxes = [lowest; MAX_VECTORS];
        let mut col = 0;
        while col + MAX_VECTORS * S::LANES <= cols {
            for (i, max) in maxes.iter_mut().enumerate() {
                *max = s.max(x.load::<S, UNIT>(s, col + i * S::LANES, S::LANES, lowest), *max);
            }
            col += MAX_VECTORS * S::LANES;
        }
        while col < cols {
            maxes[0] = s.max(x.load::<S, UNIT>(s, col, S::LANES.min(cols - col), lowest), maxes[0]);
            col += S::LANES;
        }
        let max = s.reduce_max(s.max(s.max(maxes[0], maxes[1]), s.max(maxes[2], maxes[3])));
        // Before anything is kept in the place of x.
        let [targets, products] = match spread {
            Some(spread) => spread.sums::<S, UNIT>(s, x, cols, max),
            None => [0.0; 2],
        };

        let maxes = s.splat(max);
        let mut sums = Partials::new(s);
        sum_of_exponentials::<S, UNIT>(s, x, [whole, cols], maxes, keep, &mut sums);
        for (i, sum) in sums.0.iter_mut().enumerate().take(Partials::<S>::VECTORS) {
            let col = whole + i * S::LANES;
            if col < cols {
                let n = S::LANES.min(cols - col);
                // The exponential of what is missing is the 0 that it adds.
                let x = x.load::<S, UNIT>(s, col, n, s.splat(f32::NEG_INFINITY));
                let e = math::exp_summand(s, s.sub(x, maxes));
                if let Some(keep) = keep {
                    keep.store::<S, UNIT>(s, col, n, e);
                }
                *sum = s.add(e, *sum);
            }
        }
        Statistics { max, sum: sums.total(s), targets, products }
    }
}

/// exp of one number of at most 0, 2^64 times too large.
#[inline(always)]
pub(super) fn exp_summand<S: Simd>(s: S, x: f32) -> f32 {
    lane(s, math::exp_summand(s, s.splat(x)))
}

/// ln of one number.
#[inline(always)]
pub(super) fn ln<S: Simd>(s: S, x: f32) -> f32 {
    lane(s, math::ln(s, s.splat(x)))
}

/// The first lane.
#[inline(always)]
pub(super) fn lane<S: Simd>(s: S, v: S::F32) -> f32 {
    let mut lanes = [0.0; ROW_LANES];
    // SAFETY: the array has a vector's lanes.
    unsafe { s.store(lanes.as_mut_ptr(), v) };
    lanes[0]
}

/// Writes what becomes of each element; an input may be the output itself.
///
/// # Safety
/// The rows have `cols` elements, which are neighbours if `UNIT`.
#[inline(always)]
pub(super) unsafe fn map<S: Simd, const UNIT: bool, const INPUTS: usize>(
    s: S,
    op: impl Elementwise<INPUTS>,
    x: [Row; INPUTS],
    y: RowMut,
    cols: usize,
) {
    let whole = cols - cols % S::LANES;
    // SAFETY: the caller's.
    unsafe {
        for col in (0..whole).step_by(S::LANES) {
            s.prefetch(y.p.wrapping_add(col + WRITE_PREFETCH));
            y.store::<S, UNIT>(s, col, S::LANES, op.vector(s, load_all::<S, UNIT, INPUTS>(s, x, col, S::LANES)));
        }
        if whole < cols {
            let n = cols - whole;
            y.store::<S, UNIT>(s, whole, n, op.vector(s, load_all::<S, UNIT, INPUTS>(s, x, whole, n)));
        }
    }
}

/// The sum of what becomes of each element. It must be 0 where all inputs are.
///
/// # Safety
/// The rows have `cols` elements, which are neighbours if `UNIT`.
#[inline(always)]
pub(super) unsafe fn sum<S: Simd, const UNIT: bool, const INPUTS: usize>(
    s: S,
    op: impl Elementwise<INPUTS>,
    x: [Row; INPUTS],
    cols: usize,
) -> f32 {
    let whole = cols - cols % ROW_LANES;
    let mut sums = Partials::new(s);
    // SAFETY: the caller's.
    unsafe {
        for col in (0..whole).step_by(ROW_LANES) {
            for (i, sum) in sums.0.iter_mut().enumerate().take(Partials::<S>::VECTORS) {
                let x = load_all::<S, UNIT, INPUTS>(s, x, col + i * S::LANES, S::LANES);
                *sum = s.add(op.vector(s, x), *sum);
            }
        }
        for (i, sum) in sums.0.iter_mut().enumerate().take(Partials::<S>::VECTORS) {
            let col = whole + i * S::LANES;
            if col < cols {
                let x = load_all::<S, UNIT, INPUTS>(s, x, col, S::LANES.min(cols - col));
                *sum = s.add(op.vector(s, x), *sum);
            }
        }
    }
    sums.total(s)
}

/// The same elements of all rows, 0 in the lanes past `n`.
///
/// # Safety
/// The rows have elements `col..col + n`, which are neighbours if `UNIT`.
#[inline(always)]
unsafe fn load_all<S: Simd, const UNIT: bool, const INPUTS: usize>(
    s: S,
    x: [Row; INPUTS],
    col: usize,
    n: usize,
) -> [S::F32; INPUTS] {
    let zero = s.splat(0.0);
    let mut v = [zero; INPUTS];
    for (v, x) in v.iter_mut().zip(x) {
        // SAFETY: the caller's.
        *v = unsafe { x.load::<S, UNIT>(s, col, n, zero) };
    }
    v
}
