//! Puts special values at every position of rows of every length, on one thread.

use densely::loss::{self, CrossEntropy};
use densely::{Activation, MatMut, MatRef, Result, activation, dense, reference};
use densely_testkit::values::SPECIAL;
use densely_testkit::{Layout, Matrix, Random, activations, assert_identical, check_kernel_serially, serial_backends};

/// Every length with one of the values in turn; short rows, and lengths around the edges of vectors, where
/// lanes are masked off, with all of them.
fn lengths_and_values() -> impl Iterator<Item = (usize, f32)> {
    (1..=130usize).flat_map(|len| {
        let turns = if len <= 33 || matches!(len % 16, 15 | 0 | 1) { 1 } else { SPECIAL.len() };
        SPECIAL.into_iter().skip(len % turns).step_by(turns).map(move |value| (len, value))
    })
}

/// For each position a row of normal values with the special value there.
fn one_at_each_position(len: usize, special: f32) -> Matrix {
    let mut random = Random::new(len as u64);
    Matrix::from_fn([len, len], Layout::Padded, |row, col| if row == col { special } else { random.normal() })
}

/// For each pair of special values a row in which they alternate.
fn pairs(len: usize) -> Matrix {
    let kinds = SPECIAL.len();
    Matrix::from_fn([kinds * kinds, len], Layout::Padded, |row, col| {
        SPECIAL[if col % 2 == 0 { row / kinds } else { row % kinds }]
    })
}

fn inputs() -> impl Iterator<Item = Matrix> {
    let single = lengths_and_values().map(|(len, special)| one_at_each_position(len, special));
    single.chain([1, 2, 3, 15, 16, 17, 33].map(pairs))
}

#[test]
fn activations_match_reference_at_special_values() {
    let any = |_: &[Matrix; 1], _: &[Matrix; 1]| ();
    for function in activations() {
        for x in inputs().filter(|x| x.shape()[1] <= 33) {
            let y = || [Matrix::unwritten(x.shape(), Layout::Padded)];
            check_kernel_serially(
                y(),
                |[y]| reference::activation_forward(function, x.view(), y.view_mut()).unwrap(),
                |backend, [y]| activation::forward(backend, function, x.view(), y.view_mut()).unwrap(),
                &any,
            );
            check_kernel_serially(
                y(),
                |[y]| reference::activation_backward(function, x.view(), x.view(), y.view_mut()).unwrap(),
                |backend, [y]| activation::backward(backend, function, x.view(), x.view(), y.view_mut()).unwrap(),
                &any,
            );
        }
    }
}

#[test]
fn softmax_matches_reference_at_special_values() {
    for x in inputs() {
        check_kernel_serially(
            [Matrix::unwritten(x.shape(), Layout::Padded)],
            |[y]| reference::softmax(x.view(), y.view_mut()).unwrap(),
            |backend, [y]| activation::softmax(backend, x.view(), y.view_mut()).unwrap(),
            &|[y], [expected]| y.assert_close(expected, |_, _| f32::MIN_POSITIVE),
        );
    }
}

#[test]
fn log_softmax_matches_reference_at_special_values() {
    for x in inputs() {
        check_kernel_serially(
            [Matrix::unwritten(x.shape(), Layout::Padded)],
            |[y]| reference::log_softmax(x.view(), y.view_mut()).unwrap(),
            |backend, [y]| activation::log_softmax(backend, x.view(), y.view_mut()).unwrap(),
            &|[y], [expected]| y.assert_close(expected, |_, _| 1.0),
        );
    }
}

/// The label is at the special value, then beside it.
#[test]
fn cross_entropy_matches_reference_at_special_values() {
    for x in inputs() {
        let [batch, classes] = x.shape();
        for shift in 0..2 {
            let labels: Vec<usize> = (0..batch).map(|row| (row + shift) % classes).collect();
            check_kernel_serially(
                [Matrix::unwritten(x.shape(), Layout::Padded), Matrix::unwritten([1, 1], Layout::RowMajor)],
                |[dx, loss]| {
                    loss.slice_mut()[0] =
                        reference::cross_entropy(&CrossEntropy::new(), x.view(), &labels, None, Some(dx.view_mut()))
                            .unwrap();
                },
                |backend, [dx, loss]| {
                    loss.slice_mut()[0] = loss::cross_entropy(backend, x.view(), &labels, dx.view_mut()).unwrap();
                },
                &|[dx, loss], [expected_dx, expected_loss]| {
                    dx.assert_close(expected_dx, |_, _| 1.0 / batch as f32);
                    loss.assert_close(expected_loss, |_, _| 1.0);
                },
            );
        }
    }
}

fn check_forward(x: &Matrix, w: &Matrix) {
    let (x, w) = (x.view(), w.view());
    check_kernel_serially(
        [Matrix::unwritten([x.rows(), w.cols()], Layout::Padded)],
        |[y]| reference::dense_forward(x, w, None, Activation::Linear, y.view_mut()).unwrap(),
        |backend, [y]| dense::forward(backend, x, w, None, Activation::Linear, y.view_mut()).unwrap(),
        &|[y], _| y.assert_product(x, w, None),
    );
}

#[test]
fn forward_matches_reference_at_special_inputs() {
    for (len, special) in lengths_and_values() {
        let mut random = Random::new(7);
        let w = Matrix::from_fn([len, 3], Layout::Padded, |_, _| random.normal());
        // All positions as one batch, and three as batches of one.
        let x = one_at_each_position(len, special);
        check_forward(&x, &w);
        for position in [0, len / 2, len - 1] {
            check_forward(&Matrix::from_fn([1, len], Layout::Padded, |_, col| x.at(position, col)), &w);
        }
    }
}

#[test]
fn forward_matches_reference_at_special_weights() {
    for (len, special) in lengths_and_values() {
        let mut random = Random::new(7);
        let x = Matrix::from_fn([1, len], Layout::Padded, |_, _| random.normal());
        check_forward(&x, &one_at_each_position(len, special));
    }
}

type RowOperation = fn(&densely::Backend, MatRef<'_>, MatMut<'_>) -> Result<()>;

/// The output of one row on each instruction set.
fn outputs(operation: RowOperation, x: &[f32]) -> impl Iterator<Item = Vec<f32>> {
    serial_backends().into_iter().map(move |backend| {
        let mut y = vec![0.0; x.len()];
        let x = MatRef::new(x, 1, x.len()).unwrap();
        operation(&backend, x, MatMut::new(&mut y, 1, x.cols()).unwrap()).unwrap();
        y
    })
}

// What the documentation says of special values, independent of the reference.

#[test]
fn relu_keeps_nan_and_negative_zero() {
    let relu = |backend: &_, x: MatRef<'_>, y: MatMut<'_>| activation::forward(backend, Activation::Relu, x, y);
    for y in outputs(relu, &[f32::NAN, -0.0, -1.0, f32::NEG_INFINITY, f32::INFINITY]) {
        assert!(y[0].is_nan());
        assert_eq!(y[1..].iter().map(|y| y.to_bits()).collect::<Vec<_>>(), [0x8000_0000, 0, 0, 0x7f80_0000]);
    }
}

/// Every activation at NaN, the infinities and the zeros, as documented.
#[test]
fn activations_have_documented_limits() {
    let x = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -0.0, 0.0];
    let ends = |function: Activation| match function {
        Activation::Linear => [f32::NEG_INFINITY, f32::INFINITY, -0.0, 0.0],
        Activation::LeakyRelu { .. } => [f32::NEG_INFINITY, f32::INFINITY, -0.0, 0.0],
        Activation::Relu => [0.0, f32::INFINITY, -0.0, 0.0],
        Activation::Elu { alpha } => [-alpha, f32::INFINITY, -0.0, 0.0],
        Activation::Sigmoid => [0.0, 1.0, 0.5, 0.5],
        Activation::Tanh => [-1.0, 1.0, -0.0, 0.0],
        Activation::Softplus => [0.0, f32::INFINITY, 2f32.ln(), 2f32.ln()],
        Activation::Silu | Activation::Gelu => [-0.0, f32::INFINITY, -0.0, 0.0],
        other => panic!("nothing is said of {other:?}"),
    };
    for function in activations() {
        for backend in serial_backends() {
            let mut y = [7.0; 5];
            let (input, output) = (MatRef::new(&x, 1, 5).unwrap(), MatMut::new(&mut y, 1, 5).unwrap());
            activation::forward(&backend, function, input, output).unwrap();
            assert!(y[0].is_nan(), "{function:?} of NaN");
            let (y, ends) = (y[1..].iter().map(|y| y.to_bits()), ends(function).map(f32::to_bits));
            assert_eq!(y.collect::<Vec<_>>(), ends, "{function:?} on {}", backend.isa());

            // The slopes there are finite, whatever is saved for backward.
            let outputs = [&[f32::NAN], &ends.map(f32::from_bits)[..]].concat();
            let saved = if function.saves_input() { x.to_vec() } else { outputs };
            let mut dx = [7.0; 5];
            let dy = [1.0; 5];
            let [saved, dy] = [&saved[..], &dy].map(|row| MatRef::new(row, 1, 5).unwrap());
            activation::backward(&backend, function, saved, dy, MatMut::new(&mut dx, 1, 5).unwrap()).unwrap();
            let at_minus_infinity = match function {
                Activation::Linear => 1.0,
                Activation::LeakyRelu { slope } => slope,
                _ => 0.0,
            };
            let at_infinity = if matches!(function, Activation::Sigmoid | Activation::Tanh) { 0.0 } else { 1.0 };
            assert_eq!(dx[1..3], [at_minus_infinity, at_infinity], "{function:?}' on {}", backend.isa());
        }
    }
}

#[test]
fn rows_without_a_distribution_become_nan() {
    let nan = [1.0, f32::NAN, 2.0];
    let infinite = [1.0, f32::INFINITY, f32::NEG_INFINITY, 2.0];
    let nowhere = [f32::NEG_INFINITY; 20];
    for operation in [activation::softmax, activation::log_softmax] {
        for x in [&nan[..], &infinite, &nowhere] {
            for y in outputs(operation, x) {
                assert!(y.iter().all(|y| y.is_nan()), "{x:?} gave {y:?}");
            }
        }
    }
}

/// Long rows are split into pieces: one of -inf alone adds 0; one with NaN or +inf makes the whole row NaN.
#[test]
fn split_rows_with_special_values_have_documented_results() {
    for (special, is_nan) in [(f32::NEG_INFINITY, false), (f32::NAN, true), (f32::INFINITY, true)] {
        for masked in 0..3 {
            let piece = masked * densely::ROW_PIECE..(masked + 1) * densely::ROW_PIECE;
            let x: Vec<f32> = (0..3 * densely::ROW_PIECE)
                .map(|col| if piece.contains(&col) { special } else { (col % 7) as f32 })
                .collect();
            for y in outputs(activation::softmax, &x) {
                let sum: f64 = y.iter().map(|&y| f64::from(y)).sum();
                assert!(if is_nan { y.iter().all(|y| y.is_nan()) } else { (sum - 1.0).abs() < 1e-5 }, "sum {sum}");
            }
            for y in outputs(activation::log_softmax, &x) {
                assert!(y.iter().all(|y| y.is_nan()) == is_nan);
                assert!(is_nan || y[piece.clone()].iter().all(|&y| y == f32::NEG_INFINITY));
            }
        }
    }
}

#[test]
fn log_softmax_gradient_is_dy_where_dy_sums_to_zero() {
    for (rows, len) in [1, 40].into_iter().flat_map(|rows| [3, 15, 19, 71, 1503].map(|len| (rows, len))) {
        // Zeros of either sign keep it.
        let row = [1.0, -0.0, -1.0, 0.0].into_iter().cycle().take(len);
        let dy: Vec<f32> = (0..rows).flat_map(|_| row.clone()).collect();
        let y = vec![-1.0; dy.len()];
        let [y, dy] = [&y, &dy].map(|values| MatRef::new(values, rows, len).unwrap());
        for backend in serial_backends() {
            let mut dx = vec![f32::NAN; rows * len];
            activation::log_softmax_backward(&backend, y, dy, MatMut::new(&mut dx, rows, len).unwrap()).unwrap();
            assert_identical(&dx, &dy.to_vec(), &format!("{rows} x {len} on {backend:?}"));
        }
    }
}

#[test]
fn impossible_classes_have_probability_zero() {
    let x = [f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY];
    for y in outputs(activation::softmax, &x) {
        assert_eq!(y, [0.0, 1.0, 0.0]);
    }
    for y in outputs(activation::log_softmax, &x) {
        assert_eq!(y, [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY]);
    }
    for backend in serial_backends() {
        let mut dx = [0.0; 3];
        let (x, dx) = (MatRef::new(&x, 1, 3).unwrap(), MatMut::new(&mut dx, 1, 3).unwrap());
        assert_eq!(loss::cross_entropy(&backend, x, &[0u8], dx).unwrap(), f32::INFINITY);
    }
}
