//! candle's turns, on its CPU device.

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW};
use densely_frameworks::{Framework, Inference, Net, Result, Shuffle, Training, serve, version};

struct Candle;

/// Layers, and their weights as what is trained.
fn layers(net: &Net) -> candle_core::Result<(Vec<Linear>, Vec<Var>)> {
    let mut vars = Vec::new();
    let mut var = |tensor: Tensor| {
        let var = Var::from_tensor(&tensor)?;
        vars.push(var.clone());
        candle_core::Result::Ok(var.as_tensor().clone())
    };
    let mut layers = Vec::new();
    for layer in &net.layers {
        let kernel = Tensor::from_slice(&layer.kernel, (layer.inputs, layer.outputs), &Device::Cpu)?;
        let bias = Tensor::from_slice(&layer.bias, layer.outputs, &Device::Cpu)?;
        layers.push(Linear::new(var(kernel.t()?.contiguous()?)?, Some(var(bias)?)));
    }
    Ok((layers, vars))
}

fn logits(layers: &[Linear], x: &Tensor) -> candle_core::Result<Tensor> {
    let mut x = x.clone();
    for (i, layer) in layers.iter().enumerate() {
        x = layer.forward(&x)?;
        if i + 1 < layers.len() {
            x = x.relu()?;
        }
    }
    Ok(x)
}

struct Trained {
    layers: Vec<Linear>,
    optimizer: AdamW,
    x: Tensor,
    labels: Tensor,
    batch: usize,
    shuffle: Shuffle,
}

impl Training for Trained {
    fn epoch(&mut self) -> Result<[f32; 2]> {
        let samples = self.labels.elem_count();
        let (mut total, mut hits) = (0.0, 0.0);
        for indices in self.shuffle.order(samples).chunks(self.batch) {
            let indices = Tensor::from_slice(indices, indices.len(), &Device::Cpu)?;
            let (x, labels) = (self.x.index_select(&indices, 0)?, self.labels.index_select(&indices, 0)?);
            let logits = logits(&self.layers, &x)?;
            let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
            self.optimizer.backward_step(&loss)?;
            total += loss.to_scalar::<f32>()? * indices.elem_count() as f32;
            let hit = logits.argmax(D::Minus1)?.eq(&labels)?;
            hits += hit.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
        }
        Ok([total / samples as f32, hits / samples as f32])
    }
}

struct Asked {
    layers: Vec<Linear>,
    x: Tensor,
    y: Option<Tensor>,
}

impl Inference for Asked {
    fn call(&mut self) -> Result<()> {
        self.y = Some(candle_nn::ops::log_softmax(&logits(&self.layers, &self.x)?, D::Minus1)?);
        Ok(())
    }

    fn answer(&self) -> Result<Vec<f32>> {
        Ok(self.y.as_ref().ok_or("there is no answer yet")?.flatten_all()?.to_vec1()?)
    }
}

impl Framework for Candle {
    fn about() -> String {
        let gemm = if cfg!(feature = "x86-v4") { "with" } else { "without" };
        format!("{}, {} {gemm} x86-v4", version("candle-core"), version("gemm"))
    }

    fn train(net: &Net, batch: usize) -> Result<Box<dyn Training>> {
        let (layers, vars) = layers(net)?;
        let settings = ParamsAdamW { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-7, weight_decay: 0.0 };
        let samples = net.labels.len();
        Ok(Box::new(Trained {
            layers,
            optimizer: AdamW::new(vars, settings)?,
            x: Tensor::from_vec(net.x()?, (samples, net.inputs()), &Device::Cpu)?,
            labels: Tensor::from_slice(&net.labels, samples, &Device::Cpu)?,
            batch,
            shuffle: Shuffle::default(),
        }))
    }

    fn infer(net: &Net, batch: usize) -> Result<Box<dyn Inference>> {
        // Without gradients there is no graph to keep.
        let layers = layers(net)?.0.into_iter();
        let layers = layers.map(|layer| Linear::new(layer.weight().detach(), layer.bias().map(Tensor::detach)));
        let x = Tensor::from_vec(net.first(batch)?, (batch, net.inputs()), &Device::Cpu)?;
        Ok(Box::new(Asked { layers: layers.collect(), x, y: None }))
    }
}

fn main() -> Result<()> {
    serve::<Candle>()
}
