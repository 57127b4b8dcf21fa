//! Compares training and inference of arbitrary networks with the reference, bit for bit.
#![no_main]

use densely::loss::CrossEntropy;
use densely::nn::{Adam, AdamW, Clip, Dense, DenseActivation, Dropout, Fit, Optimizer, Predictor, Sequential, Sgd};
use densely::{Activation, Backend, MatMut, MatRef, reference};
use densely_fuzz::{Values, assert_same, backends};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // An input too short for the sizes is no test case.
    let _ = check(&mut Unstructured::new(data));
});

const SEED: u64 = 11;

struct Layer {
    inputs: usize,
    outputs: usize,
    bias: bool,
    /// Rate of the dropout before the layer.
    dropout: Option<f64>,
    /// The last layer's is softmax, which the loss includes.
    activation: DenseActivation,
}

impl Layer {
    fn parameters(&self) -> usize {
        self.inputs * self.outputs + if self.bias { self.outputs } else { 0 }
    }
}

struct Case {
    layers: Vec<Layer>,
    optimizer: Optimizer,
    clip: Option<Clip>,
    l2: f64,
    x: Vec<f32>,
    labels: Vec<u8>,
    sample_weights: Option<Vec<f32>>,
    batch_size: usize,
    epochs: usize,
    threads: Vec<Backend>,
}

const ACTIVATIONS: [Activation; 9] = [
    Activation::Linear,
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.25 },
    Activation::Elu { alpha: 0.75 },
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Softplus,
    Activation::Silu,
    Activation::Gelu,
];

fn any_case(u: &mut Unstructured<'_>) -> Result<Case> {
    let threads = backends(u)?;
    let mut layers = Vec::new();
    let mut inputs = u.int_in_range(1..=60)?;
    let depth = u.int_in_range(1..=4)?;
    for layer in 1..=depth {
        let outputs = u.int_in_range(1..=50)?;
        let dropout = if u.ratio(1, 4)? { Some(f64::from(u.int_in_range(0..=7u8)?) / 8.0) } else { None };
        let activation = if layer < depth { (*u.choose(&ACTIVATIONS)?).into() } else { Activation::Softmax };
        layers.push(Layer { inputs, outputs, bias: u.arbitrary()?, dropout, activation });
        inputs = outputs;
    }
    let rate = f64::from(u.int_in_range(0..=100u8)?) / 400.0;
    let sgd = Sgd::default().learning_rate(rate);
    let optimizer: Optimizer = match u.int_in_range(0..=4)? {
        0 => sgd.into(),
        1 => sgd.momentum(0.75).into(),
        2 => sgd.momentum(0.75).nesterov(true).into(),
        3 => Adam::default().learning_rate(rate).into(),
        _ => AdamW::default().learning_rate(rate).weight_decay(0.125).into(),
    };
    let l2 = if u.arbitrary()? { 0.0625 } else { 0.0 };
    let clip = *u.choose(&[None, Some(Clip::Value(0.125)), Some(Clip::GlobalNorm(0.5))])?;
    let samples = u.int_in_range(1..=40)?;
    let labels = (0..samples).map(|_| u.int_in_range(0..=inputs as u8 - 1)).collect::<Result<_>>()?;
    let weight = |u: &mut Unstructured<'_>| Ok(f32::from(u.arbitrary::<u8>()?) / 64.0);
    let weighted = u.arbitrary()?;
    let sample_weights = if weighted { Some((0..samples).map(|_| weight(u)).collect::<Result<_>>()?) } else { None };
    let (batch_size, epochs) = (u.int_in_range(1..=samples)?, u.int_in_range(1..=3)?);
    let mut values = Values::new(u)?;
    let x = (0..samples * layers[0].inputs).map(|_| values.next(u)).collect();
    Ok(Case { layers, optimizer: optimizer.l2(l2), clip, l2, x, labels, sample_weights, batch_size, epochs, threads })
}

impl Case {
    fn model(&self, backend: &Backend) -> densely::Result<Sequential> {
        let mut builder = Sequential::builder(self.layers[0].inputs).backend(backend.clone()).seed(SEED);
        for layer in &self.layers {
            if let Some(rate) = layer.dropout {
                builder = builder.layer(Dropout::new(rate));
            }
            builder = builder.layer(Dense::new(layer.outputs, layer.activation).use_bias(layer.bias));
        }
        let mut model = builder.build()?;
        model.compile(self.clip.map_or(self.optimizer, |clip| self.optimizer.clip(clip)))?;
        Ok(model)
    }

    fn fit(&self, model: &mut Sequential) -> densely::Result<()> {
        let mut options = Fit::default().epochs(self.epochs).batch_size(self.batch_size).no_shuffle();
        if let Some(weights) = &self.sample_weights {
            options = options.sample_weights(weights);
        }
        model.fit(MatRef::new(&self.x, self.labels.len(), self.layers[0].inputs)?, &self.labels, options).map(drop)
    }

    /// Applies the dropout before a layer, if there is one.
    fn dropped(&self, layer: usize, step: u64, x: Vec<f32>, rows: usize) -> densely::Result<Vec<f32>> {
        let Some(rate) = self.layers[layer].dropout else { return Ok(x) };
        let number = self.layers[..layer].iter().filter(|layer| layer.dropout.is_some()).count() as u64;
        let (mut y, cols) = (vec![0.0; x.len()], x.len() / rows);
        let to = MatMut::new(&mut y, rows, cols)?;
        reference::dropout(Dropout::new(rate), [SEED, number, step], MatRef::new(&x, rows, cols)?, to)?;
        Ok(y)
    }

    /// Runs the forward pass, and returns the input of each layer and its outputs before and after the
    /// activation.
    fn forward(&self, w: &[f32], x: &[f32], rows: usize, step: Option<u64>) -> densely::Result<Pass> {
        let mut pass = Pass { inputs: Vec::new(), before: Vec::new(), after: Vec::new() };
        let (mut x, mut start) = (x.to_vec(), 0);
        for (number, layer) in self.layers.iter().enumerate() {
            x = if let Some(step) = step { self.dropped(number, step, x, rows)? } else { x };
            let (kernel, rest) = w[start..].split_at(layer.inputs * layer.outputs);
            let bias = layer.bias.then(|| &rest[..layer.outputs]);
            let [mut before, mut after] = [(); 2].map(|()| vec![0.0; rows * layer.outputs]);
            let kernel = MatRef::new(kernel, layer.inputs, layer.outputs)?;
            let input = MatRef::new(&x, rows, layer.inputs)?;
            let to = MatMut::new(&mut before, rows, layer.outputs)?;
            reference::dense_forward(input, kernel, bias, Activation::Linear, to)?;
            let to = MatMut::new(&mut after, rows, layer.outputs)?;
            reference::activation_forward(
                layer.activation.elementwise(),
                MatRef::new(&before, rows, layer.outputs)?,
                to,
            )?;
            pass.inputs.push(std::mem::replace(&mut x, after.clone()));
            pass.before.push(before);
            pass.after.push(after);
            start += layer.parameters();
        }
        Ok(pass)
    }

    fn gradients(&self, w: &[f32], batch: usize, step: u64) -> densely::Result<Vec<f32>> {
        let first = batch * self.batch_size;
        let rows = self.batch_size.min(self.labels.len() - first);
        let inputs = self.layers[0].inputs;
        let pass = self.forward(w, &self.x[first * inputs..][..rows * inputs], rows, Some(step))?;
        let logits = &pass.after[self.layers.len() - 1];
        let classes = logits.len() / rows;
        let (mut dy, mut losses) = (vec![0.0; logits.len()], vec![0.0; rows]);
        let (logits, mut to) = (MatRef::new(logits, rows, classes)?, MatMut::new(&mut dy, rows, classes)?);
        let labels = &self.labels[first..first + rows];
        let gradients = Some(to.reborrow());
        reference::cross_entropy(&CrossEntropy::new(), logits, labels, Some(&mut losses), gradients)?;
        if let Some(weights) = &self.sample_weights {
            reference::weigh(&weights[first..first + rows], &mut losses, to)?;
        }
        let mut gradients = vec![0.0; w.len()];
        let mut end = w.len();
        for (number, layer) in self.layers.iter().enumerate().rev() {
            let start = end - layer.parameters();
            let (dw, db) = gradients[start..end].split_at_mut(layer.inputs * layer.outputs);
            let input = MatRef::new(&pass.inputs[number], rows, layer.inputs)?;
            let dw = MatMut::new(dw, layer.inputs, layer.outputs)?;
            reference::dense_backward_params(
                input,
                MatRef::new(&dy, rows, layer.outputs)?,
                dw,
                layer.bias.then_some(db),
            )?;
            if number > 0 {
                let activation = self.layers[number - 1].activation.elementwise();
                let saved = if activation.saves_input() { &pass.before } else { &pass.after };
                let gate = Some((activation, MatRef::new(&saved[number - 1], rows, layer.inputs)?));
                let kernel = MatRef::new(&w[start..start + layer.inputs * layer.outputs], layer.inputs, layer.outputs)?;
                let mut dx = vec![0.0; rows * layer.inputs];
                let to = MatMut::new(&mut dx, rows, layer.inputs)?;
                reference::dense_backward_input(MatRef::new(&dy, rows, layer.outputs)?, kernel, gate, to)?;
                dy = self.dropped(number, step, dx, rows)?;
            }
            end = start;
        }
        Ok(gradients)
    }

    /// Trains these parameters with the reference.
    fn train(&self, mut w: Vec<f32>) -> densely::Result<Vec<f32>> {
        let (mut m, mut v, mut step) = (vec![0.0; w.len()], vec![0.0; w.len()], 0);
        for _ in 0..self.epochs {
            for batch in 0..self.labels.len().div_ceil(self.batch_size) {
                let mut dw = self.gradients(&w, batch, step)?;
                let mut start = 0;
                for layer in &self.layers {
                    let kernel = start..start + layer.inputs * layer.outputs;
                    reference::add_l2(self.l2, &w[kernel.clone()], &mut dw[kernel])?;
                    start += layer.parameters();
                }
                if let Some(clip) = self.clip {
                    reference::clip(clip, &mut dw)?;
                }
                step += 1;
                reference::update(self.optimizer, step as u32, &mut w, &dw, &mut m, &mut v)?;
            }
        }
        Ok(w)
    }
}

struct Pass {
    inputs: Vec<Vec<f32>>,
    before: Vec<Vec<f32>>,
    after: Vec<Vec<f32>>,
}

fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let case = any_case(u)?;
    let mut trained: Option<(Vec<f32>, Vec<f32>)> = None;
    for backend in &case.threads {
        let mut model = case.model(backend).expect("a valid network");
        let before = model.parameters().to_vec();
        case.fit(&mut model).expect("samples and labels fit");
        let samples = case.labels.len();
        let (expected, logits) = trained.get_or_insert_with(|| {
            let w = case.train(before).expect("shapes fit");
            let pass = case.forward(&w, &case.x, samples, None).expect("shapes fit");
            (w, pass.after[case.layers.len() - 1].clone())
        });
        assert_same(model.parameters(), expected, backend.isa());
        let mut found = vec![f32::NAN; logits.len()];
        let x = MatRef::new(&case.x, samples, case.layers[0].inputs).expect("shapes fit");
        let y = MatMut::new(&mut found, samples, logits.len() / samples).expect("shapes fit");
        Predictor::new(&model).logits_into(x, y).expect("shapes fit");
        assert_same(&found, logits, backend.isa());
    }
    Ok(())
}
