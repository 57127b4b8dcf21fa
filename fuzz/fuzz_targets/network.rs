//! Compares training and inference of arbitrary networks with the reference, bit for bit.
#![no_main]

use densely::nn::{Adam, AdamW, Clip, Fit, Optimizer, Predictor, Sequential, Sgd};
use densely::{Activation, Backend, reference};
use densely_fuzz::{Values, any_backends};
use densely_testkit::activations::with_parameters;
use densely_testkit::network::{Epochs, Layer, Network, Samples};
use densely_testkit::{assert_same_bits, row_major_mut};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Inputs of too few bytes make no case.
    let _ = check(&mut Unstructured::new(data));
});

struct Case {
    backends: Vec<Backend>,
    network: Network,
    /// With L2, without clipping.
    optimizer: Optimizer,
    clip: Option<Clip>,
    l2: f64,
    x: Vec<f32>,
    labels: Vec<u8>,
    sample_weights: Option<Vec<f32>>,
    epochs: Epochs,
}

fn any_network(u: &mut Unstructured<'_>) -> Result<Network> {
    let activations = with_parameters(0.25, 0.75);
    let mut layers = Vec::new();
    let mut inputs = u.int_in_range(1..=60)?;
    let depth = u.int_in_range(1..=4)?;
    for layer in 1..=depth {
        let units = u.int_in_range(1..=50)?;
        let dropouts = if u.ratio(1, 4)? { vec![f64::from(u.int_in_range(0..=7u8)?) / 8.0] } else { Vec::new() };
        let activation = if layer < depth { (*u.choose(&activations)?).into() } else { Activation::Softmax };
        layers.push(Layer { inputs, units, use_bias: u.arbitrary()?, activation, dropouts });
        inputs = units;
    }
    Ok(Network { layers, seed: 11 })
}

fn any_optimizer(u: &mut Unstructured<'_>) -> Result<Optimizer> {
    let rate = f64::from(u.int_in_range(0..=100u8)?) / 400.0;
    let sgd = Sgd::default().learning_rate(rate);
    Ok(match u.int_in_range(0..=4)? {
        0 => sgd.into(),
        1 => sgd.momentum(0.75).into(),
        2 => sgd.momentum(0.75).nesterov(true).into(),
        3 => Adam::default().learning_rate(rate).into(),
        _ => AdamW::default().learning_rate(rate).weight_decay(0.125).into(),
    })
}

fn any_case(u: &mut Unstructured<'_>) -> Result<Case> {
    let backends = any_backends(u)?;
    let network = any_network(u)?;
    let optimizer = any_optimizer(u)?;
    let l2 = if u.arbitrary()? { 0.0625 } else { 0.0 };
    let clip = *u.choose(&[None, Some(Clip::Value(0.125)), Some(Clip::GlobalNorm(0.5))])?;
    let samples = u.int_in_range(1..=40)?;
    let last_class = network.layers[network.layers.len() - 1].units as u8 - 1;
    let labels = (0..samples).map(|_| u.int_in_range(0..=last_class)).collect::<Result<_>>()?;
    let weight = |u: &mut Unstructured<'_>| Ok(f32::from(u.arbitrary::<u8>()?) / 64.0);
    let weighted = u.arbitrary()?;
    let sample_weights = if weighted { Some((0..samples).map(|_| weight(u)).collect::<Result<_>>()?) } else { None };
    let (batch_size, epochs) = (u.int_in_range(1..=samples)?, u.int_in_range(1..=3)?);
    let x = Values::any(u)?.take(u, samples * network.layers[0].inputs);
    let epochs = Epochs { epochs, batch_size };
    Ok(Case { backends, network, optimizer: optimizer.l2(l2), clip, l2, x, labels, sample_weights, epochs })
}

impl Case {
    fn samples(&self) -> Samples<'_> {
        Samples { x: &self.x, labels: &self.labels, weights: self.sample_weights.as_deref() }
    }

    fn model(&self, backend: &Backend) -> Sequential {
        let mut model = self.network.build(backend);
        let optimizer = self.clip.map_or(self.optimizer, |clip| self.optimizer.clip(clip));
        model.compile(optimizer).expect("valid hyperparameters");
        model
    }

    fn fit(&self, model: &mut Sequential) {
        let Epochs { epochs, batch_size } = self.epochs;
        let mut options = Fit::default().epochs(epochs).batch_size(batch_size).no_shuffle();
        if let Some(weights) = &self.sample_weights {
            options = options.sample_weights(weights);
        }
        model.fit(self.samples().x(), &self.labels, options).expect("samples and labels fit");
    }

    /// Trains the reference network from these parameters; returns its own.
    fn expected(&self, parameters: Vec<f32>) -> Vec<f32> {
        let [mut m, mut v] = [(); 2].map(|()| vec![0.0; parameters.len()]);
        let update = |step, w: &mut [f32], mut dw: Vec<f32>| {
            self.network.regularize(self.l2, self.clip, w, &mut dw);
            reference::update(self.optimizer, step, w, &dw, &mut m, &mut v).expect("lengths fit");
        };
        self.network.fit(parameters, self.samples(), self.epochs, update).parameters
    }
}

fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let case = any_case(u)?;
    let mut expected: Option<(Vec<f32>, Vec<f32>)> = None;
    for backend in &case.backends {
        let mut model = case.model(backend);
        let initial = model.parameters().to_vec();
        case.fit(&mut model);
        let (parameters, logits) = expected.get_or_insert_with(|| {
            let parameters = case.expected(initial);
            let logits = case.network.logits(&parameters, case.samples().x());
            (parameters, logits)
        });
        assert_same_bits(model.parameters(), parameters, backend.isa().name());
        let mut found = vec![f32::NAN; logits.len()];
        let y = row_major_mut(&mut found, case.labels.len());
        Predictor::new(&model).logits_into(case.samples().x(), y).expect("shapes fit");
        assert_same_bits(&found, logits, backend.isa().name());
    }
    Ok(())
}
