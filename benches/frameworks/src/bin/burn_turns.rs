//! burn's turns, on its backend Flex.

use burn::module::Param;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::prelude::*;
use burn::tensor::activation::{log_softmax, relu};
use densely_frameworks::{Framework, Inference, Net, Result, Shuffle, Training, serve, version};

struct Burn;

#[derive(Module, Debug)]
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    fn new(net: &Net, device: &Device) -> Self {
        let layers = net.layers.iter().map(|layer| {
            let (inputs, outputs) = (layer.inputs, layer.outputs);
            let mut linear = LinearConfig::new(inputs, outputs).init(device);
            let kernel = TensorData::new(layer.kernel.clone(), [inputs, outputs]);
            linear.weight = Param::from_tensor(Tensor::from_data(kernel, device));
            let bias = TensorData::new(layer.bias.clone(), [outputs]);
            linear.bias = Some(Param::from_tensor(Tensor::from_data(bias, device)));
            linear
        });
        Self { layers: layers.collect() }
    }

    fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        let last = self.layers.len() - 1;
        let x = self.layers[..last].iter().fold(x, |x, layer| relu(layer.forward(x)));
        self.layers[last].forward(x)
    }
}

struct Trained {
    /// None only while a step makes a new one of it.
    model: Option<Mlp>,
    optimizer: ModuleOptimizer,
    loss: CrossEntropyLoss,
    x: Tensor<2>,
    labels: Tensor<1, Int>,
    batch: usize,
    shuffle: Shuffle,
}

impl Training for Trained {
    fn epoch(&mut self) -> Result<[f32; 2]> {
        let samples = self.labels.dims()[0];
        let device = self.x.device();
        let (mut total, mut hits) = (0.0, 0.0);
        for indices in self.shuffle.order(samples).chunks(self.batch) {
            let model = self.model.take().ok_or("a step has failed")?;
            let taken = TensorData::new(indices.iter().map(|&i| i as i32).collect(), [indices.len()]);
            let taken = Tensor::<1, Int>::from_data(taken, &device);
            let (x, labels) = (self.x.clone().select(0, taken.clone()), self.labels.clone().select(0, taken));
            let logits = model.logits(x);
            let loss = self.loss.forward(logits.clone(), labels.clone());
            total += loss.clone().into_scalar::<f32>() * indices.len() as f32;
            let hit = logits.argmax(1).squeeze_dim::<1>(1).equal(labels);
            hits += hit.int().sum().into_scalar::<i32>() as f32;
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            self.model = Some(self.optimizer.step(1e-3, model, gradients));
        }
        Ok([total / samples as f32, hits / samples as f32])
    }
}

struct Asked {
    model: Mlp,
    x: Tensor<2>,
    y: Option<Tensor<2>>,
}

impl Inference for Asked {
    fn call(&mut self) -> Result<()> {
        self.y = Some(log_softmax(self.model.logits(self.x.clone()), 1));
        Ok(())
    }

    fn answer(&self) -> Result<Vec<f32>> {
        let y = self.y.clone().ok_or("there is no answer yet")?;
        y.into_data().try_to_vec::<f32>().map_err(|error| format!("{error:?}").into())
    }
}

impl Framework for Burn {
    fn about() -> String {
        let gemm = if cfg!(feature = "x86-v4") { "with" } else { "without" };
        format!("{}, {}, {} {gemm} x86-v4", version("burn"), version("burn-flex"), version("gemm"))
    }

    fn train(net: &Net, batch: usize) -> Result<Box<dyn Training>> {
        let device = Device::flex().autodiff();
        let samples = net.labels.len();
        let labels = net.labels.iter().map(|&label| label as i32).collect();
        Ok(Box::new(Trained {
            model: Some(Mlp::new(net, &device)),
            optimizer: AdamConfig::new().with_epsilon(1e-7).init(),
            loss: CrossEntropyLossConfig::new().init(&device),
            x: Tensor::from_data(TensorData::new(net.x()?, [samples, net.inputs()]), &device),
            labels: Tensor::from_data(TensorData::new(labels, [samples]), &device),
            batch,
            shuffle: Shuffle::default(),
        }))
    }

    fn infer(net: &Net, batch: usize) -> Result<Box<dyn Inference>> {
        let device = Device::flex();
        let x = Tensor::from_data(TensorData::new(net.first(batch)?, [batch, net.inputs()]), &device);
        Ok(Box::new(Asked { model: Mlp::new(net, &device), x, y: None }))
    }
}

fn main() -> Result<()> {
    serve::<Burn>()
}
