//! The activations' vector code: formulas, gradients, and the epilogue that products apply to a block of C.

use super::activation::Activation;
use super::elementwise::{Elementwise, map};
use crate::math;
use crate::matrix::{MatPtr, Size};
use crate::simd::{Simd, SimdOp};

/// The vector code of an [`Activation`]. Everything must be `#[inline(always)]`.
pub(crate) trait Formula: Copy + Send {
    /// f(x).
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32;
    /// f'(x) dy; `saved` is x or f(x), whichever the activation saves for the backward pass.
    fn gradient<S: Simd>(self, s: S, saved: S::F32, dy: S::F32) -> S::F32;
}

/// A computation that is generic over the [`Formula`] of an [`Activation`].
pub(crate) trait Visit {
    type Output;
    fn visit(self, formula: impl Formula) -> Self::Output;
}

impl Activation {
    /// Calls the visitor with this activation's formula.
    #[inline(always)]
    pub(crate) fn visit<V: Visit>(self, visitor: V) -> V::Output {
        match self {
            Self::Linear => visitor.visit(Linear),
            Self::Relu => visitor.visit(Relu),
            Self::LeakyRelu { slope } => visitor.visit(LeakyRelu(slope)),
            Self::Elu { alpha } => visitor.visit(Elu(alpha)),
            Self::Sigmoid => visitor.visit(Sigmoid),
            Self::Tanh => visitor.visit(Tanh),
            Self::Softplus => visitor.visit(Softplus),
            Self::Silu => visitor.visit(Silu),
            Self::Gelu => visitor.visit(Gelu),
        }
    }
}

#[derive(Clone, Copy)]
struct Linear;

impl Formula for Linear {
    #[inline(always)]
    fn value<S: Simd>(self, _: S, x: S::F32) -> S::F32 {
        x
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, _: S, _: S::F32, dy: S::F32) -> S::F32 {
        dy
    }
}

#[derive(Clone, Copy)]
struct Relu;

impl Formula for Relu {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        s.max(s.splat(0.0), x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, y: S::F32, dy: S::F32) -> S::F32 {
        let zero = s.splat(0.0);
        s.select(s.lt(zero, y), dy, zero)
    }
}

#[derive(Clone, Copy)]
struct LeakyRelu(f32);

impl Formula for LeakyRelu {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        s.select(s.lt(x, s.splat(0.0)), s.mul(x, s.splat(self.0)), x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, y: S::F32, dy: S::F32) -> S::F32 {
        s.select(s.lt(s.splat(0.0), y), dy, s.mul(dy, s.splat(self.0)))
    }
}

#[derive(Clone, Copy)]
struct Elu(f32);

impl Formula for Elu {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        let zero = s.splat(0.0);
        let below = s.mul(math::exp_m1_of_nonpositive(s, s.min(zero, x)), s.splat(self.0));
        s.select(s.lt(x, zero), below, x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, y: S::F32, dy: S::F32) -> S::F32 {
        s.select(s.lt(s.splat(0.0), y), dy, s.mul(dy, s.add(y, s.splat(self.0))))
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;

impl Formula for Sigmoid {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        math::sigmoid(s, x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, y: S::F32, dy: S::F32) -> S::F32 {
        s.mul(dy, s.mul(y, s.sub(s.splat(1.0), y)))
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl Formula for Tanh {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        math::tanh(s, x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, y: S::F32, dy: S::F32) -> S::F32 {
        s.mul(dy, s.fma(s.sub(s.splat(0.0), y), y, s.splat(1.0)))
    }
}

#[derive(Clone, Copy)]
struct Softplus;

impl Formula for Softplus {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        math::softplus(s, x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, y: S::F32, dy: S::F32) -> S::F32 {
        let zero = s.splat(0.0);
        let minus_slope = math::exp_m1_of_nonpositive(s, s.min(zero, s.sub(zero, y)));
        s.mul(dy, s.sub(zero, minus_slope))
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Formula for Silu {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        math::silu(s, x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: S::F32, dy: S::F32) -> S::F32 {
        s.mul(dy, math::silu_slope(s, x))
    }
}

#[derive(Clone, Copy)]
struct Gelu;

impl Formula for Gelu {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        math::gelu(s, x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: S::F32, dy: S::F32) -> S::F32 {
        s.mul(dy, math::gelu_slope(s, x))
    }
}

/// y = f(x).
#[derive(Clone, Copy)]
pub(crate) struct ActivationValue<F>(pub F);

impl<F: Formula> Elementwise<1> for ActivationValue<F> {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [x]: [S::F32; 1]) -> S::F32 {
        self.0.value(s, x)
    }
}

/// dx = f'(x) dy; the inputs are what f saves, and dy.
#[derive(Clone, Copy)]
pub(crate) struct ActivationGradient<F>(pub F);

impl<F: Formula> Elementwise<2> for ActivationGradient<F> {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [saved, dy]: [S::F32; 2]) -> S::F32 {
        self.0.gradient(s, saved, dy)
    }
}

/// A finished block of C, and the activation that follows as its epilogue.
#[derive(Clone, Copy)]
pub(crate) struct ActivationBlock<S> {
    pub s: S,
    pub activation: Activation,
    /// In the backward pass, what the activation saved, in the block's place: its gradient is applied then.
    pub saved: Option<MatPtr>,
    pub block: MatPtr,
    pub size: Size,
}

impl<S: Simd> ActivationBlock<S> {
    /// Applies the activation, or its gradient, in place: outlined, so that products do not hold ten copies
    /// of this.
    ///
    /// # Safety
    /// `block` can be read and written, and `saved` be read, in the given size.
    #[inline(always)]
    pub(crate) unsafe fn apply(self) {
        self.s.outline(self);
    }
}

impl<S: Simd> SimdOp for ActivationBlock<S> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.activation.visit(self);
    }
}

impl<S: Simd> Visit for ActivationBlock<S> {
    type Output = ();

    #[inline(always)]
    fn visit(self, formula: impl Formula) {
        let Self { s, saved, block, size, .. } = self;
        // SAFETY: only `apply` runs this; `block` and `saved` are accessible in the given size.
        unsafe {
            match saved {
                None => map(s, ActivationValue(formula), [block], block, size),
                Some(saved) => map(s, ActivationGradient(formula), [saved, block], block, size),
            }
        }
    }
}

// `tests/kernels/rows.rs` covers every formula and gradient, `tests/kernels/dense.rs` the epilogue.
