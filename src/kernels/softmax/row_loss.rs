//! The loss of a row and its gradient, from the row's sums.
//!
//! ```text
//! T = soft_total + share;  dot = soft_dot + share (x_label - max)
//! loss = T ln(sum) - dot;  dx_j = (e_j / sum) (T scale) - t_j scale
//! ```
//!
//! Lanes hold rows, or all of them the same row.

use super::row_targets::LossTargets;
use super::soft_targets::{SoftTargets, target_product};
use crate::math::{self, UNSCALE};
use crate::matrix::MatPtr;
use crate::simd::Simd;

/// What the loss of rows is computed on.
#[derive(Clone, Copy)]
pub(super) struct LossBatch<'a> {
    pub(super) x: MatPtr,
    pub(super) dx: Option<MatPtr>,
    pub(super) cols: usize,
    pub(super) targets: LossTargets<'a>,
    pub(super) soft: Option<SoftTargets<'a>>,
    /// Factor of the gradient: 1 / the divisor of the mean.
    pub(super) scale: f32,
}

/// The sums over a row and the values at its label, one row per lane.
#[derive(Clone, Copy)]
pub(super) struct RowSums<S: Simd> {
    /// The sum of exp(x - max) 2^64.
    pub(super) exponentials: S::F32,
    /// The sum of the soft targets.
    pub(super) soft_total: S::F32,
    /// The sum of soft target * (x - max).
    pub(super) soft_dot: S::F32,
    /// x - max at the label.
    pub(super) label_below_max: S::F32,
    /// The soft target of the label's class.
    pub(super) label_soft_target: S::F32,
    /// The label's target besides that.
    pub(super) share: S::F32,
    /// 1, or 0 where the row's label is ignored.
    pub(super) count: S::F32,
}

/// The results for rows, one per lane.
#[derive(Clone, Copy)]
pub(super) struct RowLoss<S: Simd> {
    /// 0 where the row is left out.
    pub(super) loss: S::F32,
    /// Above 0 where the row is not left out.
    pub(super) counted: S::F32,
    pub(super) gradient: LogitGradient<S>,
    /// The gradient with respect to the logit of the label.
    pub(super) label_gradient: S::F32,
}

impl<S: Simd> RowSums<S> {
    /// Computes the loss. With labels, a row whose targets are all 0 is left out.
    #[inline(always)]
    pub(super) fn loss(self, s: S, has_labels: bool, scale: f32) -> RowLoss<S> {
        let zero = s.splat(0.0);
        let total = s.add(self.soft_total, self.share);
        let dot = s.add(self.soft_dot, target_product(s, self.share, self.label_below_max));
        let loss = s.sub(s.mul(total, math::ln(s, s.mul(self.exponentials, s.splat(UNSCALE)))), dot);
        let counted = if has_labels { s.select(s.lt(zero, self.count), total, zero) } else { self.count };
        let gradient = LogitGradient::new(s, self.exponentials, total, scale);
        let target = s.add(self.label_soft_target, self.share);
        RowLoss {
            loss: s.select(s.lt(zero, counted), loss, zero),
            counted,
            gradient,
            label_gradient: gradient.of_target(s, math::exp_summand(s, self.label_below_max), target),
        }
    }
}

/// Makes the gradient with respect to a logit from its exponential e and its target t: (e / sum) (T scale) - t scale.
#[derive(Clone, Copy)]
pub(super) struct LogitGradient<S: Simd> {
    /// 1 / sum.
    pub(super) reciprocal: S::F32,
    /// T scale.
    pub(super) factor: S::F32,
    pub(super) minus_scale: S::F32,
}

impl<S: Simd> LogitGradient<S> {
    #[inline(always)]
    fn new(s: S, sum: S::F32, total: S::F32, scale: f32) -> Self {
        Self {
            reciprocal: s.div(s.splat(1.0), sum),
            factor: s.mul(total, s.splat(scale)),
            minus_scale: s.splat(-scale),
        }
    }

    /// The gradient where the target is 0.
    #[inline(always)]
    pub(super) fn of_zero_target(self, s: S, e: S::F32) -> S::F32 {
        s.mul(s.mul(e, self.reciprocal), self.factor)
    }

    #[inline(always)]
    pub(super) fn of_target(self, s: S, e: S::F32, target: S::F32) -> S::F32 {
        s.fma(s.mul(e, self.reciprocal), self.factor, s.mul(target, self.minus_scale))
    }
}
