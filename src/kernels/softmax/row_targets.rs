//! The targets of a batch, as the loss of a row takes them: a label with its share, and soft targets.

use super::row_per_lane::{MAX_ROWS, PerRow};
use super::soft_targets::SoftTargets;
use crate::split_at::{Axis, SplitAt};
use crate::targets::Targets;

/// Labels or probabilities, smoothed and weighted.
///
/// The target of class c is (keep t + base) w with the probability t and the class weight w. A label counts
/// as t = 1 at its class, 0 elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct LossTargets<'a> {
    /// Labels are below the number of columns, or ignored.
    pub targets: Targets<'a>,
    /// One per column; 1 each if missing.
    pub weights: Option<&'a [f32]>,
    /// The label whose rows are left out.
    pub ignored: Option<usize>,
    /// 1 - label smoothing.
    pub keep: f32,
    /// Label smoothing / number of classes.
    pub base: f32,
}

/// The labels of up to [`MAX_ROWS`] rows.
pub(super) struct RowLabels {
    /// Each row's label, a column; 0 without labels.
    pub(super) labels: [usize; MAX_ROWS],
    /// The label's target besides its soft target; 0 without labels.
    pub(super) shares: PerRow,
    /// 1, or 0 where the row is ignored.
    pub(super) counts: PerRow,
}

impl<'a> LossTargets<'a> {
    #[inline(always)]
    pub(super) fn has_labels(&self) -> bool {
        matches!(self.targets, Targets::Labels(_))
    }

    /// Whether a row may be left out: its label is ignored, or weighs nothing.
    #[inline(always)]
    pub(super) fn may_leave_out(&self) -> bool {
        self.has_labels() && (self.weights.is_some() || self.ignored.is_some())
    }

    /// The soft targets; none if all targets but the label's are 0.
    #[inline(always)]
    pub(super) fn soft(&self) -> Option<SoftTargets<'a>> {
        let probabilities = match self.targets {
            Targets::Probabilities(t) => Some(t),
            Targets::Labels(_) => None,
        };
        let some = probabilities.is_some() || self.base > 0.0;
        some.then_some(SoftTargets { probabilities, weights: self.weights, keep: self.keep, base: self.base })
    }

    /// The labels of `rows` rows from `first` on, at most [`MAX_ROWS`].
    #[inline(always)]
    pub(super) fn labels(&self, first: usize, rows: usize, cols: usize) -> RowLabels {
        let mut labels = [0; MAX_ROWS];
        let (mut shares, mut counts) = (PerRow::splat(0.0), PerRow::splat(1.0));
        let Targets::Labels(all) = self.targets else { return RowLabels { labels, shares, counts } };
        all.copy_to(first, &mut labels[..rows]);
        shares.0.fill(self.keep);
        if let Some(ignored) = self.ignored {
            for (count, label) in counts.0.iter_mut().zip(labels) {
                *count = if label == ignored { 0.0 } else { 1.0 };
            }
        }
        // Ignored labels need not be columns; clamping keeps every access inside of the row.
        labels = labels.map(|label| label.min(cols - 1));
        if let Some(weights) = self.weights {
            for (share, label) in shares.0.iter_mut().zip(labels) {
                *share *= weights.get(label).copied().unwrap_or(0.0);
            }
        }
        RowLabels { labels, shares, counts }
    }
}

impl SplitAt for LossTargets<'_> {
    fn split_along(self, axis: Axis, at: usize) -> (Self, Self) {
        let (first, rest) = self.targets.split_along(axis, at);
        (Self { targets: first, ..self }, Self { targets: rest, ..self })
    }
}
