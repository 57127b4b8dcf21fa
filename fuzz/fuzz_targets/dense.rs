//! Compares dense forward and backward on every instruction set with the reference, bit for bit.
#![no_main]

use densely::{PackedWeights, dense, reference};
use densely_fuzz::{Matrix, Values, activation, assert_same, backends};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // An input too short for the sizes is no test case.
    let _ = check(&mut Unstructured::new(data));
});

/// Chooses batch, inputs and outputs, at most one of them longer than a block.
fn sizes(u: &mut Unstructured<'_>) -> Result<[usize; 3]> {
    let mut sizes = [u.int_in_range(0..=40)?, u.int_in_range(0..=70)?, u.int_in_range(0..=70)?];
    if let Some(long) = sizes.get_mut(u.int_in_range(0..=15usize)?) {
        *long = u.int_in_range(0..=1200)?;
    }
    Ok(sizes)
}

fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let [batch, inputs, outputs] = sizes(u)?;
    let backends = backends(u)?;
    let gated = u.arbitrary::<bool>()?;
    let activation = activation(u)?;
    let (y, dx, dw) =
        (Matrix::empty(u, batch, outputs)?, Matrix::empty(u, batch, inputs)?, Matrix::empty(u, inputs, outputs)?);
    let x = Matrix::arbitrary(u, batch, inputs)?;
    let w = Matrix::arbitrary(u, inputs, outputs)?;
    let dy = Matrix::arbitrary(u, batch, outputs)?;
    let mut values = Values::new(u)?;
    let bias: Vec<f32> = (0..outputs).map(|_| values.next(u)).collect();
    let packed = PackedWeights::new(w.view());
    let (x_view, w_view, dy_view) = (x.view(), w.view(), dy.view());
    let gate = gated.then_some((activation, x_view));

    let (mut y_true, mut dx_true, mut dw_true) = (y.clone(), dx.clone(), dw.clone());
    let mut db_true = vec![f32::NAN; outputs];
    reference::dense_forward(x_view, w_view, Some(&bias), activation, y_true.view_mut()).expect("shapes fit");
    reference::dense_backward_input(dy_view, w_view, gate, dx_true.view_mut()).expect("shapes fit");
    reference::dense_backward_params(x_view, dy_view, dw_true.view_mut(), Some(&mut db_true)).expect("shapes fit");

    for backend in backends {
        let (mut y, mut dx, mut dw) = (y.clone(), dx.clone(), dw.clone());
        let mut db = vec![f32::NAN; outputs];
        dense::forward(&backend, x_view, w_view, Some(&bias), activation, y.view_mut()).expect("shapes fit");
        dense::backward_input(&backend, dy_view, w_view, gate, dx.view_mut()).expect("shapes fit");
        dense::backward_params(&backend, x_view, dy_view, dw.view_mut(), Some(&mut db)).expect("shapes fit");
        y.assert_same(&y_true, backend.isa());
        dense::forward(&backend, x_view, &packed, Some(&bias), activation, y.view_mut()).expect("shapes fit");
        y.assert_same(&y_true, backend.isa());
        dx.assert_same(&dx_true, backend.isa());
        dw.assert_same(&dw_true, backend.isa());
        assert_same(&db, &db_true, backend.isa());
    }
    Ok(())
}
