//! Every operation of the kernel API, once, on the same data each time.

use std::sync::LazyLock;

use densely::loss::{self, CrossEntropy};
use densely::{Activation, Backend, MatMut, MatRef, activation, dense};

use crate::bits::canonical_bits;
use crate::matrix::{Layout, Matrix};
use crate::values::Values;

/// What an operation wrote.
#[derive(Clone)]
pub struct Written {
    pub name: String,
    /// [Canonical](crate::bits::canonical).
    pub bits: Vec<u32>,
}

/// Operands large enough for `Threads::Auto` to split the work on them.
struct Operands {
    /// A layer whose products are split by rows, and one whose products are split by columns.
    layers: [LayerOperands; 2],
    rows: RowOperands,
}

struct LayerOperands {
    x: Matrix,
    w: Matrix,
    dy: Matrix,
}

struct RowOperands {
    x: Matrix,
    dy: Matrix,
    labels: Vec<u32>,
}

static OPERANDS: LazyLock<Operands> = LazyLock::new(|| {
    let matrix = |shape, seed| Matrix::random(shape, Layout::Padded, Values::Normal, seed);
    let layer = |batch, inputs, outputs| LayerOperands {
        x: matrix([batch, inputs], 1),
        w: matrix([inputs, outputs], 2),
        dy: matrix([batch, outputs], 3),
    };
    let (batch, classes) = (1021, 240);
    let labels = (0..batch).map(|row| (row * 7 % classes) as u32).collect();
    Operands {
        layers: [layer(512, 300, 257), layer(8, 512, 784)],
        rows: RowOperands { x: matrix([batch, classes], 4), dy: matrix([batch, classes], 5), labels },
    }
});

/// Runs every operation of the kernel API.
pub fn run_all(backend: &Backend) -> Vec<Written> {
    let Operands { layers, rows } = &*OPERANDS;
    layers.iter().flat_map(|layer| run_layer(backend, layer)).chain(run_rows(backend, rows)).collect()
}

/// Runs an operation that writes a matrix; returns its other result, too.
pub fn written<R>(
    name: impl Into<String>,
    shape: [usize; 2],
    run: impl FnOnce(MatMut<'_>) -> densely::Result<R>,
) -> (Written, R) {
    let mut output = Matrix::unwritten(shape, Layout::RowMajor);
    let result = run(output.view_mut()).unwrap();
    (Written { name: name.into(), bits: canonical_bits(output.slice()) }, result)
}

/// Appends the shape to the name: the golden digests are listed under such names.
fn written_of<R>(name: &str, shape: [usize; 2], run: impl FnOnce(MatMut<'_>) -> densely::Result<R>) -> (Written, R) {
    written(format!("{name} of {shape:?}"), shape, run)
}

fn run_layer(backend: &Backend, LayerOperands { x, w, dy }: &LayerOperands) -> [Written; 4] {
    let mut db = vec![0.0; w.shape()[1]];
    let bias = dy.view().row(0);
    let (gate, relu) = (Some((Activation::Gelu, x.view())), Activation::Relu);
    let (y, ()) = written_of("forward", dy.shape(), |y| dense::forward(backend, x.view(), w.view(), bias, relu, y));
    let (dx, ()) = written_of("dx", x.shape(), |dx| dense::backward_input(backend, dy.view(), w.view(), gate, dx));
    let (dw, ()) =
        written_of("dw", w.shape(), |dw| dense::backward_params(backend, x.view(), dy.view(), dw, Some(&mut db)));
    [y, dx, dw, Written { name: "db".to_owned(), bits: canonical_bits(&db) }]
}

fn run_rows(backend: &Backend, RowOperands { x, dy, labels }: &RowOperands) -> Vec<Written> {
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
        written_of("cross_entropy", x.shape(), |dlogits| loss::cross_entropy(backend, x.view(), labels, dlogits));
    let options = CrossEntropy::new().label_smoothing(0.1).ignored_label(labels[0] as usize);
    let mut losses = vec![f32::NAN; x.shape()[0]];
    let (smoothed, smoothed_loss) = written_of("with label smoothing", x.shape(), |dlogits| {
        options.forward_backward(backend, x.view(), labels, Some(&mut losses), dlogits)
    });
    let (soft, soft_loss) = written_of("of probabilities", x.shape(), |dlogits| {
        CrossEntropy::new().forward_backward(backend, x.view(), dy.view(), None, dlogits)
    });
    losses.extend([loss, smoothed_loss, soft_loss]);
    let losses = Written { name: "losses".to_owned(), bits: canonical_bits(&losses) };
    let unary = unary.iter().map(|(name, run)| written_of(name, x.shape(), |y| run(backend, x.view(), y)).0);
    let binary =
        binary.iter().map(|(name, run)| written_of(name, x.shape(), |dx| run(backend, x.view(), dy.view(), dx)).0);
    unary.chain(binary).chain([dlogits, smoothed, soft, losses]).collect()
}
