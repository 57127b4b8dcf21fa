//! A batch's way through the network and back by the caller's own loss.

use crate::backend::Backend;
use crate::error::Result;
use crate::matrix::{MatMut, MatRef};
use crate::nn::layers::dropout::Masks;
use crate::nn::train::pass::{DensePlan, Pass};
use crate::nn::train::workspace::{Workspace, by_layers, even, nanoseconds, rows};
use crate::parallel::threads::Threads;
use crate::tuning::train::ROW_GRAIN;

impl Workspace {
    /// Takes a batch through the network, softmax left out, and back from the gradients by its outputs that `loss` writes:
    /// zeros at first. Only for workspaces without owners.
    pub(crate) fn through_with<T>(
        &mut self,
        backend: &Backend,
        (plan, parameters, masks): (&[DensePlan], &[f32], Masks),
        x: MatRef<'_>,
        loss: impl FnOnce(MatRef<'_>, MatMut<'_>) -> Result<T>,
    ) -> Result<T> {
        let Self { places, values, threads, .. } = self;
        let pass = Pass { plan, places, parameters, masks };
        let mut values = rows(&mut values[0], x.rows(), places.width)?;
        in_rows(backend, (plan, *threads), x, values.reborrow(), |backend, row, x, values| {
            pass.at_row(row).forward(backend, 0, x, values)
        })?;
        let (left, mut doutputs) = places.to_write_gradient(plan, plan.len() - 1, values.reborrow());
        for row in 0..doutputs.rows() {
            (0..doutputs.cols()).for_each(|col| _ = doutputs.set(row, col, 0.0));
        }
        let value = loss(places.output(plan, plan.len() - 1, left.as_ref()), doutputs)?;
        in_rows(backend, (plan, *threads), x, values, |backend, row, _, values| {
            pass.at_row(row).backward_outputs(backend, values)
        })?;
        Ok(value)
    }
}

/// Does work on the rows of a batch, from a row of this number on, shared out as [`Workspace::through`] does it.
fn in_rows(
    backend: &Backend,
    (plan, threads): (&[DensePlan], usize),
    x: MatRef<'_>,
    mut values: MatMut<'_>,
    work: impl Fn(&Backend, usize, MatRef<'_>, MatMut<'_>) -> Result<()> + Sync,
) -> Result<()> {
    if by_layers(plan, threads) {
        return work(backend, 0, x, values);
    }
    let mut x_rest = x;
    let parts = even(x.rows(), ROW_GRAIN, threads).filter(|rows| !rows.is_empty()).map(|rows| {
        let (x, rest) = x_rest.split_at_row(rows.len());
        x_rest = rest;
        (rows.start, x, values.take_rows(rows.len()))
    });
    let serial = backend.with_threads(Threads::One);
    backend.share(nanoseconds(plan, x.rows()), parts, |(row, x, values)| work(&serial, row, x, values))
}
