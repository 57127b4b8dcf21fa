//! Compares activations and cross-entropy on every instruction set with the reference, bit for bit.
#![no_main]

use densely::loss::CrossEntropy;
use densely::{Backend, MatMut, MatRef, Targets, activation, reference};
use densely_fuzz::{Matrix, activation as any_activation, assert_same, backends};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

type One = fn(&Backend, MatRef<'_>, MatMut<'_>) -> densely::Result<()>;
type OneTrue = fn(MatRef<'_>, MatMut<'_>) -> densely::Result<()>;
type Two = fn(&Backend, MatRef<'_>, MatRef<'_>, MatMut<'_>) -> densely::Result<()>;
type TwoTrue = fn(MatRef<'_>, MatRef<'_>, MatMut<'_>) -> densely::Result<()>;

const ONE: [(One, OneTrue); 2] =
    [(activation::softmax, reference::softmax), (activation::log_softmax, reference::log_softmax)];
const TWO: [(Two, TwoTrue); 2] = [
    (activation::softmax_backward, reference::softmax_backward),
    (activation::log_softmax_backward, reference::log_softmax_backward),
];

fuzz_target!(|data: &[u8]| {
    // An input too short for the sizes is no test case.
    let _ = check(&mut Unstructured::new(data));
});

fn check(u: &mut Unstructured<'_>) -> Result<()> {
    // Long rows are summed in pieces.
    let (rows, cols) = match u.ratio(1, 16)? {
        true => (u.int_in_range(0..=2)?, u.int_in_range(1..=10_000)?),
        false => (u.int_in_range(0..=40)?, u.int_in_range(1..=130)?),
    };
    let backends = backends(u)?;
    let function = any_activation(u)?;
    let output = Matrix::empty(u, rows, cols)?;
    let labels: Vec<u8> = (0..rows).map(|_| u.int_in_range(0..=(cols - 1).min(255) as u8)).collect::<Result<_>>()?;
    let (x, dy) = (Matrix::arbitrary(u, rows, cols)?, Matrix::arbitrary(u, rows, cols)?);
    let weights: Vec<f32> = (0..cols).map(|_| Ok(f32::from(u.arbitrary::<u8>()?) / 32.0)).collect::<Result<_>>()?;
    let mut options = CrossEntropy::new().label_smoothing(f32::from(u.arbitrary::<u8>()?) / 255.0);
    if u.arbitrary()? {
        options = options.class_weights(&weights);
    }
    if u.arbitrary()? {
        options = options.ignored_label(usize::from(u.arbitrary::<u8>()?));
    }
    for backend in backends {
        let same = |kernel: &dyn Fn(MatMut<'_>), expected: &dyn Fn(MatMut<'_>)| {
            let (mut found, mut truth) = (output.clone(), output.clone());
            kernel(found.view_mut());
            expected(truth.view_mut());
            found.assert_same(&truth, backend.isa());
        };
        for (kernel, truth) in ONE {
            same(&|y| kernel(&backend, x.view(), y).expect("shapes fit"), &|y| truth(x.view(), y).expect("shapes fit"));
        }
        for (kernel, truth) in TWO {
            same(&|dx| kernel(&backend, x.view(), dy.view(), dx).expect("shapes fit"), &|dx| {
                truth(x.view(), dy.view(), dx).expect("shapes fit");
            });
        }
        same(&|y| activation::forward(&backend, function, x.view(), y).expect("shapes fit"), &|y| {
            reference::activation_forward(function, x.view(), y).expect("shapes fit");
        });
        same(&|dx| activation::backward(&backend, function, x.view(), dy.view(), dx).expect("shapes fit"), &|dx| {
            reference::activation_backward(function, x.view(), dy.view(), dx).expect("shapes fit");
        });
        for targets in [Targets::from(&labels), dy.view().into()] {
            let (mut found, mut truth) = (output.clone(), output.clone());
            let (mut losses, mut true_losses) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
            let loss = options.forward_backward(&backend, x.view(), targets, Some(&mut losses), found.view_mut());
            let to = Some(truth.view_mut());
            let true_loss = reference::cross_entropy(&options, x.view(), targets, Some(&mut true_losses), to);
            match (loss, true_loss) {
                (Ok(loss), Ok(true_loss)) => assert_same(&[loss], &[true_loss], backend.isa()),
                (loss, true_loss) => assert!(rows == 0 && loss.is_err() && true_loss.is_err()),
            }
            assert_same(&losses, &true_losses, backend.isa());
            found.assert_same(&truth, backend.isa());
        }
    }
    Ok(())
}
