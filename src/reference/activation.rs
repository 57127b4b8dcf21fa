//! Activations.

use super::{exp_m1_of_nonpositive, gelu, gelu_slope, map, sigmoid, silu, silu_slope, softplus, tanh};
use crate::activation;
use crate::error::Result;
use crate::kernels::activation::Activation;
use crate::matrix::{MatMut, MatRef};

/// y = f(x): see [`activation::forward`].
///
/// # Errors
/// As there.
pub fn activation_forward(activation: Activation, x: MatRef<'_>, mut y: MatMut<'_>) -> Result<()> {
    activation::check_same(&[("x", x)], ("y", &y))?;
    activation.check()?;
    map([x], &mut y, |[x]| value(activation, x));
    Ok(())
}

/// dx = f'(x) dy: see [`activation::backward`].
///
/// # Errors
/// As there.
pub fn activation_backward(
    activation: Activation,
    saved: MatRef<'_>,
    dy: MatRef<'_>,
    mut dx: MatMut<'_>,
) -> Result<()> {
    activation::check_same(&[("saved", saved), ("dy", dy)], ("dx", &dx))?;
    activation.check()?;
    map([saved, dy], &mut dx, |[saved, dy]| gradient(activation, saved, dy));
    Ok(())
}

/// f(x).
pub(super) fn value(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Linear => x,
        Activation::Relu => if_below_0(x, 0.0, x),
        Activation::LeakyRelu { slope } => if_below_0(x, x * slope, x),
        Activation::Elu { alpha } => if_below_0(x, exp_m1_of_nonpositive(x) * alpha, x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => tanh(x),
        Activation::Softplus => softplus(x),
        Activation::Silu => silu(x),
        Activation::Gelu => gelu(x),
    }
}

/// f'(x) dy, where `saved` is x or f(x).
pub(super) fn gradient(activation: Activation, saved: f32, dy: f32) -> f32 {
    let above_0 = saved > 0.0;
    match activation {
        Activation::Linear => dy,
        Activation::Relu => {
            if above_0 {
                dy
            } else {
                0.0
            }
        }
        Activation::LeakyRelu { slope } => {
            if above_0 {
                dy
            } else {
                dy * slope
            }
        }
        Activation::Elu { alpha } => {
            if above_0 {
                dy
            } else {
                dy * (saved + alpha)
            }
        }
        Activation::Sigmoid => dy * (saved * (1.0 - saved)),
        Activation::Tanh => dy * (-saved).mul_add(saved, 1.0),
        Activation::Softplus => {
            let minus = 0.0 - saved;
            dy * (0.0 - exp_m1_of_nonpositive(if 0.0 < minus { 0.0 } else { minus }))
        }
        Activation::Silu => dy * silu_slope(saved),
        Activation::Gelu => dy * gelu_slope(saved),
    }
}

fn if_below_0(x: f32, below: f32, else_value: f32) -> f32 {
    if x < 0.0 { below } else { else_value }
}
