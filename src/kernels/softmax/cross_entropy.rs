//! Cross-entropy, with its gradient.

use super::exponentials::{exponentials, write_exponentials};
use super::row_at_a_time::{Row, RowMut, Statistics, lane, statistics};
use super::row_per_lane::{Columns, MAX_ROWS, PerRow, load, max, rows_at_once, store, sum};
use super::soft_targets::{Spread, SpreadRow, part};
use crate::contract::{LOSS_ROWS, ROW_LANES, ROW_PIECE};
use crate::kernels::pairwise_sum::PairwiseSum;
use crate::kernels::{Input, Kernel, Split};
use crate::math::{self, UNSCALE};
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;
use crate::simd::tier::Tier;
use crate::targets::Targets;
use crate::tuning::rows::{EXP_BLOCK, ROW_PER_LANE_COLS, WRITE_PREFETCH};

/// The sum of the rows' losses T ln(sum) - sum(t (x - max)), and dx = (T softmax(x) - t) * scale.
///
/// A row's targets t, T in all, are (keep p + base) w of the probabilities p and class weights w; or base w, and
/// keep w more at the label. Losses are added over [`LOSS_ROWS`] rows in ascending order, then in a [`PairwiseSum`].
pub(crate) struct CrossEntropy<'a> {
    /// Where the logits x stand.
    pub logits: Input<'a>,
    /// Labels are below the number of columns.
    pub targets: Targets<'a>,
    /// One a column; 1 each where there are none.
    pub weights: Option<&'a [f32]>,
    /// The label whose rows are left out.
    pub ignored: Option<usize>,
    pub keep: f32,
    pub base: f32,
    pub scale: f32,
    /// Where each row's loss is written.
    pub losses: Option<&'a mut [f32]>,
    pub dx: Option<MatMut<'a>>,
}

impl Kernel for CrossEntropy<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) -> f32 {
        let x = match (self.logits, &self.dx) {
            (Input::Matrix(x), _) => x,
            // SAFETY: this goes by addresses, and reads what it needs of a row before it writes that.
            (Input::InPlace, Some(dx)) => unsafe { dx.alias() },
            (Input::InPlace, None) => return 0.0,
        };
        let spread = self.spread();
        let rows = self.dx.as_ref().map_or(x.rows(), |dx| dx.rows().min(x.rows())).min(self.targets.rows());
        let rows = self.losses.as_ref().map_or(rows, |losses| rows.min(losses.len()));
        let cols = self.dx.as_ref().map_or(x.cols(), |dx| dx.cols().min(x.cols()));
        let cols = spread.map_or(cols, |spread| spread.cols(cols));
        let rows = if cols == 0 { 0 } else { rows };

        let mut batch = Batch { x, spread, of: self };
        let short = cols <= ROW_PER_LANE_COLS;
        let at_once = if short { rows_at_once(cols).min(rows) } else { LOSS_ROWS };
        let mut tree = PairwiseSum::new();
        let mut room = Room::new();
        if short && rows > 0 {
            room.zero(tier.vector(), [at_once, cols], spread.is_some());
        }
        for first in (0..rows).step_by(at_once.max(1)) {
            let n = at_once.min(rows - first);
            let mut losses = PerRow([0.0; MAX_ROWS]);
            // SAFETY: the views have these rows, and so many columns.
            unsafe {
                if short {
                    batch.block(tier, first, [n, cols], &mut room, &mut losses);
                } else {
                    batch.rows(tier.vector(), first, cols, &mut losses.0[..n]);
                }
            }
            let losses = &losses.0[..n];
            if let Some(all) = &mut batch.of.losses {
                all[first..first + n].copy_from_slice(losses);
            }
            for losses in losses.chunks(LOSS_ROWS) {
                let mut loss = losses[0];
                for next in &losses[1..] {
                    loss += next;
                }
                tree.push(tier.vector(), loss);
            }
        }
        tree.total(tier.vector())
    }
}

impl Split for CrossEntropy<'_> {
    fn len(&self) -> usize {
        self.targets.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (logits, targets) = (self.logits.split_at_row(at), self.targets.split_at_row(at));
        let losses = self.losses.map(|losses| losses.split_at_mut(at.min(losses.len()))).unzip();
        let dx = self.dx.map(|dx| dx.split_at_row(at)).unzip();
        (
            Self { logits: logits.0, targets: targets.0, losses: losses.0, dx: dx.0, ..self },
            Self { logits: logits.1, targets: targets.1, losses: losses.1, dx: dx.1, ..self },
        )
    }
}

impl<'a> CrossEntropy<'a> {
    /// The targets that are spread over the classes, if there are such.
    #[inline(always)]
    fn spread(&self) -> Option<Spread<'a>> {
        let probabilities = match self.targets {
            Targets::Probabilities(t) => Some(t),
            Targets::Labels(_) => None,
        };
        let some = probabilities.is_some() || self.base > 0.0;
        some.then_some(Spread { probabilities, weights: self.weights, keep: self.keep, base: self.base })
    }

    /// The labels of so many rows from `first` on.
    #[inline(always)]
    fn at_labels(&self, first: usize, rows: usize, cols: usize) -> AtLabels {
        let mut labels = [0; MAX_ROWS];
        let (mut shares, mut counts) = (PerRow([0.0; MAX_ROWS]), PerRow([1.0; MAX_ROWS]));
        let Targets::Labels(all) = self.targets else { return AtLabels { labels, shares, counts } };
        all.copy_to(first, &mut labels[..rows]);
        shares.0.fill(self.keep);
        if let Some(ignored) = self.ignored {
            for (count, label) in counts.0.iter_mut().zip(labels) {
                *count = if label == ignored { 0.0 } else { 1.0 };
            }
        }
        // Callers have checked them; should they not, no memory is touched that is not the row's.
        labels = labels.map(|label| label.min(cols - 1));
        if let Some(weights) = self.weights {
            for (share, label) in shares.0.iter_mut().zip(labels) {
                *share *= weights.get(label).copied().unwrap_or(0.0);
            }
        }
        AtLabels { labels, shares, counts }
    }

    #[inline(always)]
    fn has_labels(&self) -> bool {
        matches!(self.targets, Targets::Labels(_))
    }
}

/// The work, with what it reads.
struct Batch<'a> {
    x: MatRef<'a>,
    spread: Option<Spread<'a>>,
    of: CrossEntropy<'a>,
}

impl Batch<'_> {
    /// Rows from `first` on, one after another.
    ///
    /// # Safety
    /// The views have a row for each loss from `first` on, and so many columns.
    #[inline(always)]
    unsafe fn rows<S: Simd>(&mut self, s: S, first: usize, cols: usize, losses: &mut [f32]) {
        let dx_unit = self.of.dx.as_ref().is_none_or(|dx| dx.col_stride() == 1);
        let targets = self.spread.and_then(|spread| spread.probabilities);
        let unit = self.x.col_stride() == 1 && dx_unit && targets.is_none_or(|t| t.col_stride() == 1);
        let AtLabels { labels, shares, counts } = self.of.at_labels(first, losses.len(), cols);
        for (i, loss) in losses.iter_mut().enumerate() {
            let label = (counts.0[i] > 0.0).then_some((labels[i], shares.0[i]));
            // SAFETY: the caller's.
            *loss = unsafe {
                if unit {
                    self.row::<S, true>(s, first + i, label, cols)
                } else {
                    self.row::<S, false>(s, first + i, label, cols)
                }
            };
        }
    }

    /// A row with its label, unless that is ignored, and what that has for a target beside what is spread.
    ///
    /// # Safety
    /// The views have this row, of so many columns, which are neighbours if `UNIT`; the label is one of them.
    #[inline(always)]
    unsafe fn row<S: Simd, const UNIT: bool>(
        &mut self,
        s: S,
        row: usize,
        label: Option<(usize, f32)>,
        cols: usize,
    ) -> f32 {
        let x = Row { p: self.x.as_ptr().wrapping_add(row * self.x.row_stride()), stride: self.x.col_stride() };
        let dx = self
            .of
            .dx
            .as_mut()
            .map(|dx| RowMut { p: dx.as_mut_ptr().wrapping_add(row * dx.row_stride()), stride: dx.col_stride() });
        let spread = self.spread.map(|spread| spread.row(row));
        let (has_label, scale) = (self.of.has_labels(), self.of.scale);
        // SAFETY: the caller's.
        unsafe {
            let Some((label, share)) = label.filter(|(_, share)| spread.is_some() || *share > 0.0) else {
                return left_out::<S, UNIT>(s, dx, cols);
            };
            // Before the gradient is written: it may be in the place of the logits.
            let of_label = *x.p.wrapping_add(label * x.stride);
            let keep = dx.filter(|_| cols <= ROW_PIECE);
            let Statistics { max, sum, targets, products } = statistics::<S, UNIT>(s, x, spread, cols, keep);
            let total = targets + share;
            if has_label && total <= 0.0 {
                return left_out::<S, UNIT>(s, dx, cols);
            }
            let (below, share) = (s.splat(of_label - max), s.splat(share));
            let gradient = Gradient::new(s, s.splat(sum), s.splat(total), scale);
            if let Some(dx) = dx {
                if keep.is_some() {
                    gradient.write::<UNIT>(s, spread, dx, cols);
                } else {
                    for col in (0..cols).step_by(EXP_BLOCK) {
                        let (spread, dx) = (spread.map(|spread| spread.from(col)), dx.from(col));
                        let cols = EXP_BLOCK.min(cols - col);
                        write_exponentials::<S, UNIT>(s, x.from(col), max, dx, cols);
                        gradient.write::<UNIT>(s, spread, dx, cols);
                    }
                }
                if has_label {
                    let target = match spread {
                        Some(spread) => s.add(spread.from(label).load::<S, UNIT>(s, 0, 1), share),
                        None => share,
                    };
                    let of_label = gradient.less(s, math::exp_summand(s, below), target);
                    *dx.p.wrapping_add(label * dx.stride) = lane(s, of_label);
                }
            }
            let products = s.add(s.splat(products), part(s, share, below));
            let ln = math::ln(s, s.splat(sum * UNSCALE));
            lane(s, s.sub(s.mul(s.splat(total), ln), products))
        }
    }

    /// Rows from `first` on, one in each lane.
    ///
    /// # Safety
    /// The views have so many rows from `first` on and so many columns, for which the room was made.
    #[inline(always)]
    unsafe fn block<T: Tier>(
        &mut self,
        tier: T,
        first: usize,
        [rows, cols]: [usize; 2],
        room: &mut Room<T::Vector>,
        losses: &mut PerRow,
    ) {
        let (s, r, lanes) = (tier.vector(), tier.row(), T::Vector::LANES);
        let x = self.x.as_mat_ptr().from(first, 0);
        let AtLabels { labels, shares, counts } = self.of.at_labels(first, rows, cols);
        let none = PerRow([0.0; MAX_ROWS]);
        let [mut of_labels, mut maxes, mut sums, mut targets, mut products] = [none; 5];
        for (row, (of_label, label)) in of_labels.0[..rows].iter_mut().zip(labels).enumerate() {
            // SAFETY: labels are columns.
            *of_label = unsafe { *x.from(row, label).p };
        }
        // Each step for all rows before the next: within a row each waits for the one before.
        for row in (0..rows).step_by(lanes) {
            let columns = room.columns.of_row(row);
            // SAFETY: the caller's.
            unsafe { load(s, x.from(row, 0), [lanes.min(rows - row), cols], columns) };
            maxes.store(s, row, max(s, &columns[..cols]));
        }
        if let Some(spread) = self.spread {
            for row in (0..rows).step_by(lanes) {
                let (all, parts) = (room.targets.of_row(row), room.products.of_row(0));
                // SAFETY: the caller's.
                unsafe { spread.columns(s, first + row, [lanes.min(rows - row), cols], all) };
                let max = maxes.load(s, row);
                for ((part_of, x), &target) in parts[..cols].iter_mut().zip(room.columns.of_row(row)).zip(all.iter()) {
                    *part_of = part(s, target, s.sub(*x, max));
                }
                targets.store(s, row, sum(s, all));
                products.store(s, row, sum(s, parts));
            }
        }
        for row in (0..rows).step_by(lanes) {
            exponentials(
                s,
                &room.columns.of_row(row)[..cols],
                maxes.load(s, row),
                &mut room.exponentials.of_row(row)[..cols],
            );
        }
        for row in (0..rows).step_by(lanes) {
            sums.store(s, row, sum(s, room.exponentials.of_row(row)));
        }

        let has_labels = self.of.has_labels();
        let [mut reciprocals, mut factors, mut at_labels] = [none; 3];
        if self.spread.is_some() && has_labels {
            for (row, (at_label, label)) in at_labels.0[..rows].iter_mut().zip(labels).enumerate() {
                let column = std::ptr::from_ref(&room.targets.of_row(row)[label]);
                // SAFETY: a vector's lanes are so many floats.
                *at_label = unsafe { *column.cast::<f32>().wrapping_add(row % lanes) };
            }
        }
        for row in (0..rows).step_by(ROW_LANES) {
            let (zero, share, sum) = (r.splat(0.0), shares.load(r, row), sums.load(r, row));
            let below = r.sub(of_labels.load(r, row), maxes.load(r, row));
            let total = r.add(targets.load(r, row), share);
            let lacking = r.add(products.load(r, row), part(r, share, below));
            let loss = r.sub(r.mul(total, math::ln(r, r.mul(sum, r.splat(UNSCALE)))), lacking);
            // 0 where the row is left out.
            let counting = r.select(r.lt(zero, counts.load(r, row)), total, zero);
            losses.store(r, row, if has_labels { r.select(r.lt(zero, counting), loss, zero) } else { loss });
            targets.store(r, row, counting);

            let gradient = Gradient::new(r, sum, total, self.of.scale);
            reciprocals.store(r, row, gradient.reciprocal);
            factors.store(r, row, gradient.factor);
            if has_labels {
                let target = r.add(at_labels.load(r, row), share);
                at_labels.store(r, row, gradient.less(r, math::exp_summand(r, below), target));
            }
        }

        let Some(dx) = &mut self.of.dx else { return };
        let dx = dx.as_mat_ptr().from(first, 0);
        let minus_scale = s.splat(-self.of.scale);
        for row in (0..rows).step_by(lanes) {
            let gradient = Gradient { reciprocal: reciprocals.load(s, row), factor: factors.load(s, row), minus_scale };
            let columns = &mut room.exponentials.of_row(row)[..cols];
            if self.spread.is_some() {
                for (e, target) in columns.iter_mut().zip(room.targets.of_row(row)) {
                    *e = gradient.less(s, *e, *target);
                }
            } else {
                for e in columns.iter_mut() {
                    *e = gradient.plain(s, *e);
                }
            }
            // SAFETY: the caller's.
            unsafe { store(s, dx.from(row, 0), lanes.min(rows - row), columns) };
        }
        if has_labels {
            for (row, (&label, &gradient)) in labels[..rows].iter().zip(&at_labels.0).enumerate() {
                // SAFETY: labels are columns.
                unsafe { *dx.from(row, label).p = gradient };
            }
            if self.of.weights.is_some() || self.of.ignored.is_some() {
                for row in (0..rows).filter(|row| targets.0[*row] <= 0.0) {
                    // SAFETY: the row has all of these columns.
                    (0..cols).for_each(|col| unsafe { *dx.from(row, col).p = 0.0 });
                }
            }
        }
    }
}

/// Room for the columns of short rows.
struct Room<S: Simd> {
    columns: Columns<S>,
    exponentials: Columns<S>,
    targets: Columns<S>,
    products: Columns<S>,
}

impl<S: Simd> Room<S> {
    #[inline(always)]
    fn new() -> Self {
        Self {
            columns: Columns::new(),
            exponentials: Columns::new(),
            targets: Columns::new(),
            products: Columns::new(),
        }
    }

    /// Makes room for so many rows.
    #[inline(always)]
    fn zero(&mut self, s: S, size @ [_, cols]: [usize; 2], spread: bool) {
        self.columns.zero(s, size);
        self.exponentials.zero(s, size);
        if spread {
            self.targets.zero(s, size);
            self.products.zero(s, [1, cols]);
        }
    }
}

/// Of each row the label, 0 without one, what it has for a target beside what is spread, and 1, or 0 if the row is ignored.
struct AtLabels {
    labels: [usize; MAX_ROWS],
    shares: PerRow,
    counts: PerRow,
}

/// What makes a gradient of an exponential e and a target t: e / sum * T * scale - t * scale.
#[derive(Clone, Copy)]
struct Gradient<S: Simd> {
    reciprocal: S::F32,
    factor: S::F32,
    minus_scale: S::F32,
}

impl<S: Simd> Gradient<S> {
    #[inline(always)]
    fn new(s: S, sum: S::F32, total: S::F32, scale: f32) -> Self {
        let (reciprocal, factor) = (s.div(s.splat(1.0), sum), s.mul(total, s.splat(scale)));
        Self { reciprocal, factor, minus_scale: s.splat(-scale) }
    }

    /// Where the target is 0.
    #[inline(always)]
    fn plain(self, s: S, e: S::F32) -> S::F32 {
        s.mul(s.mul(e, self.reciprocal), self.factor)
    }

    #[inline(always)]
    fn less(self, s: S, e: S::F32, target: S::F32) -> S::F32 {
        s.fma(s.mul(e, self.reciprocal), self.factor, s.mul(target, self.minus_scale))
    }

    /// The gradient of a row, in the place of its exponentials.
    ///
    /// # Safety
    /// The row has `cols` elements, which are neighbours if `UNIT`, and so has that of the targets.
    #[inline(always)]
    unsafe fn write<const UNIT: bool>(self, s: S, spread: Option<SpreadRow>, dx: RowMut, cols: usize) {
        let whole = cols - cols % S::LANES;
        // SAFETY: the caller's.
        unsafe {
            for col in (0..whole).step_by(S::LANES) {
                s.prefetch(dx.p.wrapping_add(col + WRITE_PREFETCH));
                self.write_vector::<UNIT>(s, spread, dx, [col, S::LANES]);
            }
            if whole < cols {
                self.write_vector::<UNIT>(s, spread, dx, [whole, cols - whole]);
            }
        }
    }

    /// # Safety
    /// The rows have elements `col..col + n`, which are neighbours if `UNIT`.
    #[inline(always)]
    unsafe fn write_vector<const UNIT: bool>(self, s: S, spread: Option<SpreadRow>, dx: RowMut, [col, n]: [usize; 2]) {
        // SAFETY: the caller's.
        unsafe {
            let e = dx.read().load::<S, UNIT>(s, col, n, s.splat(0.0));
            let gradient = match spread {
                Some(spread) => self.less(s, e, spread.load::<S, UNIT>(s, col, n)),
                None => self.plain(s, e),
            };
            dx.store::<S, UNIT>(s, col, n, gradient);
        }
    }
}

/// The loss of a row that is left out; its gradient is 0, too.
///
/// # Safety
/// The row has `cols` elements, which are neighbours if `UNIT`.
#[inline(always)]
unsafe fn left_out<S: Simd, const UNIT: bool>(s: S, dx: Option<RowMut>, cols: usize) -> f32 {
    if let Some(dx) = dx {
        for col in (0..cols).step_by(S::LANES) {
            // SAFETY: the caller's.
            unsafe { dx.store::<S, UNIT>(s, col, S::LANES.min(cols - col), s.splat(0.0)) };
        }
    }
    0.0
}
