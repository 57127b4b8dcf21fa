//! Updates of weights, one update rule a function.

use crate::contract::MIN_MOMENT;
use crate::error::{Error, Result};
use crate::nn::optimizers::adam::Adam;
use crate::nn::optimizers::optimizer::{Optimizer, Rule};
use crate::nn::optimizers::sgd::Sgd;

/// Updates the weights `w` by their gradients `dw` in step `t`, from 1 on, decay and schedule included.
///
/// See [`nn::Optimizer`](crate::nn::Optimizer); [`add_l2`](super::add_l2) and [`clip`](super::clip) come
/// before. `m` and `v` are the optimizer's state, zeros before the first step: momentum or first moment, and
/// second moment. SGD leaves `v` alone, without momentum `m` too. The four slices have one length.
///
/// # Errors
/// [`Error::Shape`] if the lengths differ, [`Error::Value`] if `t` is 0 or a hyperparameter is out of range;
/// nothing is written then.
pub fn update(
    optimizer: impl Into<Optimizer>,
    t: u32,
    w: &mut [f32],
    dw: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) -> Result<()> {
    let optimizer = optimizer.into();
    optimizer.check()?;
    for (argument, len) in [("dw", dw.len()), ("m", m.len()), ("v", v.len())] {
        if len != w.len() {
            return Err(Error::shape(argument, format_args!("{} elements", w.len()), len));
        }
    }
    if t == 0 {
        return Err(Error::value("t", "at least 1", 0));
    }
    let learning_rate = optimizer.rate() * optimizer.schedule.factor(u64::from(t) - 1);
    if let Some(decay) = optimizer.decay(learning_rate) {
        w.iter_mut().for_each(|w| *w = w.mul_add(-decay, *w));
    }
    match optimizer.rule {
        Rule::Sgd(rule) => sgd(rule, learning_rate, w, dw, m),
        Rule::Adam(rule) => adam(rule, learning_rate, t, w, dw, [m, v]),
    }
    Ok(())
}

fn sgd(sgd: Sgd, learning_rate: f64, w: &mut [f32], dw: &[f32], m: &mut [f32]) {
    let (rate, momentum) = (learning_rate as f32, sgd.momentum as f32);
    for ((w, &dw), m) in w.iter_mut().zip(dw).zip(m) {
        if sgd.momentum == 0.0 {
            *w = dw.mul_add(-rate, *w);
        } else {
            let change = dw * -rate;
            *m = flush(m.mul_add(momentum, change));
            *w += if sgd.nesterov { m.mul_add(momentum, change) } else { *m };
        }
    }
}

fn adam(adam: Adam, learning_rate: f64, t: u32, w: &mut [f32], dw: &[f32], [m, v]: [&mut [f32]; 2]) {
    // The last bit of `powi` may differ between machines.
    let power = |beta: f64| (0..t).fold(1.0, |power, _| power * beta);
    let alpha = (learning_rate * (1.0 - power(adam.beta_2)).sqrt() / (1.0 - power(adam.beta_1))) as f32;
    let (rate_1, rate_2) = ((1.0 - adam.beta_1) as f32, (1.0 - adam.beta_2) as f32);
    for ((w, &dw), (m, v)) in w.iter_mut().zip(dw).zip(m.iter_mut().zip(v)) {
        *m = flush((dw - *m).mul_add(rate_1, *m));
        *v = flush((dw * dw - *v).mul_add(rate_2, *v));
        *w -= *m * alpha / (v.sqrt() + adam.epsilon as f32);
    }
}

/// Sets a moment below 2^-100 to 0.
fn flush(moment: f32) -> f32 {
    if moment.abs() < MIN_MOMENT { 0.0 } else { moment }
}
