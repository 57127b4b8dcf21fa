//! What layers apply to each element, and how gradients go back through it.
//!
//! [`Activation`] names the functions, a [`Formula`] is each one's vector code. Products apply them
//! to what they have just written ([`finish`]); on their own they are element-wise kernels.

use std::fmt;
use std::str::FromStr;

use super::elementwise::{Elementwise, map};
use crate::error::{Error, Result};
use crate::math;
use crate::matrix::MatPtr;
use crate::simd::{Simd, SimdOp};

/// A function that is applied to each element.
///
/// | | f(x) | f'(x) | the way back needs | cost |
/// |---|---|---|---|---|
/// | `Linear` | x | 1 | nothing | 0.8 |
/// | `Relu` | 0 where x < 0, else x | 1 where x > 0, else 0 | the output y | 1 |
/// | `LeakyRelu` | slope x where x < 0, else x | 1 where x > 0, else slope | y | 0.8 |
/// | `Elu` | alpha (exp(x) - 1) where x < 0, else x | 1 where x > 0, else y + alpha | y | 2.5 |
/// | `Sigmoid` | 1 / (1 + exp(-x)) | y (1 - y) | y | 6.6 |
/// | `Tanh` | tanh(x) | 1 - y² | y | 6.1 |
/// | `Softplus` | ln(1 + exp(x)) | 1 - exp(-y) | y | 8.8 |
/// | `Silu` | x s with s = sigmoid(x) | s (1 + x (1 - s)) | the input x | 6.8 |
/// | `Gelu` | x g with g = sigmoid(u), u = 2 √(2/π) (x + 0.044715 x³) | g + x g (1 - g) u' | x | 10 |
///
/// The cost is the time relative to ReLU's of 128 x 512 elements in the L2 cache with AVX2, from
/// `benches/record/2026-11-26-peers-rows-2-threads-avx2.txt`, where they are in a dense layer and in memory as well.
///
/// Each can be had by its name in Keras, with Keras' parameters, but GELU is always the approximate form:
///
/// ```
/// use densely::Activation;
/// assert_eq!("leaky_relu".parse::<Activation>()?, Activation::LeakyRelu { slope: 0.2 });
/// assert_eq!(Activation::Elu { alpha: 0.5 }.name(), "elu");
/// assert!("maxout".parse::<Activation>().is_err());
/// # Ok::<(), densely::Error>(())
/// ```
///
/// NaN stays NaN everywhere, and -0 stays -0 but for `Sigmoid` and `Softplus`. At -inf, `Silu` and
/// `Gelu` are -0, the value that they tend to. Error bounds are in [`math`](crate::math).
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// Nothing.
    #[default]
    Linear,
    /// `0` where the value is below 0, else the value.
    Relu,
    /// ReLU with a slope below 0, so that no unit is without a gradient (Maas, Hannun and Ng,
    /// "Rectifier nonlinearities improve neural network acoustic models", 2013).
    LeakyRelu {
        /// BMatPtr of values below 0: finite, at least 0. Keras' `leaky_relu` has 0.2, PyTorch 0.01.
        slope: f32,
    },
    /// The exponential linear unit (Clevert, Unterthiner and Hochreiter, 2015).
    Elu {
        /// Minus the value at -inf: finite, at least 0. Keras and PyTorch have 1.
        alpha: f32,
    },
    /// The logistic function.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// A smooth ReLU, whose derivative is the sigmoid.
    Softplus,
    /// The sigmoid linear unit, also called swish.
    Silu,
    /// The Gaussian error linear unit, in the form without the error function, by way of tanh
    /// (Hendrycks and Gimpel, 2016): `gelu(approximate=True)` of Keras, `"tanh"` of PyTorch. By default, both have the
    /// other form.
    Gelu,
}

/// The name alone, without parameters.
impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Activation {
    type Err = Error;

    /// Reads a name; parameters are those of [`ALL`](Self::ALL).
    ///
    /// # Errors
    /// [`Error::Value`] if the name is unknown.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|activation| activation.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|activation| activation.name()).collect();
            Error::value("activation", format_args!("one of {}", names.join(", ")), format_args!("`{name}`"))
        })
    }
}

/// The vector code of an [`Activation`]. Everything must be `#[inline(always)]`.
pub(crate) trait Formula: Copy + Send {
    /// f(x).
    fn value<S: Simd>(self, s: S, x: S::F32) -> S::F32;
    /// f'(x) dy; `kept` is x or f(x), whichever the activation keeps.
    fn gradient<S: Simd>(self, s: S, kept: S::F32, dy: S::F32) -> S::F32;
}

/// What is done with the [`Formula`] of an [`Activation`].
pub(crate) trait Visit {
    type Output;
    fn visit(self, formula: impl Formula) -> Self::Output;
}

impl Activation {
    /// All activations, with Keras' parameters.
    pub const ALL: &'static [Self] = &[
        Self::Linear,
        Self::Relu,
        Self::LeakyRelu { slope: 0.2 },
        Self::Elu { alpha: 1.0 },
        Self::Sigmoid,
        Self::Tanh,
        Self::Softplus,
        Self::Silu,
        Self::Gelu,
    ];

    /// The name in Keras.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Relu => "relu",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Elu { .. } => "elu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
        }
    }

    /// Whether the way back needs the activation's input; it needs its output otherwise.
    #[must_use]
    pub fn saves_input(self) -> bool {
        matches!(self, Self::Silu | Self::Gelu)
    }

    pub(crate) fn check(self) -> Result<()> {
        let (what, value) = match self {
            Self::LeakyRelu { slope } => ("a finite slope of at least 0", slope),
            Self::Elu { alpha } => ("a finite alpha of at least 0", alpha),
            _ => return Ok(()),
        };
        if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(Error::value("activation", what, value)) }
    }

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
pub(crate) struct Value<F>(pub F);

impl<F: Formula> Elementwise<1> for Value<F> {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [x]: [S::F32; 1]) -> S::F32 {
        self.0.value(s, x)
    }
}

/// dx = f'(x) dy; the inputs are what f keeps, and dy.
#[derive(Clone, Copy)]
pub(crate) struct Gradient<F>(pub F);

impl<F: Formula> Elementwise<2> for Gradient<F> {
    #[inline(always)]
    fn vector<S: Simd>(self, s: S, [kept, dy]: [S::F32; 2]) -> S::F32 {
        self.0.gradient(s, kept, dy)
    }
}

/// A block of finished sums, and what they become, as a function of its own.
#[derive(Clone, Copy)]
pub(crate) struct Finish<S> {
    pub s: S,
    pub activation: Activation,
    /// What the activation kept, if this is the way back.
    pub kept: Option<MatPtr>,
    pub block: MatPtr,
    pub size: [usize; 2],
}

/// Applies an activation, or its gradient, to a block in place.
///
/// # Safety
/// The block can be read and written, and what was kept be read, in the given size.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd>(finish: Finish<S>) {
    finish.s.outline(finish);
}

impl<S: Simd> SimdOp for Finish<S> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.activation.visit(self);
    }
}

impl<S: Simd> Visit for Finish<S> {
    type Output = ();

    #[inline(always)]
    fn visit(self, formula: impl Formula) {
        let Self { s, kept, block, size, .. } = self;
        // SAFETY: `finish` makes its callers give readable and writable blocks.
        unsafe {
            match kept {
                None => map(s, Value(formula), [block], block, size),
                Some(kept) => map(s, Gradient(formula), [kept, block], block, size),
            }
        }
    }
}
