//! What is measured, and the files that all contestants start from.

use std::fs;
use std::path::Path;

use densely::MatRef;
use densely::nn::{Activation, Dense, Sequential};
use densely_frameworks::{Result, write};
use densely_testkit::random_values;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Epochs of the tutorial's network.
    Train,
    /// Steps of a wider one.
    Step,
    /// Logarithms of probabilities.
    Infer,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Train, Self::Step, Self::Infer];

    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Step => "step",
            Self::Infer => "infer",
        }
    }
}

/// A network, by its sizes, and a batch.
pub struct Work {
    pub part: Part,
    pub net: &'static str,
    pub batch: usize,
}

const TUTORIAL: &str = "784-128-10";
const WIDE: &str = "3072-512-512-100";
const TINY: &str = "6-64-8-4";

/// Networks and how many samples they have.
const NETS: [(&str, usize); 3] = [(TUTORIAL, 60_000), (WIDE, 6400), (TINY, 256)];

const WORKS: [(Part, &str, &[usize]); 5] = [
    (Part::Train, TUTORIAL, &[32, 128, 1024]),
    (Part::Step, WIDE, &[64]),
    (Part::Infer, TUTORIAL, &[1, 32, 256, 10_000]),
    (Part::Infer, WIDE, &[1, 32, 256]),
    (Part::Infer, TINY, &[1]),
];

impl Work {
    pub fn of(part: Part) -> Vec<Self> {
        let these = WORKS.iter().filter(|(of, ..)| *of == part);
        these.flat_map(|&(part, net, batches)| batches.iter().map(move |&batch| Self { part, net, batch })).collect()
    }

    pub fn name(&self) -> String {
        let what = match self.part {
            Part::Train => "epoch, ms:",
            Part::Step => "step, us:",
            Part::Infer => "call, us:",
        };
        format!("{what:<10} {} x {}", self.batch, self.net)
    }

    /// A turn's time in nanoseconds as the figure that the table shows.
    pub fn figure(&self, time: f64) -> f64 {
        match self.part {
            Part::Train => time / 1e6,
            Part::Step => time / 1e3 / self.steps() as f64,
            Part::Infer => time / 1e3,
        }
    }

    /// Floating-point operations of the products in what a turn's time is of: an epoch or a call.
    pub fn flop(&self) -> f64 {
        let sizes: Vec<f64> = self.net.split('-').map(|size| size.parse().unwrap_or_default()).collect();
        let layers: Vec<f64> = sizes.windows(2).map(|pair| 2.0 * pair[0] * pair[1]).collect();
        let forward: f64 = layers.iter().sum();
        if self.part == Part::Infer {
            return self.batch as f64 * forward;
        }
        // Nobody wants the gradients by the samples.
        self.samples() as f64 * (3.0 * forward - layers[0])
    }

    /// Samples of the network.
    fn samples(&self) -> usize {
        NETS.iter().find(|(name, _)| *name == self.net).map_or(0, |(_, samples)| *samples)
    }

    /// Steps of an epoch.
    fn steps(&self) -> usize {
        self.samples().div_ceil(self.batch)
    }
}

/// Writes the networks that these parts need.
pub fn prepare(folder: &Path, parts: &[Part]) -> Result<()> {
    for (net, samples) in NETS {
        if WORKS.iter().any(|(part, name, _)| *name == net && parts.contains(part)) {
            prepare_net(&folder.join(net), net, samples)?;
        }
    }
    Ok(())
}

/// Random samples, with labels that a single layer can tell from them, so that training has something to
/// learn.
fn prepare_net(folder: &Path, net: &str, samples: usize) -> Result<()> {
    let sizes = net.split('-').map(str::parse).collect::<std::result::Result<Vec<usize>, _>>()?;
    let (inputs, outputs) = (sizes[0], sizes[sizes.len() - 1]);
    let values = random_values(1, samples * inputs);
    let x = MatRef::new(&values, samples, inputs)?;
    let teacher = Sequential::builder(inputs).layer(Dense::new(outputs, Activation::Softmax)).seed(1).build()?;
    let labels: Vec<u32> = teacher.predict_classes(x)?.into_iter().map(|class| class as u32).collect();
    let mut model = Sequential::builder(inputs);
    for &units in &sizes[1..] {
        // Only the sizes matter here: contestants have activations of their own.
        model = model.layer(Dense::new(units, Activation::Linear));
    }
    let model = model.build()?;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write(&folder.join("x"), &values, f32::to_le_bytes)?;
    write(&folder.join("labels"), &labels, u32::to_le_bytes)?;
    write(&folder.join("weights"), model.parameters(), f32::to_le_bytes)
}
