//! Passes bad input of every kind: an error that names the argument, nothing written, no panic.

use densely::loss::{self, CrossEntropy};
use densely::{
    Activation, Backend, Error, Labels, MatMut, MatRef, PackedWeights, Result, Targets, Threads, activation, dense,
    flatten, reference,
};
use densely_testkit::{Layout, Matrix, exactly, serial_backends, within_a_minute};

type Shape = [usize; 2];

fn zeros(shape: Shape) -> Matrix {
    Matrix::from_fn(shape, Layout::Padded, |_, _| 0.0)
}

/// Calls an operation on every instruction set, and its reference without a backend. All must refuse and
/// leave the output untouched; gives their errors.
fn refusals<T>(output: Shape, mut call: impl FnMut(Option<&Backend>, MatMut<'_>) -> Result<T>) -> Vec<Error> {
    let backends = serial_backends().into_iter().map(Some).chain([None]);
    let refusal = |backend: Option<Backend>| {
        let mut output = Matrix::unwritten(output, Layout::Padded);
        let result = call(backend.as_ref(), output.view_mut());
        output.assert_untouched();
        result.err().unwrap_or_else(|| panic!("accepted on {backend:?}"))
    };
    backends.map(refusal).collect()
}

/// The argument that an error is about.
fn argument(error: &Error) -> &str {
    match error {
        Error::Shape { argument, .. } | Error::Value { argument, .. } | Error::Label { argument, .. } => argument,
        other => panic!("{other:?}"),
    }
}

fn assert_refused<T>(name: &str, output: Shape, call: impl FnMut(Option<&Backend>, MatMut<'_>) -> Result<T>) {
    for error in refusals(output, call) {
        assert!(matches!(error, Error::Shape { .. }) && argument(&error) == name, "{error}, expected `{name}`");
    }
}

#[test]
fn forward_refuses_wrong_shapes() {
    // The argument at fault; x, w, bias, y.
    let cases: [(_, _, _, _, Shape); 9] = [
        ("w", [3, 5], [4, 6], 6, [3, 6]),
        ("w", [3, 4], [5, 6], 6, [3, 6]),
        ("w", [3, 4], [6, 4], 6, [3, 6]),
        ("w", [3, 0], [4, 6], 6, [3, 6]),
        ("bias", [3, 4], [4, 6], 5, [3, 6]),
        ("bias", [3, 4], [4, 6], 7, [3, 6]),
        ("y", [3, 4], [4, 6], 6, [2, 6]),
        ("y", [3, 4], [4, 6], 6, [3, 7]),
        ("y", [3, 4], [4, 6], 6, [6, 3]),
    ];
    for (argument, x, w, bias, y) in cases {
        let (x, w, bias) = (zeros(x), zeros(w), vec![0.0; bias]);
        let (x, w, bias, linear) = (x.view(), w.view(), Some(&bias[..]), Activation::Linear);
        assert_refused(argument, y, |backend, y| match backend {
            Some(backend) => dense::forward(backend, x, w, bias, linear, y),
            None => reference::dense_forward(x, w, bias, linear, y),
        });
    }
}

#[test]
fn backward_input_refuses_wrong_shapes() {
    // The argument at fault; dy, w, gate, dx.
    let cases: [(_, _, _, _, Shape); 7] = [
        ("w", [3, 5], [4, 6], [3, 4], [3, 4]),
        ("w", [3, 6], [6, 4], [3, 4], [3, 4]),
        ("gate", [3, 6], [4, 6], [2, 4], [3, 4]),
        ("gate", [3, 6], [4, 6], [3, 5], [3, 4]),
        ("gate", [3, 6], [4, 6], [4, 3], [3, 4]),
        ("dx", [3, 6], [4, 6], [3, 4], [4, 4]),
        ("dx", [3, 6], [4, 6], [3, 4], [3, 6]),
    ];
    for (argument, dy, w, gate, dx) in cases {
        let (dy, w, gate) = (zeros(dy), zeros(w), zeros(gate));
        let (dy, w, gate) = (dy.view(), w.view(), Some((Activation::Relu, gate.view())));
        assert_refused(argument, dx, |backend, dx| match backend {
            Some(backend) => dense::backward_input(backend, dy, w, gate, dx),
            None => reference::dense_backward_input(dy, w, gate, dx),
        });
    }
}

#[test]
fn backward_params_refuses_wrong_shapes() {
    // The argument at fault; x, dy, dw, db.
    let cases: [(_, _, _, Shape, _); 6] = [
        ("dy", [3, 4], [2, 6], [4, 6], 6),
        ("dy", [0, 4], [3, 6], [4, 6], 6),
        ("dw", [3, 4], [3, 6], [6, 4], 6),
        ("dw", [3, 4], [3, 6], [4, 5], 6),
        ("db", [3, 4], [3, 6], [4, 6], 4),
        ("db", [3, 4], [3, 6], [4, 6], 7),
    ];
    for (argument, x, dy, dw, db) in cases {
        let (x, dy) = (zeros(x), zeros(dy));
        assert_refused(argument, dw, |backend, dw| {
            let mut db = Matrix::unwritten([1, db], Layout::RowMajor);
            let sums = Some(db.slice_mut());
            let result = match backend {
                Some(backend) => dense::backward_params(backend, x.view(), dy.view(), dw, sums),
                None => reference::dense_backward_params(x.view(), dy.view(), dw, sums),
            };
            db.assert_untouched();
            result
        });
    }
}

fn relu(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    activation::forward(backend, Activation::Relu, x, y)
}

fn relu_reference(x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    reference::activation_forward(Activation::Relu, x, y)
}

fn relu_backward(backend: &Backend, y: MatRef<'_>, dy: MatRef<'_>, dx: MatMut<'_>) -> Result<()> {
    activation::backward(backend, Activation::Relu, y, dy, dx)
}

fn relu_backward_reference(y: MatRef<'_>, dy: MatRef<'_>, dx: MatMut<'_>) -> Result<()> {
    reference::activation_backward(Activation::Relu, y, dy, dx)
}

/// Parameters out of range, in every call that takes an activation.
#[test]
fn bad_activation_parameters_are_refused() {
    fn assert_value<T>(call: impl Fn(Option<&Backend>, MatMut<'_>) -> Result<T>) {
        for error in refusals([3, 3], call) {
            assert!(matches!(error, Error::Value { argument: "activation", .. }), "{error}");
        }
    }
    let x = zeros([3, 3]);
    let x = x.view();
    for bad in [f32::NAN, f32::INFINITY, -0.5] {
        for function in [Activation::LeakyRelu { slope: bad }, Activation::Elu { alpha: bad }] {
            let gate = Some((function, x));
            assert_value(|backend, y| match backend {
                Some(backend) => dense::forward(backend, x, x, None, function, y),
                None => reference::dense_forward(x, x, None, function, y),
            });
            assert_value(|backend, dx| match backend {
                Some(backend) => dense::backward_input(backend, x, x, gate, dx),
                None => reference::dense_backward_input(x, x, gate, dx),
            });
            assert_value(|backend, y| match backend {
                Some(backend) => activation::forward(backend, function, x, y),
                None => reference::activation_forward(function, x, y),
            });
            assert_value(|backend, dx| match backend {
                Some(backend) => activation::backward(backend, function, x, x, dx),
                None => reference::activation_backward(function, x, x, dx),
            });
            // The reference has no in-place form.
            assert_value(|backend, y| match backend {
                Some(backend) => activation::forward_in_place(backend, function, y),
                None => reference::activation_forward(function, x, y),
            });
            assert_value(|backend, dy| match backend {
                Some(backend) => activation::backward_in_place(backend, function, x, dy),
                None => reference::activation_backward(function, x, x, dy),
            });
        }
    }
}

/// A dy of another shape than what was saved for backward.
#[test]
fn in_place_gradients_refuse_wrong_shapes() {
    type InPlace = fn(&Backend, MatRef<'_>, MatMut<'_>) -> Result<()>;
    let operations: [InPlace; 3] = [
        |backend, saved, dy| activation::backward_in_place(backend, Activation::Tanh, saved, dy),
        activation::softmax_backward_in_place,
        activation::log_softmax_backward_in_place,
    ];
    for operation in operations {
        for saved in [[2, 4], [3, 5], [4, 3], [0, 4]] {
            for backend in serial_backends() {
                let (saved, mut dy) = (zeros(saved), Matrix::unwritten([3, 4], Layout::Padded));
                let error = operation(&backend, saved.view(), dy.view_mut()).unwrap_err();
                assert!(matches!(error, Error::Shape { argument: "dy", .. }), "{error}");
                dy.assert_untouched();
            }
        }
    }
}

#[test]
fn activations_refuse_wrong_shapes() {
    type Kernel = fn(&Backend, MatRef<'_>, MatMut<'_>) -> Result<()>;
    type Reference = fn(MatRef<'_>, MatMut<'_>) -> Result<()>;
    let operations: [(Kernel, Reference); 5] = [
        (relu, relu_reference),
        (activation::softmax, reference::softmax),
        (activation::log_softmax, reference::log_softmax),
        // The reference has exp and ln of scalars alone.
        (activation::exp, relu_reference),
        (activation::ln, relu_reference),
    ];
    for (kernel, reference) in operations {
        for y in [[2, 4], [3, 5], [4, 3], [0, 4], [12, 1]] {
            let x = zeros([3, 4]);
            assert_refused("y", y, |backend, y| match backend {
                Some(backend) => kernel(backend, x.view(), y),
                None => reference(x.view(), y),
            });
        }
    }
}

#[test]
fn activation_gradients_refuse_wrong_shapes() {
    type Kernel = fn(&Backend, MatRef<'_>, MatRef<'_>, MatMut<'_>) -> Result<()>;
    type Reference = fn(MatRef<'_>, MatRef<'_>, MatMut<'_>) -> Result<()>;
    let operations: [(Kernel, Reference); 3] = [
        (relu_backward, relu_backward_reference),
        (activation::softmax_backward, reference::softmax_backward),
        (activation::log_softmax_backward, reference::log_softmax_backward),
    ];
    for (kernel, reference) in operations {
        for bad in [[2, 4], [3, 5], [4, 3], [0, 4], [12, 1]] {
            for (argument, dy, dx) in [("dy", bad, [3, 4]), ("dx", [3, 4], bad)] {
                let (y, dy) = (zeros([3, 4]), zeros(dy));
                assert_refused(argument, dx, |backend, dx| match backend {
                    Some(backend) => kernel(backend, y.view(), dy.view(), dx),
                    None => reference(y.view(), dy.view(), dx),
                });
            }
        }
    }
}

fn cross_entropy_refusals(logits: Shape, labels: Labels<'_>, dlogits: Shape) -> Vec<Error> {
    let logits = zeros(logits);
    refusals(dlogits, |backend, dlogits| match backend {
        Some(backend) => loss::cross_entropy(backend, logits.view(), labels, dlogits),
        None => reference::cross_entropy(&CrossEntropy::new(), logits.view(), labels, None, Some(dlogits)),
    })
}

#[test]
fn cross_entropy_refuses_wrong_shapes() {
    let cases: [(_, _, &[u8], _); 6] = [
        ("dlogits", [3, 4], &[0; 3], [2, 4]),
        ("dlogits", [3, 4], &[0; 3], [3, 5]),
        ("dlogits", [3, 4], &[0; 3], [4, 3]),
        ("labels", [3, 4], &[0; 2], [3, 4]),
        ("labels", [3, 4], &[0; 4], [3, 4]),
        ("labels", [3, 4], &[], [3, 4]),
    ];
    for (name, logits, labels, dlogits) in cases {
        for error in cross_entropy_refusals(logits, Labels::from(labels), dlogits) {
            assert!(matches!(error, Error::Shape { .. }) && argument(&error) == name, "{error}, expected `{name}`");
        }
    }
    for error in cross_entropy_refusals([0, 4], Labels::from(&[0u8; 0]), [0, 4]) {
        assert!(matches!(error, Error::Value { .. }) && argument(&error) == "logits", "{error}");
    }
}

#[test]
fn cross_entropy_refuses_bad_options() {
    let (weights, probabilities) = ([1.0; 4], zeros([3, 4]));
    let labels = Targets::from(&[0u8, 200, 3]);
    let plain = CrossEntropy::new().ignored_label(200);
    let refused = |options: CrossEntropy<'_>, logits: Shape, targets: Targets<'_>, losses: Option<usize>| {
        let logits = zeros(logits);
        let mut losses = losses.map(|len| vec![7.0; len]);
        let errors = refusals(logits.shape(), |backend, dlogits| match backend {
            Some(backend) => options.forward_backward(backend, logits.view(), targets, losses.as_deref_mut(), dlogits),
            None => reference::cross_entropy(&options, logits.view(), targets, losses.as_deref_mut(), Some(dlogits)),
        });
        let backend = Backend::new().unwrap();
        let alone = options.forward(&backend, logits.view(), targets, losses.as_deref_mut()).unwrap_err();
        let mut in_place = logits.clone();
        let error = options
            .forward_backward_in_place(&backend, targets, losses.as_deref_mut(), in_place.view_mut())
            .unwrap_err();
        in_place.assert_same_bits(&logits, "refused in place");
        assert!(losses.iter().flatten().all(|&loss| loss == 7.0), "losses were written");
        let names: Vec<&str> = errors.iter().chain([&alone, &error]).map(argument).collect();
        assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
        let value = matches!(error, Error::Value { .. });
        (names[0].to_owned(), value)
    };
    let is = |(name, value): (String, bool), expected: &str, expected_value: bool| {
        assert_eq!((name.as_str(), value), (expected, expected_value));
    };
    is(refused(plain, [3, 4], labels, Some(2)), "losses", false);
    is(refused(plain, [3, 4], labels, Some(4)), "losses", false);
    is(refused(plain, [2, 4], labels, None), "labels", false);
    is(refused(plain.ignored_label(201), [3, 4], labels, None), "labels", false);
    is(refused(plain, [3, 5], probabilities.view().into(), None), "targets", false);
    is(refused(plain, [2, 4], probabilities.view().into(), None), "targets", false);
    is(refused(plain, [3, 0], zeros([3, 0]).view().into(), None), "logits", true);
    is(refused(plain, [3, 0], Targets::from(&[200u8; 3]), None), "logits", true);
    is(refused(plain, [0, 4], Targets::from(&[0u8; 0]), None), "logits", true);
    is(refused(plain.class_weights(&weights[1..]), [3, 4], labels, None), "class_weights", false);
    for bad in [-1.0, f32::NAN, f32::INFINITY, -0.1] {
        let weights = [1.0, 1.0, bad, 1.0];
        is(refused(plain.class_weights(&weights), [3, 4], labels, None), "class_weights", true);
    }
    for bad in [-0.1, 1.1, f32::NAN, f32::NEG_INFINITY] {
        is(refused(plain.label_smoothing(bad), [3, 4], labels, None), "label_smoothing", true);
    }
    // A batch of ignored labels alone is no error: its loss is 0.
    let (backend, logits) = (Backend::new().unwrap(), zeros([3, 4]));
    assert_eq!(plain.forward(&backend, logits.view(), &[200u8; 3], None).unwrap(), 0.0);
}

#[test]
fn labels_out_of_range_are_refused() {
    let assert_label = |labels: Labels<'_>, [expected_index, expected_label]: [usize; 2]| {
        for error in cross_entropy_refusals([3, 4], labels, [3, 4]) {
            let Error::Label { argument: "labels", index, label, classes } = error else { panic!("{error:?}") };
            assert_eq!([index, label, classes], [expected_index, expected_label, 4]);
        }
    };
    assert_label(Labels::from(&[3u8, 4, 9]), [1, 4]);
    assert_label(Labels::from(&[255u8, 0, 0]), [0, 255]);
    assert_label(Labels::from(&[0u32, 0, u32::MAX]), [2, u32::MAX as usize]);
    assert_label(Labels::from(&[0, usize::MAX, 4]), [1, usize::MAX]);
    for error in cross_entropy_refusals([2, 0], Labels::from(&[0u8, 0]), [2, 0]) {
        assert!(matches!(error, Error::Label { argument: "labels", index: 0, label: 0, classes: 0 }), "{error:?}");
    }
}

/// Asserts that both kinds of view are refused; gives the argument that the errors name.
fn refused_view([rows, cols]: Shape, strides: Option<Shape>, len: usize) -> &'static str {
    let mut data = vec![0.0; len];
    let read = match strides {
        Some([row, col]) => MatRef::with_strides(&data, rows, cols, row, col).map(drop),
        None => MatRef::new(&data, rows, cols).map(drop),
    };
    let write = match strides {
        Some([row, col]) => MatMut::with_strides(&mut data, rows, cols, row, col).map(drop),
        None => MatMut::new(&mut data, rows, cols).map(drop),
    };
    match (read, write) {
        (Err(Error::Shape { argument, .. }), Err(Error::Shape { argument: same, .. })) if argument == same => argument,
        other => panic!("{other:?}"),
    }
}

const MAX: usize = usize::MAX;

#[test]
fn views_of_wrong_length_are_refused() {
    for (shape, len) in [([2, 3], 5), ([2, 3], 7), ([2, 3], 0), ([0, 3], 1), ([3, 0], 1), ([1, 1], 0)] {
        assert_eq!(refused_view(shape, None, len), "data");
    }
}

#[test]
fn views_whose_size_overflows_are_refused() {
    for shape in [[MAX, 2], [2, MAX], [MAX, MAX], [1 << 32, 1 << 32], [MAX / 2 + 1, 2]] {
        assert_eq!(refused_view(shape, None, 0), "data");
        assert_eq!(refused_view(shape, None, 6), "data");
    }
}

#[test]
fn views_beyond_their_slice_are_refused() {
    let cases = [
        ([2, 3], [3, 1], 5),
        ([2, 3], [4, 1], 6),
        ([3, 2], [1, 3], 5),
        ([2, 2], [1, MAX], 4),
        ([2, 2], [MAX, 1], 4),
        ([2, 2], [MAX, MAX], 4),
        ([3, 1], [MAX / 2 + 1, 0], 4),
        ([3, 3], [MAX / 2, MAX / 2], 4),
        ([MAX, MAX], [1, 1], 4),
        ([MAX, 1], [1, 1], 4),
        ([MAX, 2], [MAX, MAX], 4),
        ([1, 1], [0, 0], 0),
    ];
    for (shape, strides, len) in cases {
        assert_eq!(refused_view(shape, Some(strides), len), "data", "{shape:?} {strides:?}");
    }
}

#[test]
fn views_with_overlapping_elements_are_refused() {
    let cases = [
        ([2, 3], [2, 1]),
        ([2, 3], [1, 1]),
        ([2, 3], [0, 1]),
        ([2, 3], [1, 0]),
        ([2, 3], [0, 0]),
        ([1, 2], [5, 0]),
        ([2, 1], [0, 5]),
        // No two elements share a place here, but rows interleave.
        ([2, 3], [3, 2]),
        ([3, 2], [2, 3]),
    ];
    for (shape, strides) in cases {
        assert_eq!(refused_view(shape, Some(strides), 100), "row_stride, col_stride", "{shape:?} {strides:?}");
    }
}

#[test]
fn row_ranges_out_of_bounds_are_refused() {
    let mut x = zeros([3, 4]);
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..4, 4..4, 3..2, 2..MAX, MAX..MAX, MAX..0] {
        let read = x.view().row_range(range.clone()).unwrap_err();
        let write = x.view_mut().row_range(range).unwrap_err();
        assert_eq!((argument(&read), argument(&write)), ("range", "range"));
    }
}

#[test]
fn flatten_refuses_shapes_that_do_not_fit() {
    let cases: [(&[usize], _); 9] = [
        (&[], "shape"),
        (&[1, MAX, 2], "shape"),
        (&[0, MAX, MAX], "shape"),
        (&[5], "data"),
        (&[2, 2], "data"),
        (&[2, 2, 2], "data"),
        (&[0, 6], "data"),
        (&[6, 0], "data"),
        (&[MAX, 2], "data"),
    ];
    for (shape, name) in cases {
        let error = flatten(&[0.0; 6], shape).unwrap_err();
        assert_eq!(argument(&error), name, "{shape:?}: {error}");
    }
}

/// Views without elements take any strides: nothing may be computed from these.
#[test]
fn empty_views_take_enormous_strides() {
    let empty = |rows, cols| MatRef::with_strides(&[], rows, cols, MAX, MAX).unwrap();
    for backend in serial_backends() {
        for rows in [1, 9, 40] {
            let mut y = Matrix::unwritten([rows, 40], Layout::RowMajor);
            dense::forward(&backend, empty(rows, 0), empty(0, 40), None, Activation::Relu, y.view_mut()).unwrap();
            assert!(y.slice().iter().all(|y| y.to_bits() == 0));
            let mut dx = Matrix::unwritten([rows, 40], Layout::RowMajor);
            dense::backward_input(&backend, empty(rows, 0), empty(40, 0), None, dx.view_mut()).unwrap();
            assert!(dx.slice().iter().all(|dx| dx.to_bits() == 0));
            let mut dw = Matrix::unwritten([rows, 40], Layout::RowMajor);
            let mut db = [f32::NAN; 40];
            dense::backward_params(&backend, empty(0, rows), empty(0, 40), dw.view_mut(), Some(&mut db)).unwrap();
            assert!(dw.slice().iter().chain(&db).all(|sum| sum.to_bits() == 0));
        }
    }
}

/// The stride of an axis of length 1 is never used.
#[test]
fn axes_of_length_one_take_enormous_strides() {
    fn row(data: &[f32]) -> MatRef<'_> {
        MatRef::with_strides(data, 1, data.len(), MAX, 1).unwrap()
    }
    for backend in serial_backends() {
        for len in [1, 40, 300] {
            let (ones, two) = (vec![1.0; len], [2.0]);
            let (w, dy) = (row(&ones).t(), row(&two).t());
            let mut y = [f32::NAN];
            let out = MatMut::with_strides(&mut y, 1, 1, MAX, MAX).unwrap();
            dense::forward(&backend, row(&ones), w, Some(&two), Activation::Relu, out).unwrap();
            assert_eq!(y, [len as f32 + 2.0]);
            let mut dx = vec![f32::NAN; len];
            let out = MatMut::with_strides(&mut dx, 1, len, MAX, 1).unwrap();
            dense::backward_input(&backend, dy, w, Some((Activation::Relu, row(&ones))), out).unwrap();
            let mut dw = vec![f32::NAN; len];
            let out = MatMut::with_strides(&mut dw, len, 1, 1, MAX).unwrap();
            dense::backward_params(&backend, row(&ones), dy, out, Some(&mut y)).unwrap();
            assert!(dx.iter().chain(&dw).chain(&y).all(|&value| value == 2.0));
            let out = MatMut::with_strides(&mut dx, len, 1, 1, MAX).unwrap();
            activation::softmax(&backend, w, out).unwrap();
            let out = MatMut::with_strides(&mut dw, 1, len, MAX, 1).unwrap();
            relu(&backend, row(&ones), out).unwrap();
            assert!(dx.iter().chain(&dw).all(|&value| value == 1.0));
        }
    }
}

/// Without elements a call returns at once, however many rows or columns there are.
#[test]
fn enormous_empty_views_take_no_time() {
    fn empty<'a>(rows: usize, cols: usize) -> MatMut<'a> {
        MatMut::new(&mut [], rows, cols).unwrap()
    }
    within_a_minute("calls on views without elements", || {
        let (tall, flat) = (MatRef::new(&[], MAX, 0).unwrap(), MatRef::new(&[], 0, MAX).unwrap());
        let none = MatRef::new(&[], 0, 0).unwrap();
        let packed = PackedWeights::new(flat);
        for backend in serial_backends() {
            let threads =
                [Threads::One, Threads::Auto, exactly(3)].map(|threads| backend.clone().with_threads(threads));
            for backend in threads {
                let y = || empty(0, MAX);
                dense::forward(&backend, none, flat, None, Activation::Relu, y()).unwrap();
                dense::forward(&backend, none, &packed, None, Activation::Relu, y()).unwrap();
                dense::backward_input(&backend, none, tall, None, y()).unwrap();
                dense::backward_params(&backend, none, flat, y(), None).unwrap();
            }
            for x in [tall, flat] {
                assert!(x.to_vec().is_empty());
                let y = || empty(x.rows(), x.cols());
                relu(&backend, x, y()).unwrap();
                relu_backward(&backend, x, x, y()).unwrap();
                activation::softmax(&backend, x, y()).unwrap();
                activation::softmax_backward(&backend, x, x, y()).unwrap();
            }
            dense::forward(&backend, flat, tall, None, Activation::Relu, empty(0, 0)).unwrap();
            dense::forward(&backend, tall, none, Some(&[]), Activation::Relu, empty(MAX, 0)).unwrap();
            dense::backward_input(&backend, tall, none, None, empty(MAX, 0)).unwrap();
            dense::backward_params(&backend, tall, tall, empty(0, 0), Some(&mut [])).unwrap();
        }
    });
}

#[test]
fn messages_say_what_was_expected_and_found() {
    let backend = Backend::new().unwrap();
    let (x, w) = (zeros([3, 4]), zeros([5, 6]));
    let mut y = zeros([3, 6]);
    let linear = Activation::Linear;
    let messages = [
        dense::forward(&backend, x.view(), w.view(), None, linear, y.view_mut()).unwrap_err(),
        dense::forward(&backend, x.view(), w.view().t(), None, linear, y.view_mut()).unwrap_err(),
        dense::backward_params(&backend, x.view(), x.view(), zeros([4, 4]).view_mut(), Some(&mut [0.0])).unwrap_err(),
        loss::cross_entropy(&backend, x.view(), &[0u8, 4, 0], zeros([3, 4]).view_mut()).unwrap_err(),
        loss::cross_entropy(&backend, x.view(), &[0u8], zeros([3, 4]).view_mut()).unwrap_err(),
        MatRef::new(&[], 0, 4)
            .and_then(|x| loss::cross_entropy(&backend, x, &[0u8; 0], MatMut::new(&mut [], 0, 4)?))
            .unwrap_err(),
        MatRef::new(&[0.0; 5], 2, 3).unwrap_err(),
        MatRef::with_strides(&[0.0; 5], 2, 3, 3, 1).unwrap_err(),
        MatRef::with_strides(&[0.0; 5], 2, 2, 1, 1).unwrap_err(),
        x.view().row_range(2..4).unwrap_err(),
        flatten(&[], &[]).unwrap_err(),
    ]
    .map(|error| error.to_string());
    let expected = [
        "`w`: expected 4 x 6, got 5 x 6",
        "`w`: expected 4 x 5, got 6 x 5",
        "`db`: expected 4 elements, got 1 elements",
        "`labels`: expected classes 0..4, got 4 at index 1",
        "`labels`: expected 3 labels, one a row, got 1",
        "`logits`: expected at least one row to take the mean over, got 0 rows",
        "`data`: expected 2 x 3 = 6 elements, got 5",
        "`data`: expected at least 6 elements for 2 x 3 with strides (3, 1), got 5",
        "`row_stride, col_stride`: expected strides under which no two elements share a place, got 2 x 2 with strides (1, 1)",
        "`range`: expected a range within 0..3, got 2..4",
        "`shape`: expected the batch size, then the shape of a sample, got no axes",
    ];
    assert_eq!(messages.each_ref().map(String::as_str), expected);
}
