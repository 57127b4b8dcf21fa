//! Compares activations and cross-entropy with the reference, bit for bit, on every instruction set.
#![no_main]

use densely::loss::CrossEntropy;
use densely::{Backend, MatMut, MatRef, Targets, activation, reference};
use densely_fuzz::{any_activation, any_backends, any_matrix, any_output};
use densely_testkit::assert_same_bits;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

type Unary = fn(&Backend, MatRef<'_>, MatMut<'_>) -> densely::Result<()>;
type UnaryReference = fn(MatRef<'_>, MatMut<'_>) -> densely::Result<()>;
type Binary = fn(&Backend, MatRef<'_>, MatRef<'_>, MatMut<'_>) -> densely::Result<()>;
type BinaryReference = fn(MatRef<'_>, MatRef<'_>, MatMut<'_>) -> densely::Result<()>;

const UNARY: [(Unary, UnaryReference); 2] =
    [(activation::softmax, reference::softmax), (activation::log_softmax, reference::log_softmax)];
const BINARY: [(Binary, BinaryReference); 2] = [
    (activation::softmax_backward, reference::softmax_backward),
    (activation::log_softmax_backward, reference::log_softmax_backward),
];

fuzz_target!(|data: &[u8]| {
    // Inputs of too few bytes make no case.
    let _ = check(&mut Unstructured::new(data));
});

fn check(u: &mut Unstructured<'_>) -> Result<()> {
    // Long rows are split into pieces.
    let (rows, cols) = match u.ratio(1, 16)? {
        true => (u.int_in_range(0..=2)?, u.int_in_range(1..=10_000)?),
        false => (u.int_in_range(0..=40)?, u.int_in_range(1..=130)?),
    };
    let backends = any_backends(u)?;
    let function = any_activation(u)?;
    let output = any_output(u, [rows, cols])?;
    let labels: Vec<u8> = (0..rows).map(|_| u.int_in_range(0..=(cols - 1).min(255) as u8)).collect::<Result<_>>()?;
    let (x, dy) = (any_matrix(u, [rows, cols])?, any_matrix(u, [rows, cols])?);
    let weights: Vec<f32> = (0..cols).map(|_| Ok(f32::from(u.arbitrary::<u8>()?) / 32.0)).collect::<Result<_>>()?;
    let mut options = CrossEntropy::new().label_smoothing(f32::from(u.arbitrary::<u8>()?) / 255.0);
    if u.arbitrary()? {
        options = options.class_weights(&weights);
    }
    if u.arbitrary()? {
        options = options.ignored_label(usize::from(u.arbitrary::<u8>()?));
    }
    for backend in &backends {
        let what = backend.isa().name();
        let same = |kernel: &dyn Fn(MatMut<'_>), reference: &dyn Fn(MatMut<'_>)| {
            let (mut found, mut expected) = (output.clone(), output.clone());
            kernel(found.view_mut());
            reference(expected.view_mut());
            found.assert_same_bits(&expected, what);
            found.assert_gaps_untouched(what);
        };
        for (kernel, reference) in UNARY {
            same(&|y| kernel(backend, x.view(), y).expect("shapes fit"), &|y| {
                reference(x.view(), y).expect("shapes fit");
            });
        }
        for (kernel, reference) in BINARY {
            same(&|dx| kernel(backend, x.view(), dy.view(), dx).expect("shapes fit"), &|dx| {
                reference(x.view(), dy.view(), dx).expect("shapes fit");
            });
        }
        same(&|y| activation::forward(backend, function, x.view(), y).expect("shapes fit"), &|y| {
            reference::activation_forward(function, x.view(), y).expect("shapes fit");
        });
        same(&|dx| activation::backward(backend, function, x.view(), dy.view(), dx).expect("shapes fit"), &|dx| {
            reference::activation_backward(function, x.view(), dy.view(), dx).expect("shapes fit");
        });
        for targets in [Targets::from(&labels), dy.view().into()] {
            let (mut found, mut expected) = (output.clone(), output.clone());
            let [mut losses, mut expected_losses] = [(); 2].map(|()| vec![f32::NAN; rows]);
            let loss = options.forward_backward(backend, x.view(), targets, Some(&mut losses), found.view_mut());
            let to = Some(expected.view_mut());
            let expected_loss = reference::cross_entropy(&options, x.view(), targets, Some(&mut expected_losses), to);
            match (loss, expected_loss) {
                (Ok(loss), Ok(expected_loss)) => assert_same_bits(&[loss], &[expected_loss], what),
                (loss, expected_loss) => assert!(rows == 0 && loss.is_err() && expected_loss.is_err()),
            }
            assert_same_bits(&losses, &expected_losses, what);
            found.assert_same_bits(&expected, what);
            found.assert_gaps_untouched(what);
        }
    }
    Ok(())
}
