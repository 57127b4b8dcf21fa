//! Compares a `Predictor` with the model that it was made from.

use densely::nn::{Activation, Dense, DenseActivation, Predictor, Sequential};
use densely::{Error, MatMut, MatRef, Threads, activation};
use densely_testkit::{
    Layout, Matrix, Strides, assert_identical, backends, exactly, first_if_emulated, random_values, row_major,
};
use rayon::ThreadPoolBuilder;

use crate::common::mlp;

/// Inputs and units of networks; the last has over 2^20 weights, most others have few.
const NETS: [(usize, &[usize]); 7] = [
    (6, &[64, 8, 4]),
    (784, &[128, 10]),
    (5, &[3]),
    (33, &[70, 17, 65, 12]),
    (1, &[128, 47]),
    (2, &[129, 9]),
    (1030, &[1024, 30]),
];
/// No row, few, one block and more, several blocks.
const BATCHES: [usize; 11] = [0, 1, 2, 3, 4, 7, 16, 33, 128, 129, 300];

fn predict(predictor: &Predictor, x: MatRef<'_>) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.rows() * predictor.outputs()];
    predictor.predict_into(x, MatMut::new(&mut y, x.rows(), predictor.outputs()).unwrap()).unwrap();
    y
}

#[test]
fn predictor_matches_the_model_on_any_number_of_threads() {
    let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for backend in backends() {
        for (inputs, units) in NETS {
            let model = mlp(&backend, inputs, units);
            let predictor = Predictor::new(&model);
            for &rows in first_if_emulated(&BATCHES, 9) {
                let x = random_values(rows as u64, rows * inputs);
                let x = MatRef::new(&x, rows, inputs).unwrap();
                let expected = model.predict(x).unwrap();
                let name = format!("{rows} rows of {inputs}-{units:?} on {}", backend.isa());
                assert_identical(&predict(&predictor, x), &expected, &name);
                for threads in [Threads::One, Threads::Auto, exactly(5)] {
                    let predictor = predictor.clone().with_threads(threads);
                    let found = pool.install(|| predict(&predictor, x));
                    assert_identical(&found, &expected, &format!("{name}, {threads:?}"));
                }
            }
        }
    }
}

#[test]
fn predictor_matches_the_model_for_every_activation() {
    for backend in backends() {
        for last in DenseActivation::all() {
            for &hidden in Activation::ALL {
                let builder = Sequential::builder(9).backend(backend.clone());
                let builder = builder.layer(Dense::new(21, hidden).use_bias(false)).layer(Dense::new(5, last));
                let model = builder.build().unwrap();
                for rows in [2, 30] {
                    let x = random_values(1, rows * 9);
                    let (x, name) = (row_major(&x, rows), format!("{hidden} and {last} on {}", backend.isa()));
                    assert_identical(&predict(&Predictor::new(&model), x), &model.predict(x).unwrap(), &name);
                }
            }
        }
    }
}

#[test]
fn logits_and_log_probabilities_match_the_probabilities() {
    for (backend, rows) in backends().into_iter().flat_map(|backend| [2, 150].map(|rows| (backend.clone(), rows))) {
        let model = mlp(&backend, 20, &[40, 7]);
        let predictor = Predictor::new(&model);
        let x = random_values(3, rows * 20);
        let x = row_major(&x, rows);
        let [mut logits, mut logs, mut expected] = [(); 3].map(|()| vec![f32::NAN; rows * 7]);
        predictor.logits_into(x, MatMut::new(&mut logits, rows, 7).unwrap()).unwrap();
        predictor.log_probabilities_into(x, MatMut::new(&mut logs, rows, 7).unwrap()).unwrap();
        activation::log_softmax(&backend, row_major(&logits, rows), MatMut::new(&mut expected, rows, 7).unwrap())
            .unwrap();
        assert_identical(&logs, &expected, "log-probabilities");
        activation::softmax(&backend, row_major(&logits, rows), MatMut::new(&mut expected, rows, 7).unwrap()).unwrap();
        assert_identical(&predict(&predictor, x), &expected, "probabilities");
    }
}

#[test]
fn predictor_leaves_gaps_between_elements_untouched() {
    let model = mlp(&backends()[0], 6, &[64, 4]);
    let predictor = Predictor::new(&model);
    let strides = [(9, 1), (17, 2)].map(|(row, col)| Layout::Strided(Strides { row, col }));
    for (rows, layout) in [2, 140].into_iter().flat_map(|rows| strides.map(|layout| (rows, layout))) {
        let values = random_values(5, rows * 6);
        // NaN lies in the gaps of x.
        let x = Matrix::from_fn([rows, 6], layout, |row, col| values[6 * row + col]);
        let mut y = Matrix::unwritten([rows, 4], layout);
        predictor.predict_into(x.view(), y.view_mut()).unwrap();
        y.assert_written("predictions");
        assert_identical(&y.view().to_vec(), &model.predict(row_major(&values, rows)).unwrap(), "predictions");
    }
}

#[test]
fn sixteen_threads_share_one_predictor() {
    let model = mlp(&backends()[0], 30, &[50, 10]);
    let predictor = Predictor::new(&model);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (model, predictor) = (&model, &predictor);
            scope.spawn(move || {
                for rows in [1, 20, 200] {
                    let x = random_values(thread, rows * 30);
                    let x = row_major(&x, rows);
                    let expected = model.predict(x).unwrap();
                    for _ in 0..20 {
                        assert_identical(&predict(predictor, x), &expected, "a prediction");
                    }
                }
            });
        }
    });
}

#[test]
fn later_training_does_not_change_a_predictor() {
    let mut model = mlp(&backends()[0], 4, &[3]);
    let predictor = Predictor::new(&model);
    let before = model.predict(row_major(&[1.0; 4], 1)).unwrap();
    model.parameters_mut().fill(0.0);
    assert_identical(&predict(&predictor, row_major(&[1.0; 4], 1)), &before, "the prediction");
}

#[test]
fn predictor_refuses_bad_arguments_and_writes_nothing() {
    let predictor = Predictor::new(&mlp(&backends()[0], 4, &[3]));
    let (x, mut y) = ([0.0; 10], [-7.0; 8]);
    let x_of = |cols: usize| MatRef::new(&x[..2 * cols], 2, cols).unwrap();
    let refused = |result: densely::Result<()>| result.unwrap_err().to_string();
    let wide = predictor.predict_into(x_of(5), MatMut::new(&mut y[..6], 2, 3).unwrap());
    assert_eq!(refused(wide), "`x`: expected 2 x 4, got 2 x 5");
    let narrow = predictor.logits_into(x_of(4), MatMut::new(&mut y, 2, 4).unwrap());
    assert_eq!(refused(narrow), "`y`: expected 2 x 3, got 2 x 4");
    let model = Sequential::builder(4).layer(Dense::new(3, Activation::Linear)).build().unwrap();
    let linear = Predictor::new(&model);
    let logs = linear.log_probabilities_into(x_of(4), MatMut::new(&mut y[..6], 2, 3).unwrap());
    assert!(matches!(logs, Err(Error::Value { argument: "activation", .. })));
    assert_eq!(y, [-7.0; 8]);
}

#[test]
fn predictor_reports_the_sizes_of_the_model() {
    for (inputs, units) in NETS {
        let predictor = Predictor::new(&mlp(&backends()[0], inputs, units));
        assert_eq!((predictor.inputs(), predictor.outputs()), (inputs, units[units.len() - 1]));
    }
}

#[test]
fn debug_prints_no_weights() {
    let model = mlp(&backends()[0], 784, &[128, 10]);
    for text in [format!("{model:?}"), format!("{:?}", Predictor::new(&model))] {
        assert!(text.contains("784") && text.len() < 1000, "{text}");
    }
}
