//! Every operation of level 1, once, on the same data each time.

use std::sync::LazyLock;

use densely::loss::{self, CrossEntropy};
use densely::{Activation, Backend, MatMut, MatRef, activation, dense};

use super::{Layout, Matrix, Values, canonical};

/// A name and the bits that an operation writes.
pub type Written = (String, Vec<u32>);

/// Operands large enough for `Threads::Auto` to split the work on them.
struct Operands {
    /// x, w and dy of a layer whose products are split by rows, and of one where they are by columns.
    layers: [[Matrix; 3]; 2],
    rows: [Matrix; 2],
    labels: Vec<u32>,
}

static OPERANDS: LazyLock<Operands> = LazyLock::new(|| {
    let matrix = |shape, seed| Matrix::new(shape, Layout::Padded, Values::Normal, seed);
    let layer = |batch, inputs, outputs| {
        [matrix([batch, inputs], 1), matrix([inputs, outputs], 2), matrix([batch, outputs], 3)]
    };
    let (batch, classes) = (1021, 240);
    Operands {
        layers: [layer(512, 300, 257), layer(8, 512, 784)],
        rows: [matrix([batch, classes], 4), matrix([batch, classes], 5)],
        labels: (0..batch).map(|row| (row * 7 % classes) as u32).collect(),
    }
});

/// Runs every operation of level 1.
pub fn run_all(backend: &Backend) -> Vec<Written> {
    let Operands { layers, rows, labels } = &*OPERANDS;
    let layers = layers.iter().flat_map(|layer| run_layer(backend, layer));
    layers.chain(run_rows(backend, rows, labels)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().copied().map(canonical).collect()
}

fn written<R>(name: &str, shape: [usize; 2], run: impl FnOnce(MatMut<'_>) -> densely::Result<R>) -> (Written, R) {
    let mut output = Matrix::unwritten(shape, Layout::RowMajor);
    let result = run(output.view_mut()).unwrap();
    ((format!("{name} of {shape:?}"), bits(output.slice())), result)
}

fn run_layer(backend: &Backend, [x, w, dy]: &[Matrix; 3]) -> [Written; 4] {
    let mut db = vec![0.0; w.shape()[1]];
    let bias = dy.view().row(0);
    let (gate, relu) = (Some((Activation::Gelu, x.view())), Activation::Relu);
    let (y, ()) = written("forward", dy.shape(), |y| dense::forward(backend, x.view(), w.view(), bias, relu, y));
    let (dx, ()) = written("dx", x.shape(), |dx| dense::backward_input(backend, dy.view(), w.view(), gate, dx));
    let (dw, ()) =
        written("dw", w.shape(), |dw| dense::backward_params(backend, x.view(), dy.view(), dw, Some(&mut db)));
    [y, dx, dw, ("db".to_owned(), bits(&db))]
}

fn run_rows(backend: &Backend, [a, b]: &[Matrix; 2], labels: &[u32]) -> Vec<Written> {
    type Unary = fn(&Backend, MatRef<'_>, MatMut<'_>) -> densely::Result<()>;
    type Binary = fn(&Backend, MatRef<'_>, MatRef<'_>, MatMut<'_>) -> densely::Result<()>;
    let unary: [(&str, Unary); 5] = [
        ("gelu", |backend, x, y| activation::forward(backend, Activation::Gelu, x, y)),
        ("exp", activation::exp),
        ("ln", activation::ln),
        ("softmax", activation::softmax),
        ("log_softmax", activation::log_softmax),
    ];
    let binary: [(&str, Binary); 3] = [
        ("gelu_backward", |backend, x, dy, dx| activation::backward(backend, Activation::Gelu, x, dy, dx)),
        ("softmax_backward", activation::softmax_backward),
        ("log_softmax_backward", activation::log_softmax_backward),
    ];
    let (dlogits, loss) =
        written("cross_entropy", a.shape(), |dlogits| loss::cross_entropy(backend, a.view(), labels, dlogits));
    let options = CrossEntropy::new().label_smoothing(0.1).ignored_label(labels[0] as usize);
    let mut losses = vec![f32::NAN; a.shape()[0]];
    let (smoothed, smoothed_loss) = written("with label smoothing", a.shape(), |dlogits| {
        options.forward_backward(backend, a.view(), labels, Some(&mut losses), dlogits)
    });
    let (soft, soft_loss) = written("of probabilities", a.shape(), |dlogits| {
        CrossEntropy::new().forward_backward(backend, a.view(), b.view(), None, dlogits)
    });
    losses.extend([loss, smoothed_loss, soft_loss]);
    let unary = unary.iter().map(|(name, run)| written(name, a.shape(), |y| run(backend, a.view(), y)).0);
    let binary = binary.iter().map(|(name, run)| written(name, a.shape(), |y| run(backend, a.view(), b.view(), y)).0);
    unary.chain(binary).chain([dlogits, smoothed, soft, ("losses".to_owned(), bits(&losses))]).collect()
}
