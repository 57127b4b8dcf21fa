//! Where and when dropouts drop.

use crate::backend::Backend;
use crate::kernels::Input;
use crate::kernels::dropout::{self, Mask, Philox};
use crate::matrix::MatMut;
use crate::nn::layers::Dropout;
use crate::tuning::cost;

/// A dropout, and which of the model's it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbered {
    pub(crate) dropout: Dropout,
    pub(crate) number: u32,
}

/// What a step drops, in some rows of its batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Masks {
    /// The model's.
    pub(crate) seed: u64,
    /// How many steps were done before.
    pub(crate) step: u64,
    /// The first row's number.
    pub(crate) row: usize,
}

impl Masks {
    /// Writes to `y` what dropouts that follow each other leave of `x`.
    pub(crate) fn run(self, backend: &Backend, dropouts: &[Numbered], mut x: Input<'_>, mut y: MatMut<'_>) {
        let Self { seed, step, row } = self;
        let cost = cost::dropout(y.rows().saturating_mul(y.cols()));
        for &Numbered { dropout, number } in dropouts {
            let (threshold, scale) = dropout.threshold_and_scale();
            let (random, mask) = (Philox::new(seed, number, step), Mask { threshold, scale });
            let kernel = dropout::Dropout { random, first_row: row, mask, x, y: y.reborrow() };
            backend.run(cost, 1, kernel);
            x = Input::InPlace;
        }
    }
}
