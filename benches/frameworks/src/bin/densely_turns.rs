//! densely's turns: `Sequential::fit`, and a `Predictor` whose output stays where it is.

use densely::nn::{Activation, Adam, Dense, Fit, Predictor, Sequential};
use densely::{Backend, MatMut, MatRef};
use densely_frameworks::{Framework, Inference, Net, Result, Training, serve, version};

struct Densely;

fn model(net: &Net) -> Result<Sequential> {
    let mut builder = Sequential::builder(net.inputs());
    for (i, layer) in net.layers.iter().enumerate() {
        let activation = if i + 1 < net.layers.len() { Activation::Relu.into() } else { Activation::Softmax };
        builder = builder.layer(Dense::new(layer.outputs, activation));
    }
    let mut model = builder.build()?;
    let weights: Vec<f32> =
        net.layers.iter().flat_map(|layer| layer.kernel.iter().chain(&layer.bias)).copied().collect();
    model.parameters_mut().copy_from_slice(&weights);
    Ok(model)
}

struct Trained {
    model: Sequential,
    x: Vec<f32>,
    labels: Vec<u32>,
    batch: usize,
    epochs: u64,
}

impl Training for Trained {
    fn epoch(&mut self) -> Result<[f32; 2]> {
        let x = MatRef::new(&self.x, self.labels.len(), self.model.inputs())?;
        self.epochs += 1;
        // A call is one epoch, the first of its own order: another seed is another order.
        let fit = Fit::default().batch_size(self.batch).shuffle(self.epochs);
        let history = self.model.fit(x, &self.labels, fit)?;
        let end = history.epochs().last().ok_or("there was no epoch")?;
        Ok([end.loss, end.accuracy])
    }
}

struct Asked {
    predictor: Predictor,
    x: Vec<f32>,
    y: Vec<f32>,
    batch: usize,
}

impl Inference for Asked {
    fn call(&mut self) -> Result<()> {
        let x = MatRef::new(&self.x, self.batch, self.predictor.inputs())?;
        let y = MatMut::new(&mut self.y, self.batch, self.predictor.outputs())?;
        Ok(self.predictor.log_probabilities_into(x, y)?)
    }

    fn answer(&self) -> Result<Vec<f32>> {
        Ok(self.y.clone())
    }
}

impl Framework for Densely {
    fn about() -> String {
        let isa = Backend::new().map_or_else(|error| error.to_string(), |backend| backend.isa().to_string());
        format!("{} on {isa}", version("densely"))
    }

    fn train(net: &Net, batch: usize) -> Result<Box<dyn Training>> {
        let mut model = model(net)?;
        model.compile(Adam::default())?;
        Ok(Box::new(Trained { model, x: net.x()?, labels: net.labels.clone(), batch, epochs: 0 }))
    }

    fn infer(net: &Net, batch: usize) -> Result<Box<dyn Inference>> {
        let x = net.first(batch)?;
        let y = vec![0.0; batch * net.outputs()];
        Ok(Box::new(Asked { predictor: Predictor::new(&model(net)?), x, y, batch }))
    }
}

fn main() -> Result<()> {
    serve::<Densely>()
}
