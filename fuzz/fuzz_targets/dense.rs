//! Compares dense forward and backward passes with the reference, bit for bit, on every instruction set.
#![no_main]

use densely::{Backend, PackedWeights, dense, reference};
use densely_fuzz::{Values, any_activation, any_backends, any_matrix, any_output};
use densely_testkit::{Matrix, assert_same_bits};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Inputs of too few bytes make no case.
    let _ = check(&mut Unstructured::new(data));
});

/// Draws batch, inputs and outputs, at most one of them longer than a block.
fn any_sizes(u: &mut Unstructured<'_>) -> Result<[usize; 3]> {
    let mut sizes = [u.int_in_range(0..=40)?, u.int_in_range(0..=70)?, u.int_in_range(0..=70)?];
    if let Some(long) = sizes.get_mut(u.int_in_range(0..=15usize)?) {
        *long = u.int_in_range(0..=1200)?;
    }
    Ok(sizes)
}

/// What a layer's operations write.
#[derive(Clone)]
struct Outputs {
    y: Matrix,
    dx: Matrix,
    dw: Matrix,
    db: Vec<f32>,
}

fn assert_same(found: &Matrix, expected: &Matrix, name: &str, backend: &Backend) {
    let what = format!("{name} on {}", backend.isa());
    found.assert_same_bits(expected, &what);
    found.assert_gaps_untouched(&what);
}

fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let [batch, inputs, outputs] = any_sizes(u)?;
    let backends = any_backends(u)?;
    let gated = u.arbitrary::<bool>()?;
    let activation = any_activation(u)?;
    let (y, dx, dw) =
        (any_output(u, [batch, outputs])?, any_output(u, [batch, inputs])?, any_output(u, [inputs, outputs])?);
    let x = any_matrix(u, [batch, inputs])?;
    let w = any_matrix(u, [inputs, outputs])?;
    let dy = any_matrix(u, [batch, outputs])?;
    let bias = Values::any(u)?.take(u, outputs);
    let packed = PackedWeights::new(w.view());
    let (x, w, dy) = (x.view(), w.view(), dy.view());
    let gate = gated.then_some((activation, x));

    let unwritten = Outputs { y, dx, dw, db: vec![f32::NAN; outputs] };
    let mut expected = unwritten.clone();
    let Outputs { y, dx, dw, db } = &mut expected;
    reference::dense_forward(x, w, Some(&bias), activation, y.view_mut()).expect("shapes fit");
    reference::dense_backward_input(dy, w, gate, dx.view_mut()).expect("shapes fit");
    reference::dense_backward_params(x, dy, dw.view_mut(), Some(db)).expect("shapes fit");

    for backend in &backends {
        let Outputs { mut y, mut dx, mut dw, mut db } = unwritten.clone();
        dense::forward(backend, x, w, Some(&bias), activation, y.view_mut()).expect("shapes fit");
        dense::backward_input(backend, dy, w, gate, dx.view_mut()).expect("shapes fit");
        dense::backward_params(backend, x, dy, dw.view_mut(), Some(&mut db)).expect("shapes fit");
        assert_same(&y, &expected.y, "y", backend);
        assert_same(&dx, &expected.dx, "dx", backend);
        assert_same(&dw, &expected.dw, "dw", backend);
        assert_same_bits(&db, &expected.db, backend.isa().name());
        let mut y = unwritten.y.clone();
        dense::forward(backend, x, &packed, Some(&bias), activation, y.view_mut()).expect("shapes fit");
        assert_same(&y, &expected.y, "y of packed weights", backend);
    }
    Ok(())
}
