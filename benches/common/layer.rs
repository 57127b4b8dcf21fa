//! Runs a dense layer's operations with densely, or with another library's matrix product.
//!
//! Each contestant computes all of it: product, bias and ReLU; product; product and bias gradient.

use densely::{Activation, Backend, MatMut, MatRef, dense};
use densely_testkit::random_values;
use rayon::prelude::*;

use super::sgemm::{Operand, Product};

/// (batch, inputs, outputs)
pub const SHAPES: [[usize; 3]; 13] = [
    [1, 784, 128],
    [8, 784, 128],
    [32, 784, 128],
    [128, 784, 128],
    [128, 128, 10],
    [64, 2352, 512],
    [256, 1024, 1024],
    [1024, 1024, 4096],
    [4096, 784, 128],
    [1, 4096, 4096],
    [17, 301, 77],
    [33, 785, 127],
    [50, 3072, 100],
];

/// The operations of a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    ForwardRelu,
    /// The same with weights stored as outputs x inputs.
    ForwardReluT,
    BackwardInput,
    /// Gradients with respect to the weights, then to the bias.
    BackwardParams,
}

impl Operation {
    pub const ALL: [Self; 4] = [Self::ForwardRelu, Self::ForwardReluT, Self::BackwardInput, Self::BackwardParams];

    pub fn name(self) -> &'static str {
        match self {
            Self::ForwardRelu => "forward_relu",
            Self::ForwardReluT => "forward_relu_t",
            Self::BackwardInput => "backward_input",
            Self::BackwardParams => "backward_params",
        }
    }

    /// The number of floats that it writes.
    pub fn len(self, [batch, inputs, outputs]: [usize; 3]) -> usize {
        match self {
            Self::ForwardRelu | Self::ForwardReluT => batch * outputs,
            Self::BackwardInput => batch * inputs,
            Self::BackwardParams => (inputs + 1) * outputs,
        }
    }

    /// The bytes that it reads and writes, each counted once.
    pub fn bytes(self, [batch, inputs, outputs]: [usize; 3]) -> usize {
        let bias = if self == Self::BackwardInput { 0 } else { outputs };
        size_of::<f32>() * (batch * inputs + inputs * outputs + batch * outputs + bias)
    }
}

/// The operands of a layer.
pub struct Layer {
    shape: [usize; 3],
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

impl Layer {
    pub fn new(shape @ [batch, inputs, outputs]: [usize; 3]) -> Self {
        let (x, w) = (random_values(1, batch * inputs), random_values(2, inputs * outputs));
        Self { shape, x, w, bias: random_values(3, outputs), dy: random_values(4, batch * outputs) }
    }
}

/// A library that runs a layer's operations.
pub trait Contestant: Sync {
    /// Fills `out`, of the length of the operation's results.
    fn work(&self, operation: Operation, layer: &Layer, out: &mut [f32]);
}

impl Contestant for Backend {
    fn work(&self, operation: Operation, layer: &Layer, out: &mut [f32]) {
        let &Layer { shape: [batch, inputs, outputs], ref x, ref w, ref bias, ref dy } = layer;
        let view = |data, rows, cols| MatRef::new(data, rows, cols).expect("sizes fit");
        let (x, dy) = (view(x, batch, inputs), view(dy, batch, outputs));
        let done = match operation {
            Operation::ForwardRelu | Operation::ForwardReluT => {
                let transposed = operation == Operation::ForwardReluT;
                let w = if transposed { view(w, outputs, inputs).t() } else { view(w, inputs, outputs) };
                let y = MatMut::new(out, batch, outputs).expect("sizes fit");
                dense::forward(self, x, w, Some(bias), Activation::Relu, y)
            }
            Operation::BackwardInput => {
                let dx = MatMut::new(out, batch, inputs).expect("sizes fit");
                dense::backward_input(self, dy, view(w, inputs, outputs), None, dx)
            }
            Operation::BackwardParams => {
                let (dw, db) = out.split_at_mut(inputs * outputs);
                let dw = MatMut::new(dw, inputs, outputs).expect("sizes fit");
                dense::backward_params(self, x, dy, dw, Some(db))
            }
        };
        done.expect("shapes fit");
    }
}

/// A matrix product with plain loops around it.
pub struct Peer<P>(pub P);

impl<P: Product> Contestant for Peer<P> {
    fn work(&self, operation: Operation, layer: &Layer, out: &mut [f32]) {
        let &Layer { shape: shape @ [batch, inputs, outputs], ref x, ref w, ref bias, ref dy } = layer;
        let product = &self.0;
        let (x, w_t) = (Operand::new(x, inputs), Operand::new(w, inputs).t());
        let (w, dy_matrix) = (Operand::new(w, outputs), Operand::new(dy, outputs));
        match operation {
            Operation::ForwardRelu | Operation::ForwardReluT => {
                let (threads, elements) = (product.threads(), out.len());
                in_parts(threads, elements, out, outputs, |_, y| {
                    y.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
                });
                let w = if operation == Operation::ForwardReluT { w_t } else { w };
                product.sgemm(shape, x, w, 1.0, out);
                in_parts(threads, elements, out, outputs, |_, y| y.iter_mut().for_each(|y| *y = y.max(0.0)));
            }
            Operation::BackwardInput => product.sgemm([batch, outputs, inputs], dy_matrix, w.t(), 0.0, out),
            Operation::BackwardParams => {
                let (dw, db) = out.split_at_mut(inputs * outputs);
                product.sgemm([inputs, batch, outputs], x.t(), dy_matrix, 0.0, dw);
                in_parts(product.threads(), dy.len(), db, 1, |first, db| {
                    db.fill(0.0);
                    for row in dy.chunks_exact(outputs) {
                        db.iter_mut().zip(&row[first..]).for_each(|(sum, dy)| *sum += dy);
                    }
                });
            }
        }
    }
}

/// Runs `work` on `out`, in a part for each thread if there are many elements.
///
/// Parts begin at multiples of `unit`.
fn in_parts(threads: usize, elements: usize, out: &mut [f32], unit: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if threads == 1 || elements < 1 << 17 {
        return work(0, out);
    }
    let part = (out.len() / unit).div_ceil(threads) * unit;
    out.par_chunks_mut(part).enumerate().for_each(|(i, out)| work(i * part, out));
}
