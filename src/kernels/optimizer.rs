//! Optimizer steps, element by element, in Keras' formulation and a stated order of operations.
//!
//! A [`VectorStep`] is the vector code of an update rule, with the constants of one step. [`UpdateKernel`]
//! applies it to slices; the fused update of `gemm` applies it to gradients that are still in L1.
//! `updates_have_the_bits_of_the_reference` in `nn/optimizers/state.rs` compares both with the reference.

use super::{Kernel, Split};
use crate::contract::MIN_MOMENT;
use crate::simd::Simd;
use crate::simd::strided::{load_strided, store_strided};
use crate::simd::tier::Tier;
use crate::tuning::cost;

/// Most values that a rule keeps for each parameter: its slots of state.
pub(crate) const MAX_SLOTS: usize = 2;
/// Values of a parameter: its weight, then its slots.
pub(crate) const VALUES: usize = 1 + MAX_SLOTS;

/// Updates vectors of parameters by their gradients.
pub(crate) trait VectorStep: Copy + Send {
    /// Slots of state that the step reads and writes; the other slots are empty.
    const SLOTS: usize;

    /// Estimates the nanoseconds of a step on one thread.
    fn cost(parameters: usize) -> usize;

    /// Returns the new weights and slots; slots from [`SLOTS`](Self::SLOTS) on mean nothing. Must be
    /// `#[inline(always)]`.
    fn step<S: Simd>(self, s: S, gradient: S::F32, values: [S::F32; VALUES]) -> [S::F32; VALUES];
}

/// w = w - learning_rate * dw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SgdStep {
    pub learning_rate: f32,
    pub decay: WeightDecay,
}

/// m = momentum * m - learning_rate * dw and w = w + m; with Nesterov's momentum
/// w = w + (momentum * m - learning_rate * dw) with the new m.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MomentumStep {
    pub learning_rate: f32,
    pub momentum: f32,
    pub nesterov: bool,
    pub decay: WeightDecay,
}

/// m = m + rate_1 * (dw - m), v = v + rate_2 * (dw * dw - v) and w = w - alpha * m / (sqrt(v) + epsilon).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamStep {
    /// learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t): the bias-corrected learning rate of step t.
    pub alpha: f32,
    /// 1 - beta_1.
    pub rate_1: f32,
    /// 1 - beta_2.
    pub rate_2: f32,
    pub epsilon: f32,
    pub decay: WeightDecay,
}

/// w = w - decay * w, before all else, where decay is learning_rate * weight_decay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightDecay(pub Option<f32>);

impl WeightDecay {
    /// Applies the decay by a select. A branch would keep the compiler from interleaving the step with FMAs.
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, w: S::F32) -> S::F32 {
        let is_none = s.lt(s.splat(0.0), s.splat(if self.0.is_none() { 1.0 } else { 0.0 }));
        s.select(is_none, w, s.fma(w, s.splat(-self.0.unwrap_or(0.0)), w))
    }
}

/// Sets moments below [`MIN_MOMENT`] to 0, before they become subnormal.
#[inline(always)]
fn flush<S: Simd>(s: S, moment: S::F32) -> S::F32 {
    s.select(s.lt(s.abs(moment), s.splat(MIN_MOMENT)), s.splat(0.0), moment)
}

impl VectorStep for SgdStep {
    const SLOTS: usize = 0;

    fn cost(parameters: usize) -> usize {
        cost::sgd(parameters)
    }

    #[inline(always)]
    fn step<S: Simd>(self, s: S, gradient: S::F32, [w, m, v]: [S::F32; VALUES]) -> [S::F32; VALUES] {
        [s.fma(gradient, s.splat(-self.learning_rate), self.decay.apply(s, w)), m, v]
    }
}

impl VectorStep for MomentumStep {
    const SLOTS: usize = 1;

    fn cost(parameters: usize) -> usize {
        cost::sgd(parameters)
    }

    #[inline(always)]
    fn step<S: Simd>(self, s: S, gradient: S::F32, [w, m, v]: [S::F32; VALUES]) -> [S::F32; VALUES] {
        let momentum = s.splat(self.momentum);
        let change = s.mul(gradient, s.splat(-self.learning_rate));
        let m = flush(s, s.fma(m, momentum, change));
        let step = if self.nesterov { s.fma(m, momentum, change) } else { m };
        [s.add(self.decay.apply(s, w), step), m, v]
    }
}

impl VectorStep for AdamStep {
    const SLOTS: usize = 2;

    fn cost(parameters: usize) -> usize {
        cost::adam(parameters)
    }

    #[inline(always)]
    fn step<S: Simd>(self, s: S, gradient: S::F32, [w, m, v]: [S::F32; VALUES]) -> [S::F32; VALUES] {
        let m = flush(s, s.fma(s.sub(gradient, m), s.splat(self.rate_1), m));
        let v = flush(s, s.fma(s.sub(s.mul(gradient, gradient), v), s.splat(self.rate_2), v));
        let change = s.div(s.mul(m, s.splat(self.alpha)), s.add(s.sqrt(v), s.splat(self.epsilon)));
        [s.sub(self.decay.apply(s, w), change), m, v]
    }
}

/// Weights with their slots of state, of one length; slots that the rule does not keep are empty.
#[derive(Debug)]
pub(crate) struct Parameters<'a> {
    pub weights: &'a mut [f32],
    pub slots: [&'a mut [f32]; MAX_SLOTS],
}

impl<'a> Parameters<'a> {
    /// Borrows all slices for a shorter time.
    pub(crate) fn reborrow(&mut self) -> Parameters<'_> {
        Parameters { weights: self.weights, slots: self.slots.each_mut().map(|slot| &mut **slot) }
    }

    /// Splits off the first `count` parameters, or all if there are fewer.
    pub(crate) fn take(&mut self, count: usize) -> Self {
        let first = |slice: &mut &'a mut [f32]| slice.split_off_mut(..count.min(slice.len())).unwrap_or_default();
        Self { weights: first(&mut self.weights), slots: self.slots.each_mut().map(first) }
    }

    /// Gives the weights, then the slots.
    pub(crate) fn into_slices(self) -> [&'a mut [f32]; VALUES] {
        let [first, second] = self.slots;
        [self.weights, first, second]
    }
}

/// Applies a step to parameters whose gradients are given.
pub(crate) struct UpdateKernel<'a, V> {
    pub step: V,
    pub dw: &'a [f32],
    pub parameters: Parameters<'a>,
}

impl<V: VectorStep> Kernel for UpdateKernel<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let s = tier.vector();
        let Self { step, dw, parameters } = self;
        let values = parameters.into_slices();
        let len = values[..=V::SLOTS].iter().fold(dw.len(), |len, slice| len.min(slice.len()));
        let values = values.map(<[f32]>::as_mut_ptr);
        for (i, n) in vectors(s, len) {
            // SAFETY: i + n <= len, the least length of the gradients and the slices in use, and n <= LANES.
            unsafe { update(s, step, load(s, dw.as_ptr().add(i), n), values.map(|p| p.wrapping_add(i)), n) };
        }
    }
}

/// Updates `n` parameters in memory.
///
/// # Safety
/// `n <= S::LANES`; the pointers to the weights and to the first `V::SLOTS` slots point to `n` readable and
/// writable floats.
#[inline(always)]
pub(crate) unsafe fn update<S: Simd, V: VectorStep>(s: S, step: V, gradient: S::F32, at: [*mut f32; VALUES], n: usize) {
    let mut values = [s.splat(0.0); VALUES];
    // SAFETY: the weights and the slots in use, 0..=SLOTS, are n <= LANES readable and writable floats each.
    unsafe {
        for i in 0..=V::SLOTS {
            values[i] = load(s, at[i], n);
        }
        values = step.step(s, gradient, values);
        for i in 0..=V::SLOTS {
            store_strided(s, at[i], 1, n, values[i]);
        }
    }
}

impl<V: VectorStep> Split for UpdateKernel<'_, V> {
    fn len(&self) -> usize {
        self.dw.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let Self { step, dw, parameters: mut rest } = self;
        let (dw, dw_rest) = dw.split_at(at.min(dw.len()));
        let parameters = rest.take(at);
        (Self { step, dw, parameters }, Self { step, dw: dw_rest, parameters: rest })
    }
}

/// Cuts a slice into vectors: the first index and the length of each.
#[inline(always)]
pub(super) fn vectors<S: Simd>(_: S, len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(S::LANES).map(move |i| (i, S::LANES.min(len - i)))
}

/// Loads `n` contiguous floats; the other lanes are 0.
///
/// # Safety
/// `n <= S::LANES`, and `p` points to `n` readable floats.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(s: S, p: *const f32, n: usize) -> S::F32 {
    // SAFETY: `p` points to n <= LANES readable floats, at stride 1.
    unsafe { load_strided(s, p, 1, n, s.splat(0.0)) }
}
