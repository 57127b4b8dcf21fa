//! Optimizer updates, element by element, in Keras' formulation and a stated order of operations.

use super::{Kernel, Split};
use crate::contract::MIN_MOMENT;
use crate::simd::Simd;
use crate::simd::strided::{load_strided, store_strided};
use crate::simd::tier::Tier;

/// What an optimizer does to a parameter by its gradient. Everything must be `#[inline(always)]`.
pub(crate) trait UpdateRule: Copy + Send {
    /// How many moments it keeps of each.
    const MOMENTS: usize;

    /// The new weight and moments; those that are not kept mean nothing.
    fn step<S: Simd>(self, s: S, gradient: S::F32, old: [S::F32; 3]) -> [S::F32; 3];
}

/// w = w - learning_rate * dw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SgdStep {
    pub learning_rate: f32,
    pub decay: WeightDecay,
}

/// m = momentum * m - learning_rate * dw and w = w + m, or for Nesterov
/// w = w + (momentum * m - learning_rate * dw) with the new m.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MomentumStep {
    pub learning_rate: f32,
    pub momentum: f32,
    pub nesterov: bool,
    pub decay: WeightDecay,
}

/// m = m + rate_1 * (dw - m), v = v + rate_2 * (dw * dw - v) and w = w - alpha * m / (sqrt(v) + epsilon); `alpha` carries
/// the bias corrections of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamStep {
    /// learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t).
    pub alpha: f32,
    /// 1 - beta_1.
    pub rate_1: f32,
    /// 1 - beta_2.
    pub rate_2: f32,
    pub epsilon: f32,
    pub decay: WeightDecay,
}

/// w = w - decay * w, before all else; learning_rate * weight_decay, where weights decay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightDecay(pub Option<f32>);

impl WeightDecay {
    /// Without a branch, which would stand in the midst of what a compiler is to mix.
    #[inline(always)]
    fn of<S: Simd>(self, s: S, w: S::F32) -> S::F32 {
        let is_none = s.lt(s.splat(0.0), s.splat(if self.0.is_none() { 1.0 } else { 0.0 }));
        s.select(is_none, w, s.fma(w, s.splat(-self.0.unwrap_or(0.0)), w))
    }
}

/// 0 where `moment` is nearer to 0 than [`MIN_MOMENT`], else `moment`.
#[inline(always)]
fn settle<S: Simd>(s: S, moment: S::F32) -> S::F32 {
    s.select(s.lt(s.abs(moment), s.splat(MIN_MOMENT)), s.splat(0.0), moment)
}

impl UpdateRule for SgdStep {
    const MOMENTS: usize = 0;

    #[inline(always)]
    fn step<S: Simd>(self, s: S, gradient: S::F32, [w, m, v]: [S::F32; 3]) -> [S::F32; 3] {
        [s.fma(gradient, s.splat(-self.learning_rate), self.decay.of(s, w)), m, v]
    }
}

impl UpdateRule for MomentumStep {
    const MOMENTS: usize = 1;

    #[inline(always)]
    fn step<S: Simd>(self, s: S, gradient: S::F32, [w, m, v]: [S::F32; 3]) -> [S::F32; 3] {
        let momentum = s.splat(self.momentum);
        let change = s.mul(gradient, s.splat(-self.learning_rate));
        let m = settle(s, s.fma(m, momentum, change));
        let step = if self.nesterov { s.fma(m, momentum, change) } else { m };
        [s.add(self.decay.of(s, w), step), m, v]
    }
}

impl UpdateRule for AdamStep {
    const MOMENTS: usize = 2;

    #[inline(always)]
    fn step<S: Simd>(self, s: S, gradient: S::F32, [w, m, v]: [S::F32; 3]) -> [S::F32; 3] {
        let m = settle(s, s.fma(s.sub(gradient, m), s.splat(self.rate_1), m));
        let v = settle(s, s.fma(s.sub(s.mul(gradient, gradient), v), s.splat(self.rate_2), v));
        let change = s.div(s.mul(m, s.splat(self.alpha)), s.add(s.sqrt(v), s.splat(self.epsilon)));
        [s.sub(self.decay.of(s, w), change), m, v]
    }
}

/// A rule's step on parameters by their gradients.
pub(crate) struct Update<'a, R> {
    pub rule: R,
    pub dw: &'a [f32],
    /// Weights and moments of one length; those that are not kept may be empty.
    pub parameters: [&'a mut [f32]; 3],
}

impl<R: UpdateRule> Kernel for Update<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let s = tier.vector();
        let Self { rule, dw, parameters } = self;
        let len = parameters[..=R::MOMENTS].iter().fold(dw.len(), |len, slice| len.min(slice.len()));
        let at = parameters.map(<[f32]>::as_mut_ptr);
        for (i, n) in vectors(s, len) {
            // SAFETY: i + n <= len, which all slices in use have.
            unsafe { step(s, rule, load(s, dw.as_ptr().add(i), n), at.map(|at| at.wrapping_add(i)), n) };
        }
    }
}

/// Takes a rule's step on `n` parameters.
///
/// # Safety
/// So many floats, at most `S::LANES`, can be read and written at the address of the weights and at those of the moments that
/// the rule keeps.
#[inline(always)]
pub(crate) unsafe fn step<S: Simd, R: UpdateRule>(s: S, rule: R, gradient: S::F32, at: [*mut f32; 3], n: usize) {
    let mut values = [s.splat(0.0); 3];
    // SAFETY: the caller's.
    unsafe {
        for i in 0..=R::MOMENTS {
            values[i] = load(s, at[i], n);
        }
        values = rule.step(s, gradient, values);
        for i in 0..=R::MOMENTS {
            store_strided(s, at[i], 1, n, values[i]);
        }
    }
}

impl<R: UpdateRule> Split for Update<'_, R> {
    fn len(&self) -> usize {
        self.dw.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let Self { rule, dw, parameters: [w, m, v] } = self;
        let (dw, w, m, v) = (dw.split_at(at.min(dw.len())), halves(w, at), halves(m, at), halves(v, at));
        (Self { rule, dw: dw.0, parameters: [w.0, m.0, v.0] }, Self { rule, dw: dw.1, parameters: [w.1, m.1, v.1] })
    }
}

/// The first `at` elements and the others; all are first if there are fewer.
pub(super) fn halves(slice: &mut [f32], at: usize) -> (&mut [f32], &mut [f32]) {
    let at = at.min(slice.len());
    slice.split_at_mut(at)
}

/// The vectors of a slice: first index and length.
#[inline(always)]
pub(super) fn vectors<S: Simd>(_: S, len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(S::LANES).map(move |i| (i, S::LANES.min(len - i)))
}

/// # Safety
/// `n <= S::LANES` floats can be read.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(s: S, p: *const f32, n: usize) -> S::F32 {
    // SAFETY: the caller's.
    unsafe { load_strided(s, p, 1, n, s.splat(0.0)) }
}
