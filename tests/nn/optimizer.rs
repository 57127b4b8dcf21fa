//! Tests L2, clipping, weight decay, steps with given gradients, and custom losses.

use densely::nn::{Activation, Adam, AdamW, Clip, Dense, Fit, Optimizer, Sequential, Sgd};
use densely::{Backend, Error, Isa, MatMut, MatRef, activation, loss, reference};
use densely_testkit::{assert_identical, backends, exactly, random_labels, random_values, row_major};

use crate::common::mlp;

const SAMPLES: usize = 40;
const INPUTS: usize = 30;
const CLASSES: usize = 7;

fn data() -> (Vec<f32>, Vec<u8>) {
    (random_values(1, SAMPLES * INPUTS), random_labels(2, SAMPLES, CLASSES))
}

/// Returns every instruction set on several numbers of threads.
fn backends_and_threads() -> impl Iterator<Item = Backend> {
    backends().into_iter().flat_map(|backend| [1, 2, 3, 5, 7].map(|threads| backend.with_threads(exactly(threads))))
}

/// SGD whose step is the gradient.
fn sgd() -> Optimizer {
    Sgd::default().learning_rate(1.0).into()
}

/// Builds a model with weights 1 and 2 and bias 3.
fn three_parameters(optimizer: Optimizer) -> Sequential {
    let mut model = Sequential::builder(2).layer(Dense::new(1, Activation::Linear)).build().unwrap();
    model.parameters_mut().copy_from_slice(&[1.0, 2.0, 3.0]);
    model.compile(optimizer).unwrap();
    model
}

/// Returns the parameters after a step from 1, 2 and 3.
fn stepped(optimizer: Optimizer, gradients: [f32; 3]) -> [f32; 3] {
    let mut model = three_parameters(optimizer);
    model.step(&gradients).unwrap();
    model.parameters().try_into().unwrap()
}

#[test]
fn global_norm_is_over_all_parameters() {
    // The norm of (2, 3, 6) is 7.
    let clip = |most| sgd().clip(Clip::GlobalNorm(most));
    assert_eq!(stepped(clip(3.5), [2.0, 3.0, 6.0]), [0.0, 0.5, 0.0]);
    assert_eq!(stepped(clip(7.0), [2.0, 3.0, 6.0]), [-1.0, -1.0, -3.0]);
    assert_eq!(stepped(clip(1e30), [2.0, 3.0, 6.0]), [-1.0, -1.0, -3.0]);
    assert_eq!(stepped(clip(1.0), [0.0; 3]), [1.0, 2.0, 3.0]);
    // The square of the norm overflows, and underflows, f32.
    assert_eq!(stepped(clip(3.5), [2e38, 3e38, 0.0]).map(|w| w.is_finite()), [true; 3]);
    assert_eq!(stepped(clip(0.5), [0.0, -3e38, 0.0]), [1.0, 2.5, 3.0]);
    assert_eq!(stepped(sgd().clip(Clip::GlobalNorm(1e-30)), [0.0, 0.0, 1e-25]), [1.0, 2.0, 3.0]);
    let tiny = Optimizer::from(Sgd::default().learning_rate(1e30)).clip(Clip::GlobalNorm(1e-30));
    let [.., moved] = stepped(tiny, [0.0, 0.0, -1e-25]);
    assert!((moved - 4.0).abs() < 1e-6, "{moved}");
}

#[test]
fn non_finite_norm_makes_every_parameter_nan() {
    let clip = sgd().clip(Clip::GlobalNorm(1.0));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(stepped(clip, [0.0, bad, 1.0]).iter().all(|w| w.is_nan()), "{bad}");
    }
}

#[test]
fn clip_value_clamps_each_gradient() {
    let clip = |most| sgd().clip(Clip::Value(most));
    assert_eq!(stepped(clip(0.5), [0.25, 3.0, -6.0]), [0.75, 1.5, 3.5]);
    assert_eq!(stepped(clip(0.5), [0.5, f32::INFINITY, f32::NEG_INFINITY]), [0.5, 1.5, 3.5]);
    let [first, second, third] = stepped(clip(0.5), [1.0, f32::NAN, -1.0]);
    assert!(second.is_nan() && [first, third] == [0.5, 3.5]);
}

#[test]
fn l2_applies_to_kernels_before_clipping() {
    let l2 = sgd().l2(0.25); // adds half of each weight
    assert_eq!(stepped(l2, [0.0, 1.0, 0.0]), [0.5, 0.0, 3.0]);
    assert_eq!(stepped(l2.clip(Clip::Value(0.75)), [0.0, 0.0, 9.0]), [0.5, 1.25, 2.25]);
    // With the L2 penalty the gradient is (3, 4, 12), whose norm is 13.
    let clip = sgd().l2(1.0).clip(Clip::GlobalNorm(6.5));
    assert_eq!(stepped(clip, [1.0, 0.0, 12.0]), [-0.5, 0.0, -3.0]);
}

#[test]
fn weight_decay_applies_to_all_parameters_and_every_rule() {
    let rate = 0.5;
    let plain = Sgd::default().learning_rate(rate);
    let momentum = plain.momentum(0.9);
    let rules: [Optimizer; 3] = [plain.into(), momentum.into(), momentum.nesterov(true).into()];
    for rule in rules {
        // w = w - w / 4, then the update rule; clipping does not apply to the decay.
        let clip = Clip::Value(1e-3);
        assert_eq!(stepped(rule.weight_decay(0.5).clip(clip), [0.0; 3]), [0.75, 1.5, 2.25]);
    }
    assert_eq!(stepped(rules[0].weight_decay(0.5), [1.0, 0.0, 0.0]), [0.25, 1.5, 2.25]);
    let adam = Adam::default().learning_rate(rate);
    let adamw = AdamW::default().learning_rate(rate).weight_decay(0.5);
    let gradients = [1.0, -1.0, 0.5];
    let decayed = Optimizer::from(adam).weight_decay(0.5);
    assert_identical(&stepped(decayed, gradients), &stepped(adamw.into(), gradients), "AdamW");
    assert_ne!(stepped(decayed, gradients), stepped(adam.into(), gradients));
}

#[test]
fn set_learning_rate_keeps_the_options() {
    let optimizer = sgd().l2(0.25).weight_decay(0.5).clip(Clip::Value(1.0));
    let mut changed = three_parameters(optimizer);
    changed.set_learning_rate(0.125).unwrap();
    changed.step(&[0.0, 2.0, -3.0]).unwrap();
    let expected: Optimizer = Sgd::default().learning_rate(0.125).into();
    let expected = stepped(expected.l2(0.25).weight_decay(0.5).clip(Clip::Value(1.0)), [0.0, 2.0, -3.0]);
    assert_identical(changed.parameters(), &expected, "parameters");
}

/// Returns update rules with every combination of L2 and clipping.
fn optimizers() -> Vec<Optimizer> {
    let sgd = Sgd::default().learning_rate(0.1).momentum(0.9);
    let rules = [Optimizer::from(sgd), Adam::default().into(), AdamW::default().into()];
    let with = |rule: Optimizer| {
        let clipped = [Clip::Value(0.01), Clip::GlobalNorm(0.2)].map(|clip| rule.clip(clip));
        [rule, rule.l2(0.01), clipped[0], clipped[1], clipped[0].l2(0.01), clipped[1].l2(0.01)]
    };
    rules.into_iter().flat_map(with).collect()
}

#[test]
fn gradients_and_step_equal_train_on_batch() {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    for optimizer in optimizers() {
        for backend in backends_and_threads() {
            let [mut by_hand, mut trained, mut fitted] = [(); 3].map(|()| {
                let mut model = mlp(&backend, INPUTS, &[130, CLASSES]);
                model.compile(optimizer).unwrap();
                model
            });
            let mut gradients = vec![f32::NAN; by_hand.count_params()];
            for _ in 0..3 {
                let loss = by_hand.gradients(x, &labels, &mut gradients).unwrap();
                by_hand.step(&gradients).unwrap();
                assert_eq!(trained.train_on_batch(x, &labels).unwrap().loss, loss);
            }
            fitted.fit(x, &labels, Fit::default().epochs(3).batch_size(SAMPLES).no_shuffle()).unwrap();
            let what = format!("{optimizer:?}, {backend:?}");
            assert_identical(by_hand.parameters(), trained.parameters(), &what);
            assert_identical(fitted.parameters(), trained.parameters(), &what);
        }
    }
}

#[test]
fn step_with_given_gradients_matches_reference() {
    // The sum of squares has more parts than threads, and no power of 2 of them.
    let kernel = 22_001;
    let gradients = random_values(5, kernel + 1);
    let clip = Clip::GlobalNorm(3.0);
    for backend in backends_and_threads().filter(|backend| backend.isa() != Isa::Portable) {
        let mut model = mlp(&backend, kernel, &[1]);
        let mut expected = model.parameters().to_vec();
        let rule = Optimizer::from(Sgd::default()).weight_decay(0.1);
        model.compile(rule.l2(0.02).clip(clip)).unwrap();
        let [mut m, mut v] = [0.0; 2].map(|zero| vec![zero; kernel + 1]);
        for t in 1..=2 {
            model.step(&gradients).unwrap();
            let mut gradients = gradients.clone();
            reference::add_l2(0.02, &expected[..kernel], &mut gradients[..kernel]).unwrap();
            reference::clip(clip, &mut gradients).unwrap();
            reference::update(rule, t, &mut expected, &gradients, &mut m, &mut v).unwrap();
        }
        assert_identical(model.parameters(), &expected, &format!("{backend:?}"));
    }
}

#[test]
fn moments_below_two_to_the_minus_100_become_zero() {
    let least = 2f32.powi(-100);
    let gradients = [least, least.next_down(), -least, -least.next_down()];
    let expected = [-least, 0.0, least, 0.0];
    let rule = Optimizer::from(Sgd::default().learning_rate(1.0).momentum(0.5));
    for backend in backends_and_threads() {
        let mut model = mlp(&backend, gradients.len() - 1, &[1]);
        model.parameters_mut().fill(0.0);
        model.compile(rule).unwrap();
        model.step(&gradients).unwrap();
        assert_eq!(model.parameters(), expected, "{backend:?}");
    }
    let [mut w, mut m, mut v] = [[0.0; 4]; 3];
    reference::update(rule, 1, &mut w, &gradients, &mut m, &mut v).unwrap();
    assert_eq!(w, expected);
}

/// Found by fuzzing: 0 times infinity would be NaN.
#[test]
fn zero_l2_adds_nothing_even_to_infinite_weights() {
    let [mut w, mut dw] = [[f32::INFINITY, 2.0, -3.0], [1.0, f32::NEG_INFINITY, 0.5]];
    let mut model = three_parameters(sgd().l2(0.0));
    model.parameters_mut().copy_from_slice(&w);
    model.step(&dw).unwrap();
    reference::add_l2(0.0, &w, &mut dw).unwrap();
    reference::update(sgd(), 1, &mut w, &dw, &mut [0.0; 3], &mut [0.0; 3]).unwrap();
    assert_eq!(w, [f32::INFINITY, f32::INFINITY, -3.5]);
    assert_identical(model.parameters(), &w, "no L2");
}

#[test]
fn custom_cross_entropy_matches_the_builtin_loss() {
    let (x, labels) = data();
    // The second has over 2^20 weights: each layer is a parallel section of its own.
    for (samples, units) in [(SAMPLES, &[33, 19, CLASSES][..]), (9, &[1024, 1024, CLASSES])] {
        let (x, labels) = (row_major(&x[..samples * INPUTS], samples), &labels[..samples]);
        for backend in backends_and_threads() {
            let mut model = mlp(&backend, INPUTS, units);
            let [mut expected, mut found] = [(); 2].map(|()| vec![f32::NAN; model.count_params()]);
            let expected_loss = model.gradients(x, labels, &mut expected).unwrap();
            let cross_entropy =
                |logits: MatRef<'_>, dlogits: MatMut<'_>| loss::cross_entropy(&backend, logits, labels, dlogits);
            let loss = model.gradients_with(x, cross_entropy, &mut found).unwrap();
            assert_eq!(loss, expected_loss);
            assert_identical(&found, &expected, &format!("{backend:?}"));
        }
    }
}

#[test]
fn custom_loss_backpropagates_through_any_last_activation() {
    let (x, _) = data();
    let x = row_major(&x, SAMPLES);
    let doutputs = random_values(6, SAMPLES * CLASSES);
    let write = |from: &[f32], mut to: MatMut<'_>| {
        from.iter().enumerate().for_each(|(i, &value)| assert!(to.set(i / CLASSES, i % CLASSES, value)));
    };
    for &last in Activation::ALL {
        let name = last.name();
        for backend in backends() {
            // The same activation in the last layer, and applied to the outputs of a linear last layer.
            let [mut inside, mut outside] = [last, Activation::Linear].map(|last| {
                let builder = Sequential::builder(INPUTS).backend(backend.with_threads(exactly(3))).seed(3);
                let builder = builder.layer(Dense::new(17, Activation::Relu)).layer(Dense::new(CLASSES, last));
                builder.build().unwrap()
            });
            let [mut found, mut expected] = [(); 2].map(|()| vec![f32::NAN; inside.count_params()]);
            let outputs = inside.gradients_with(
                x,
                |outputs, to| {
                    write(&doutputs, to);
                    Ok(outputs.to_vec())
                },
                &mut found,
            );
            let expected_outputs = outside.gradients_with(
                x,
                |sums, to| {
                    let mut y = vec![f32::NAN; SAMPLES * CLASSES];
                    activation::forward(&backend, last, sums, MatMut::new(&mut y, SAMPLES, CLASSES)?)?;
                    let saved = if last.saves_input() { sums } else { row_major(&y, SAMPLES) };
                    activation::backward(&backend, last, saved, row_major(&doutputs, SAMPLES), to)?;
                    Ok(y)
                },
                &mut expected,
            );
            assert_identical(&outputs.unwrap(), &expected_outputs.unwrap(), name);
            assert_identical(&found, &expected, name);
        }
    }
}

#[test]
fn output_gradients_start_at_zero() {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    let mut model = mlp(&Backend::new().unwrap(), INPUTS, &[33, CLASSES]);
    let mut gradients = vec![f32::NAN; model.count_params()];
    model.gradients(x, &labels, &mut gradients).unwrap();
    model.gradients_with(x, |_, _| Ok(()), &mut gradients).unwrap();
    assert_identical(&gradients, &vec![0.0; model.count_params()], "gradients");
}

#[test]
fn failing_loss_leaves_the_model_unchanged() {
    let (x, labels) = data();
    let x = row_major(&x, SAMPLES);
    let [mut model, mut untouched] = [(); 2].map(|()| {
        let mut model = mlp(&Backend::new().unwrap(), INPUTS, &[33, CLASSES]);
        model.compile(Adam::default()).unwrap();
        model.train_on_batch(x, &labels).unwrap();
        model
    });
    let mut gradients = vec![7.0; model.count_params()];
    let failed = model.gradients_with(
        x,
        |_, mut dy| {
            dy.set(0, 0, 1.0);
            Err::<(), _>(Error::NotCompiled)
        },
        &mut gradients,
    );
    assert!(matches!(failed, Err(Error::NotCompiled)));
    assert!(gradients.iter().all(|&gradient| gradient == 7.0));
    for model in [&mut model, &mut untouched] {
        model.train_on_batch(x, &labels).unwrap();
    }
    assert_identical(model.parameters(), untouched.parameters(), "parameters");
}
