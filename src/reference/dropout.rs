//! Dropout.

use super::map_indexed;
use crate::dense::check_shape;
use crate::error::Result;
use crate::matrix::{MatMut, MatRef};
use crate::nn::Dropout;

/// Drops values of a batch in a training step: y = 0 where the value's random word is below rate 2^32,
/// rounded down.
///
/// Elsewhere y = x times 1 / (1 - rate), rounded to `f32`. Both matrices are batch x features.
///
/// The word comes from Philox4x32 with 10 rounds, a counter-based generator. Its key is the model's `seed`,
/// lower half first. Its counter has four words: c / 64 * 16 + c mod 16 for column c, whose word of the
/// result is (c / 16) mod 4; the row; `step`, the number of steps before this one, lower half; and the
/// `number` of the dropout in the model, from 0 on, exclusive-or 2^16 times the upper half of the step. Of
/// each, the lower 32 bits.
///
/// Sources: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014),
/// scaled in training as Keras does; Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011).
///
/// # Errors
/// [`Error::Value`](crate::Error::Value) if the rate is not in 0..1, [`Error::Shape`](crate::Error::Shape) if
/// the shapes differ; `y` is untouched then.
pub fn dropout(dropout: Dropout, [seed, number, step]: [u64; 3], x: MatRef<'_>, mut y: MatMut<'_>) -> Result<()> {
    dropout.check()?;
    check_shape("y", [y.rows(), y.cols()], [x.rows(), x.cols()])?;
    let rate = dropout.rate();
    map_indexed(x, &mut y, |row, col, x| {
        let (group, word) = (col as u64 / 64 * 16 + col as u64 % 16, col / 16 % 4);
        let counter = [group, row as u64, step, (step >> 32 << 16) ^ number].map(|word| word as u32);
        let dropped = u64::from(philox(counter, seed)[word]) < (rate * 2f64.powi(32)) as u64;
        if dropped { 0.0 } else { x * (1.0 / (1.0 - rate)) as f32 }
    });
    Ok(())
}

fn philox([mut a, mut b, mut c, mut d]: [u32; 4], key: u64) -> [u32; 4] {
    let (mut low, mut high) = (key as u32, (key >> 32) as u32);
    for _ in 0..10 {
        let (p, q) = (u64::from(a) * 0xd251_1f53, u64::from(c) * 0xcd9e_8d57);
        (a, b, c, d) = ((q >> 32) as u32 ^ b ^ low, q as u32, (p >> 32) as u32 ^ d ^ high, p as u32);
        (low, high) = (low.wrapping_add(0x9e37_79b9), high.wrapping_add(0xbb67_ae85));
    }
    [a, b, c, d]
}
