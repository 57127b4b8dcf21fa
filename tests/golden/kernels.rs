//! Of every operation of level 1.

use densely::loss::CrossEntropy;
use densely::{Activation, Backend, MatMut, MatRef, PackedWeights, ROW_PIECE, activation, dense};

use crate::common::operations::run_all;
use crate::common::{ACTIVATIONS, Layout, Matrix, Values, exactly};
use crate::{Golden, assert_golden, digest, exact};

const GOLDEN: [Golden; 0] = [];

fn written<R>(
    name: String,
    shape: [usize; 2],
    run: impl FnOnce(MatMut<'_>) -> densely::Result<R>,
) -> ((String, String), R) {
    let mut output = Matrix::unwritten(shape, Layout::RowMajor);
    let result = run(output.view_mut()).unwrap();
    ((name, digest(output.slice().iter().copied())), result)
}

/// Every activation and its gradient, on values of all magnitudes and on any bits.
fn activations(backend: &Backend) -> Vec<(String, String)> {
    let shape = [67, 131];
    let inputs = [Values::Wide, Values::AnyBits].map(|values| Matrix::new(shape, Layout::RowMajor, values, 6));
    let dy = Matrix::new(shape, Layout::RowMajor, Values::Normal, 7);
    let of = |function: Activation, x: MatRef<'_>, kind: &str| {
        let forward = |y| activation::forward(backend, function, x, y);
        let backward = |dx| activation::backward(backend, function, x, dy.view(), dx);
        [
            written(format!("{function:?} of {kind}"), shape, forward).0,
            written(format!("gradient of {function:?} at {kind}"), shape, backward).0,
        ]
    };
    let all = |function| {
        let [wide, any] = &inputs;
        [of(function, wide.view(), "wide values"), of(function, any.view(), "any bits")].concat()
    };
    ACTIVATIONS.into_iter().flat_map(all).collect()
}

/// Rows that are added up in pieces.
fn long_rows(backend: &Backend) -> Vec<(String, String)> {
    let shape = [3, 5 * ROW_PIECE + 77];
    let x = Matrix::new(shape, Layout::RowMajor, Values::Wide, 8);
    let labels = [0u32, 4096, 20_000];
    let (dlogits, loss) = written("cross_entropy of long rows".to_owned(), shape, |dlogits| {
        CrossEntropy::new().forward_backward(backend, x.view(), &labels, None, dlogits)
    });
    let softmax = written("softmax of long rows".to_owned(), shape, |y| activation::softmax(backend, x.view(), y)).0;
    let log_softmax =
        written("log_softmax of long rows".to_owned(), shape, |y| activation::log_softmax(backend, x.view(), y)).0;
    vec![softmax, log_softmax, dlogits, ("loss of long rows".to_owned(), digest([loss]))]
}

/// A layer of packed weights.
fn packed(backend: &Backend) -> (String, String) {
    let matrix = |shape, seed| Matrix::new(shape, Layout::Padded, Values::Normal, seed);
    let (x, w) = (matrix([77, 300], 9), PackedWeights::new(matrix([300, 150], 10).view()));
    let run = |y| dense::forward(backend, x.view(), &w, None, Activation::Gelu, y);
    written("forward with packed weights".to_owned(), [77, 150], run).0
}

fn all(backend: &Backend) -> Vec<(String, String)> {
    let level_1 = run_all(backend).into_iter();
    let level_1 = level_1.map(|(name, bits)| (name, digest(bits.into_iter().map(f32::from_bits))));
    level_1.chain(activations(backend)).chain(long_rows(backend)).chain([packed(backend)]).collect()
}

#[test]
fn kernels_write_the_golden_bits() {
    for backend in exact() {
        for threads in [1, 2, 7] {
            let backend = backend.with_threads(exactly(threads));
            assert_golden(&all(&backend), &GOLDEN, &format!("{backend:?}"));
        }
    }
}
