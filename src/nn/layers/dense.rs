//! `Dense`: y = activation(x kernel + bias).

use crate::activation;
use crate::backend::Backend;
use crate::dense;
use crate::error::{Error, Result};
use crate::gemm::packed::{PackedWeights, Weights};
use crate::kernels::Input;
use crate::matrix::{MatMut, MatRef};
use crate::nn::activation::DenseActivation;
use crate::nn::initializer::Initializer;
use crate::nn::layers::interface::{
    BackwardSlots, ColumnCounts, ForwardSlots, GradientInputs, LayerConfig, NodeContext, NodeKind, NodeParameters,
    PackedParameters, ParameterBlock, ParameterCounts, ParameterTensor, Position,
};
use crate::nn::shape::Shape;

/// The most floats that a slice can hold.
const MAX_PARAMETERS: usize = isize::MAX as usize / size_of::<f32>();

/// A fully connected layer: activation(x kernel + bias), where x is batch x inputs, the kernel inputs x
/// units.
///
/// A sample must have one axis by then: one of several goes through [`Flatten`](crate::nn::Flatten) before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dense {
    pub(crate) units: usize,
    pub(crate) activation: DenseActivation,
    pub(crate) use_bias: bool,
    pub(crate) kernel_initializer: Initializer,
}

impl Dense {
    /// A layer with this number of units (outputs), a bias and a Glorot-uniform kernel.
    #[must_use]
    pub fn new(units: usize, activation: impl Into<DenseActivation>) -> Self {
        Self { units, activation: activation.into(), use_bias: true, kernel_initializer: Initializer::default() }
    }

    /// Sets whether a bias is added, true unless set.
    #[must_use]
    pub fn use_bias(self, use_bias: bool) -> Self {
        Self { use_bias, ..self }
    }

    /// Sets how the kernel is initialized.
    #[must_use]
    pub fn kernel_initializer(self, kernel_initializer: Initializer) -> Self {
        Self { kernel_initializer, ..self }
    }

    /// Checks the layer at its position, and makes its node.
    ///
    /// # Errors
    /// [`Error::Shape`] if its input is not flat, or it has no units or more parameters than fit memory;
    /// [`Error::Value`] if there is softmax below it, or its activation has a bad parameter.
    pub(crate) fn plan(&self, at: &Position<'_>) -> Result<DenseNode> {
        let &[inputs] = at.input.axes() else {
            return Err(Error::shape("layer", "flat input for Dense: put Flatten before it", at.input));
        };
        if let Some(name) = at.softmax_below {
            return Err(Error::value(
                "layer",
                "softmax in the last layer only",
                format_args!("a layer behind `{name}`"),
            ));
        }
        self.activation.elementwise().check()?;
        if self.units == 0 {
            return Err(Error::shape("units", "at least 1", 0));
        }
        let bias = if self.use_bias { self.units } else { 0 };
        let all = inputs.checked_mul(self.units).and_then(|kernel| kernel.checked_add(bias));
        if all.and_then(|all| all.checked_add(at.parameters_below)).is_none_or(|all| all > MAX_PARAMETERS) {
            return Err(Error::shape("units", "a number of parameters that fits memory", self.units));
        }
        Ok(DenseNode {
            inputs,
            outputs: self.units,
            activation: self.activation,
            has_bias: self.use_bias,
            initializer: self.kernel_initializer,
            number: at.number as u32,
        })
    }
}

impl LayerConfig for Dense {
    fn kind(&self) -> &'static str {
        "Dense"
    }

    fn config(&self) -> String {
        let bias = if self.use_bias { "" } else { " without bias" };
        format!("Dense {} {:?}{bias}", self.units, self.activation)
    }

    fn output_shape(&self, _: &Shape) -> Shape {
        Shape::from(self.units)
    }
}

/// The node of a [`Dense`] layer. Its parameters are the kernel, row-major, inputs x outputs, then the bias.
#[derive(Clone, Debug)]
pub(crate) struct DenseNode {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) activation: DenseActivation,
    pub(crate) has_bias: bool,
    initializer: Initializer,
    /// Which of the model's dense layers it is.
    number: u32,
}

impl DenseNode {
    /// Elements of the kernel.
    pub(crate) fn kernel_len(&self) -> usize {
        self.inputs * self.outputs
    }

    /// A layer of the same inputs with fewer outputs.
    pub(crate) fn with_outputs(&self, outputs: usize) -> Self {
        Self { outputs, ..self.clone() }
    }

    /// Views its flat parameters as the kernel, inputs x outputs.
    fn kernel<'a>(&self, parameters: &'a [f32]) -> Result<MatRef<'a>> {
        MatRef::new(&parameters[..self.kernel_len()], self.inputs, self.outputs)
    }

    /// The kernel and the bias, in either layout.
    fn operands<'a>(&self, parameters: NodeParameters<'a>) -> Result<(Weights<'a>, Option<&'a [f32]>)> {
        let flat = match parameters {
            NodeParameters::Flat(flat) => flat,
            NodeParameters::Packed(PackedParameters { kernel: Some(kernel), others }) => {
                return Ok((kernel.into(), self.has_bias.then_some(others)));
            }
            NodeParameters::Packed(PackedParameters { kernel: None, others }) => others,
        };
        let bias = &flat[self.kernel_len()..];
        Ok((self.kernel(flat)?.into(), self.has_bias.then_some(bias)))
    }

    /// The columns of the input that a block's kernel rows multiply, and those of dy that its columns
    /// compute.
    fn factors<'a>(block: &ParameterBlock, GradientInputs { x, dy }: GradientInputs<'a>) -> GradientInputs<'a> {
        GradientInputs {
            x: x.split_at_col(block.rows.start).1.split_at_col(block.rows.len()).0,
            dy: dy.split_at_col(block.cols.start).1.split_at_col(block.cols.len()).0,
        }
    }
}

impl NodeKind for DenseNode {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn columns(&self) -> ColumnCounts {
        let saved = if self.activation.elementwise().saves_input() { self.outputs } else { 0 };
        ColumnCounts { saved, output: self.outputs, gradient: self.outputs }
    }

    fn activation(&self) -> DenseActivation {
        self.activation
    }

    fn tensors(&self) -> Vec<ParameterTensor> {
        let kernel = self.kernel_len();
        let mut tensors =
            vec![ParameterTensor { name: "kernel", shape: vec![self.inputs, self.outputs], range: 0..kernel }];
        if self.has_bias {
            let range = kernel..kernel + self.outputs;
            tensors.push(ParameterTensor { name: "bias", shape: vec![self.outputs], range });
        }
        tensors
    }

    fn parameters(&self) -> ParameterCounts {
        let (kernel, bias) = (self.kernel_len(), if self.has_bias { self.outputs } else { 0 });
        ParameterCounts { all: kernel + bias, kernel, rows: self.inputs }
    }

    fn initialize(&self, seed: u64, parameters: &mut [f32]) {
        let kernel = &mut parameters[..self.kernel_len()];
        self.initializer.fill(kernel, [self.inputs, self.outputs], seed, self.number);
    }

    fn pack(&self, parameters: &[f32]) -> PackedParameters {
        let kernel = self.kernel(parameters).ok().map(PackedWeights::new);
        let others = parameters[kernel.as_ref().map_or(0, |_| self.kernel_len())..].to_vec();
        PackedParameters { kernel, others }
    }

    fn work(&self) -> usize {
        self.kernel_len()
    }

    fn forward(&self, backend: &Backend, context: NodeContext<'_>, slots: ForwardSlots<'_>) -> Result<()> {
        let ForwardSlots { x, saved, y } = slots;
        let (kernel, bias) = self.operands(context.parameters)?;
        let activation = self.activation.elementwise();
        let Some(mut saved) = saved else { return dense::forward(backend, x, kernel, bias, activation, y) };
        dense::forward(backend, x, kernel, bias, Default::default(), saved.reborrow())?;
        activation::forward(backend, activation, saved.as_ref(), y)
    }

    fn backward(&self, backend: &Backend, context: NodeContext<'_>, slots: BackwardSlots<'_>) -> Result<()> {
        let BackwardSlots { dy, gate, dx } = slots;
        let (Input::Matrix(dy), NodeParameters::Flat(parameters)) = (dy, context.parameters) else { return Ok(()) };
        dense::backward_input(backend, dy, self.kernel(parameters)?, Some((gate.activation, gate.saved)), dx)
    }

    fn gradients(
        &self,
        backend: &Backend,
        block: &ParameterBlock,
        inputs: GradientInputs<'_>,
        dw: &mut [f32],
    ) -> Result<()> {
        let GradientInputs { x, dy } = Self::factors(block, inputs);
        let (dw, db) = dw.split_at_mut(block.rows.len() * block.width());
        let dw = MatMut::new(dw, block.rows.len(), block.width())?;
        dense::backward_params(backend, x, dy, dw, block.has_bias.then_some(db))
    }

    fn kernel_gradient_factors<'a>(
        &self,
        block: &ParameterBlock,
        inputs: GradientInputs<'a>,
    ) -> Option<GradientInputs<'a>> {
        Some(Self::factors(block, inputs))
    }
}

/// What layers of the same sizes would be planned as: for tests of plans.
#[cfg(test)]
pub(crate) fn node(inputs: usize, outputs: usize) -> DenseNode {
    let activation = crate::kernels::activation::Activation::Relu.into();
    let initializer = Initializer::default();
    DenseNode { inputs, outputs, activation, has_bias: false, initializer, number: 0 }
}
