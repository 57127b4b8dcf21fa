//! Cross-entropy, with its gradient.

use super::ROW_PIECE;
use super::long::{AHEAD, Row, RowMut, Statistics, lane, statistics};
use super::short::{Columns, MAX_VECTORS, PerRow, SHORT, load, max, store, sum};
use super::spread::{Spread, SpreadRow, part};
use crate::kernels::elementwise::Operand;
use crate::kernels::tier::Tier;
use crate::kernels::tree::Tree;
use crate::kernels::{Input, Kernel, LOSS_ROWS};
use crate::math::{self, UNSCALE};
use crate::matrix::{MatMut, MatRef};
use crate::simd::Simd;
use crate::targets::Targets;

/// The sum of the rows' losses T ln(sum) - sum(t (x - max)), and dx = (T softmax(x) - t) * scale.
///
/// A row's targets t, T in all, are (keep p + base) w of the probabilities p and class weights w; or base w, and
/// keep w more at the label. Losses are added over [`LOSS_ROWS`] rows in ascending order, then in a [`Tree`].
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
            (Input::Output, Some(dx)) => unsafe { dx.alias() },
            (Input::Output, None) => return 0.0,
        };
        let spread = self.spread();
        let rows = self.dx.as_ref().map_or(x.rows(), |dx| dx.rows().min(x.rows())).min(self.targets.rows());
        let rows = self.losses.as_ref().map_or(rows, |losses| rows.min(losses.len()));
        let cols = self.dx.as_ref().map_or(x.cols(), |dx| dx.cols().min(x.cols()));
        let cols = spread.map_or(cols, |spread| spread.cols(cols));
        let rows = if cols == 0 { 0 } else { rows };

        let mut batch = Batch { x, spread, of: self };
        const { assert!(T::Row::LANES == LOSS_ROWS) };
        let mut tree = Tree::new(0.0);
        let mut room = Room::new(tier.vector(), cols.min(SHORT), spread.is_some());
        for first in (0..rows).step_by(LOSS_ROWS) {
            let n = LOSS_ROWS.min(rows - first);
            let mut losses = PerRow([0.0; LOSS_ROWS]);
            // SAFETY: the views have these rows, and so many columns.
            unsafe {
                if cols > SHORT {
                    batch.rows(tier.vector(), first, cols, &mut losses.0[..n]);
                } else if n == LOSS_ROWS {
                    // With a number of rows that the compiler knows, the usual case asks for nothing.
                    batch.group(tier, first, [LOSS_ROWS, cols], &mut room, &mut losses);
                } else {
                    batch.group(tier, first, [n, cols], &mut room, &mut losses);
                }
            }
            let losses = losses.0;
            if let Some(all) = &mut batch.of.losses {
                all[first..first + n].copy_from_slice(&losses[..n]);
            }
            let mut loss = losses[0];
            for next in &losses[1..n] {
                loss += next;
            }
            tree.push(tier.vector(), loss);
        }
        tree.total(tier.vector(), 0.0)
    }

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
        let mut labels = [0; LOSS_ROWS];
        let (mut shares, mut counts) = (PerRow([0.0; LOSS_ROWS]), PerRow([1.0; LOSS_ROWS]));
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
                // Each with what it has known to the compiler.
                match (spread, keep) {
                    (None, Some(e)) => gradient.write::<UNIT>(s, e.read(), None, None, dx, cols),
                    (None, None) => gradient.write::<UNIT>(s, x, Some(max), None, dx, cols),
                    (Some(_), Some(e)) => gradient.write::<UNIT>(s, e.read(), None, spread, dx, cols),
                    (Some(_), None) => gradient.write::<UNIT>(s, x, Some(max), spread, dx, cols),
                }
                if has_label {
                    let target = match spread {
                        Some(spread) => s.add(spread.from(label).load::<S, UNIT>(s, 0, 1), share),
                        None => share,
                    };
                    let of_label = gradient.less(s, math::exp_scaled(s, below), target);
                    *dx.p.wrapping_add(label * dx.stride) = lane(s, of_label);
                }
            }
            let products = s.add(s.splat(products), part(s, share, below));
            let ln = math::ln(s, s.splat(sum * UNSCALE));
            lane(s, s.sub(s.mul(s.splat(total), ln), products))
        }
    }

    /// A group of rows from `first` on, one in each lane.
    ///
    /// # Safety
    /// The views have so many rows from `first` on, at most [`LOSS_ROWS`], and so many columns, at most
    /// [`SHORT`](super::short::SHORT), for which the room was made.
    #[inline(always)]
    unsafe fn group<T: Tier>(
        &mut self,
        tier: T,
        first: usize,
        [rows, cols]: [usize; 2],
        room: &mut Room<T::Vector>,
        losses: &mut PerRow,
    ) {
        let (s, r, lanes) = (tier.vector(), tier.row(), T::Vector::LANES);
        let x = Operand::of(self.x).from(first, 0);
        let AtLabels { labels, shares, counts } = self.of.at_labels(first, rows, cols);
        let none = PerRow([0.0; LOSS_ROWS]);
        let [mut of_labels, mut maxes, mut sums, mut targets, mut products] = [none; 5];
        for (row, (of_label, label)) in of_labels.0[..rows].iter_mut().zip(labels).enumerate() {
            // SAFETY: labels are columns.
            *of_label = unsafe { *x.from(row, label).p };
        }
        let vectors = rows.div_ceil(lanes);
        for (v, (columns, spread_columns)) in room.columns.iter_mut().zip(&mut room.targets).enumerate().take(vectors) {
            let (row, n) = (v * lanes, lanes.min(rows - v * lanes));
            // SAFETY: the caller's; the columns are zeroed.
            let columns = unsafe {
                let columns = columns.written(cols);
                load(s, x.from(row, 0), [n, cols], columns);
                columns
            };
            let max = max(s, &columns[..cols]);
            maxes.store(s, row, max);
            if let Some(spread) = self.spread {
                // SAFETY: as above.
                let (all, parts) = unsafe {
                    let all = spread_columns.written(cols);
                    spread.columns(s, first + row, [n, cols], all);
                    (all, room.products.written(cols))
                };
                for ((part_of, x), &target) in parts.iter_mut().zip(&columns[..cols]).zip(all.iter()) {
                    *part_of = part(s, target, s.sub(*x, max));
                }
                targets.store(s, row, sum(s, all));
                products.store(s, row, sum(s, parts));
            }
            for x in &mut columns[..cols] {
                *x = math::exp_scaled(s, s.sub(*x, max));
            }
            sums.store(s, row, sum(s, columns));
        }

        let has_labels = self.of.has_labels();
        let (zero, share, sum) = (r.splat(0.0), shares.load(r, 0), sums.load(r, 0));
        let below = r.sub(of_labels.load(r, 0), maxes.load(r, 0));
        let total = r.add(targets.load(r, 0), share);
        let lacking = r.add(products.load(r, 0), part(r, share, below));
        let loss = r.sub(r.mul(total, math::ln(r, r.mul(sum, r.splat(UNSCALE)))), lacking);
        // Above 0 where the row counts.
        let counting = r.select(r.lt(zero, counts.load(r, 0)), total, zero);
        losses.store(r, 0, if has_labels { r.select(r.lt(zero, counting), loss, zero) } else { loss });

        let Some(dx) = &mut self.of.dx else { return };
        let dx = Operand { p: dx.as_mut_ptr(), strides: [dx.row_stride(), dx.col_stride()] }.from(first, 0);
        let gradient = Gradient::new(r, sum, total, self.of.scale);
        let [mut reciprocals, mut factors] = [none; 2];
        reciprocals.store(r, 0, gradient.reciprocal);
        factors.store(r, 0, gradient.factor);
        for (v, (columns, targets)) in room.columns.iter_mut().zip(&mut room.targets).enumerate().take(vectors) {
            let (row, n) = (v * lanes, lanes.min(rows - v * lanes));
            let gradient = Gradient {
                reciprocal: reciprocals.load(s, row),
                factor: factors.load(s, row),
                minus_scale: s.splat(-self.of.scale),
            };
            // SAFETY: the caller's; the columns are written.
            unsafe {
                let columns = &mut columns.written(cols)[..cols];
                if self.spread.is_some() {
                    for (e, target) in columns.iter_mut().zip(targets.written(cols)) {
                        *e = gradient.less(s, *e, *target);
                    }
                } else {
                    for e in columns.iter_mut() {
                        *e = gradient.plain(s, *e);
                    }
                }
                store(s, dx.from(row, 0), n, columns);
            }
        }
        if has_labels {
            let mut at_labels = none;
            if self.spread.is_some() {
                for (row, (at_label, label)) in at_labels.0[..rows].iter_mut().zip(labels).enumerate() {
                    // SAFETY: labels are columns, and these are written.
                    let column = unsafe { &room.targets[row / lanes].written(cols)[label] };
                    // SAFETY: a vector's lanes are so many floats.
                    *at_label = unsafe { *std::ptr::from_ref(column).cast::<f32>().wrapping_add(row % lanes) };
                }
            }
            let target = r.add(at_labels.load(r, 0), share);
            at_labels.store(r, 0, gradient.less(r, math::exp_scaled(r, below), target));
            let mut counts = none;
            counts.store(r, 0, counting);
            for row in 0..rows {
                // SAFETY: labels are columns, and the row has all of these.
                unsafe {
                    if counts.0[row] > 0.0 {
                        *dx.from(row, labels[row]).p = at_labels.0[row];
                    } else {
                        (0..cols).for_each(|col| *dx.from(row, col).p = 0.0);
                    }
                }
            }
        }
    }
}

/// Room for the columns of a group of short rows.
struct Room<S: Simd> {
    columns: [Columns<S>; MAX_VECTORS],
    targets: [Columns<S>; MAX_VECTORS],
    products: Columns<S>,
}

impl<S: Simd> Room<S> {
    #[inline(always)]
    fn new(s: S, cols: usize, spread: bool) -> Self {
        let [mut columns, mut targets] = [(); 2].map(|()| [(); MAX_VECTORS].map(|()| Columns::new()));
        let mut products = Columns::new();
        for columns in &mut columns[..LOSS_ROWS / S::LANES] {
            columns.zeroed(s, cols);
        }
        if spread {
            for columns in &mut targets[..LOSS_ROWS / S::LANES] {
                columns.zeroed(s, cols);
            }
            products.zeroed(s, cols);
        }
        Self { columns, targets, products }
    }
}

/// Of each row of a group the label, 0 without one, what it has for a target beside what is spread, and 1, or 0 if the row is ignored.
struct AtLabels {
    labels: [usize; LOSS_ROWS],
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

    /// The gradient of a row, of which x holds the exponentials, or, where there is a maximum, the logits.
    ///
    /// # Safety
    /// The rows have `cols` elements, which are neighbours if `UNIT`.
    #[inline(always)]
    unsafe fn write<const UNIT: bool>(
        self,
        s: S,
        x: Row,
        max: Option<f32>,
        spread: Option<SpreadRow>,
        dx: RowMut,
        cols: usize,
    ) {
        let whole = cols - cols % S::LANES;
        // SAFETY: the caller's.
        unsafe {
            for col in (0..whole).step_by(S::LANES) {
                s.prefetch(dx.p.wrapping_add(col + AHEAD));
                self.write_vector::<UNIT>(s, x, max, spread, dx, [col, S::LANES]);
            }
            if whole < cols {
                self.write_vector::<UNIT>(s, x, max, spread, dx, [whole, cols - whole]);
            }
        }
    }

    /// # Safety
    /// The rows have elements `col..col + n`, which are neighbours if `UNIT`.
    #[inline(always)]
    unsafe fn write_vector<const UNIT: bool>(
        self,
        s: S,
        x: Row,
        max: Option<f32>,
        spread: Option<SpreadRow>,
        dx: RowMut,
        [col, n]: [usize; 2],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let x = x.load::<S, UNIT>(s, col, n, s.splat(0.0));
            let e = match max {
                Some(max) => math::exp_scaled(s, s.sub(x, s.splat(max))),
                None => x,
            };
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
