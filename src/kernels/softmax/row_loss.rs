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

/// The sums over a row and what its label adds to them, one row per lane.
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
    /// The label's target besides its soft target.
    pub(super) share: S::F32,
}

impl<S: Simd> RowSums<S> {
    /// T, the sum of all targets. With labels, a row is left out unless this is above 0.
    #[inline(always)]
    pub(super) fn total(self, s: S) -> S::F32 {
        s.add(self.soft_total, self.share)
    }

    /// The loss of a row that is not left out.
    #[inline(always)]
    pub(super) fn loss(self, s: S) -> S::F32 {
        let dot = s.add(self.soft_dot, target_product(s, self.share, self.label_below_max));
        let ln = math::ln(s, s.mul(self.exponentials, s.splat(UNSCALE)));
        s.sub(s.mul(self.total(s), ln), dot)
    }

    #[inline(always)]
    pub(super) fn gradient(self, s: S, scale: f32) -> LogitGradient<S> {
        LogitGradient {
            reciprocal: s.div(s.splat(1.0), self.exponentials),
            factor: s.mul(self.total(s), s.splat(scale)),
            minus_scale: s.splat(-scale),
        }
    }

    /// The gradient with respect to the logit of the label, whose class has this soft target.
    #[inline(always)]
    pub(super) fn label_gradient(self, s: S, gradient: LogitGradient<S>, soft_target: S::F32) -> S::F32 {
        gradient.of_target(s, math::exp_summand(s, self.label_below_max), s.add(soft_target, self.share))
    }
}

/// Makes the gradient with respect to a logit from its exponential e and its target t: (e / sum) (T scale) -
/// t scale.
#[derive(Clone, Copy)]
pub(super) struct LogitGradient<S: Simd> {
    /// 1 / sum.
    pub(super) reciprocal: S::F32,
    /// T scale.
    pub(super) factor: S::F32,
    pub(super) minus_scale: S::F32,
}

impl<S: Simd> LogitGradient<S> {
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
