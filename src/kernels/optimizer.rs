//! Optimizer updates, element by element, in Keras' formulation and a stated order of operations.

use super::tier::Tier;
use super::{Kernel, Split, load_row, store_row};
use crate::simd::Simd;

/// Moments nearer to 0 than this become 0.
///
/// A weight that gets no gradient any more would have its moments decay into the subnormal numbers
/// and stay there, and Intel's processors take some 150 cycles for each operation on those. At
/// 2^-100 the product with a learning rate above 2^-26 is still normal.
pub(crate) const LEAST_MOMENT: f32 = 7.888_609e-31;

/// Plain and momentum gradient descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SgdStep {
    pub learning_rate: f32,
    pub momentum: f32,
    pub nesterov: bool,
    /// learning_rate * weight_decay, where weights decay.
    pub decay: Option<f32>,
}

/// Adam at one step; `alpha` carries the bias corrections of that step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AdamStep {
    /// learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t).
    pub alpha: f32,
    /// 1 - beta_1.
    pub rate_1: f32,
    /// 1 - beta_2.
    pub rate_2: f32,
    pub epsilon: f32,
    /// learning_rate * weight_decay, where weights decay.
    pub decay: Option<f32>,
}

/// 0 where `moment` is nearer to 0 than [`LEAST_MOMENT`], else `moment`.
#[inline(always)]
fn settle<S: Simd>(s: S, moment: S::F32) -> S::F32 {
    let below = s.lt(moment, s.splat(LEAST_MOMENT));
    let above = s.lt(s.splat(-LEAST_MOMENT), moment);
    s.select(below, s.select(above, s.splat(0.0), moment), moment)
}

/// w = w - decay * w, where there is a decay; then w = w - learning_rate * dw; with momentum
/// m = momentum * m - learning_rate * dw and w = w + m, or for Nesterov
/// w = w + (momentum * m - learning_rate * dw) with the new m. Slices of one length, but that m may be empty where there is no momentum.
pub(crate) struct Sgd<'a> {
    pub step: SgdStep,
    pub w: &'a mut [f32],
    pub dw: &'a [f32],
    pub m: &'a mut [f32],
}

impl Kernel for Sgd<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let (s, step, m_len) = (tier.vector(), self.step, self.m.len());
        let (rate, momentum) = (s.splat(-step.learning_rate), s.splat(step.momentum));
        let plain = step.momentum == 0.0;
        let len = self.w.len().min(self.dw.len()).min(if plain { usize::MAX } else { m_len });
        let (w, dw, m) = (self.w.as_mut_ptr(), self.dw.as_ptr(), self.m.as_mut_ptr());
        for (i, n) in vectors(s, len) {
            // SAFETY: i + n <= len, which all slices in use have.
            unsafe {
                let (mut old, g) = (load(s, w.add(i), n), load(s, dw.add(i), n));
                if let Some(decay) = step.decay {
                    old = s.fma(old, s.splat(-decay), old);
                }
                let new = if plain {
                    s.fma(g, rate, old)
                } else {
                    let change = s.mul(g, rate);
                    let m_new = settle(s, s.fma(load(s, m.add(i), n), momentum, change));
                    store_row(s, m.add(i), 1, n, m_new);
                    s.add(old, if step.nesterov { s.fma(m_new, momentum, change) } else { m_new })
                };
                store_row(s, w.add(i), 1, n, new);
            }
        }
    }
}

impl Split for Sgd<'_> {
    fn len(&self) -> usize {
        self.w.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (w, dw, m) = (halves(self.w, at), self.dw.split_at(at.min(self.dw.len())), halves(self.m, at));
        (Self { w: w.0, dw: dw.0, m: m.0, step: self.step }, Self { w: w.1, dw: dw.1, m: m.1, step: self.step })
    }
}

/// m = m + rate_1 * (dw - m), v = v + rate_2 * (dw * dw - v), then, where there is a decay,
/// w = w - decay * w, and w = w - alpha * m / (sqrt(v) + epsilon). Slices of one length.
pub(crate) struct Adam<'a> {
    pub step: AdamStep,
    pub w: &'a mut [f32],
    pub dw: &'a [f32],
    pub m: &'a mut [f32],
    pub v: &'a mut [f32],
}

impl Kernel for Adam<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let (s, step) = (tier.vector(), self.step);
        let (rate_1, rate_2) = (s.splat(step.rate_1), s.splat(step.rate_2));
        let (alpha, epsilon) = (s.splat(step.alpha), s.splat(step.epsilon));
        let len = self.w.len().min(self.dw.len()).min(self.m.len()).min(self.v.len());
        let (w, dw) = (self.w.as_mut_ptr(), self.dw.as_ptr());
        let (m, v) = (self.m.as_mut_ptr(), self.v.as_mut_ptr());
        for (i, n) in vectors(s, len) {
            // SAFETY: i + n <= len, which all slices have.
            unsafe {
                let (mut old, g) = (load(s, w.add(i), n), load(s, dw.add(i), n));
                let (m_old, v_old) = (load(s, m.add(i), n), load(s, v.add(i), n));
                let m_new = settle(s, s.fma(s.sub(g, m_old), rate_1, m_old));
                let v_new = settle(s, s.fma(s.sub(s.mul(g, g), v_old), rate_2, v_old));
                if let Some(decay) = step.decay {
                    old = s.fma(old, s.splat(-decay), old);
                }
                let change = s.div(s.mul(m_new, alpha), s.add(s.sqrt(v_new), epsilon));
                store_row(s, m.add(i), 1, n, m_new);
                store_row(s, v.add(i), 1, n, v_new);
                store_row(s, w.add(i), 1, n, s.sub(old, change));
            }
        }
    }
}

impl Split for Adam<'_> {
    fn len(&self) -> usize {
        self.w.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (w, dw) = (halves(self.w, at), self.dw.split_at(at.min(self.dw.len())));
        let (m, v, step) = (halves(self.m, at), halves(self.v, at), self.step);
        (Self { w: w.0, dw: dw.0, m: m.0, v: v.0, step }, Self { w: w.1, dw: dw.1, m: m.1, v: v.1, step })
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
    unsafe { load_row(s, p, 1, n, s.splat(0.0)) }
}
