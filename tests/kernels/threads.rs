//! The same bits on any number of threads, from inside and outside of any rayon pool.

use std::sync::LazyLock;

use crate::common::{Layout, Matrix, Values, backends, canonical, exactly};
use densely::loss::{self, CrossEntropy};
use densely::{Activation, Backend, Isa, MatMut, MatRef, Threads, activation, dense};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A name and the bits that an operation writes.
type Written = (String, Vec<u32>);

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
fn run_all(backend: &Backend) -> Vec<Written> {
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

type Serial = (Backend, Vec<Written>);

/// What each instruction set writes on the calling thread alone.
static SERIAL: LazyLock<Vec<Serial>> = LazyLock::new(|| {
    let serial = backends().map(|backend| (backend.clone(), run_all(&backend)));
    serial.collect()
});

fn assert_same((backend, expected): &Serial, threads: Threads, place: &str) {
    for ((name, bits), (_, expected)) in run_all(&backend.with_threads(threads)).iter().zip(expected) {
        // Not assert_eq: nobody wants to read all the bits.
        assert!(bits == expected, "{name} on {} with {threads:?} {place}", backend.isa());
    }
}

fn assert_all_same(threads: Threads, place: &str) {
    SERIAL.iter().for_each(|serial| assert_same(serial, threads, place));
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn instruction_sets_agree() {
    let exact: Vec<_> = SERIAL.iter().filter(|(backend, _)| backend.isa() != Isa::Portable).collect();
    for pair in exact.windows(2) {
        assert!(pair[0].1 == pair[1].1, "{} and {}", pair[0].0.isa(), pair[1].0.isa());
    }
}

#[test]
fn inside_of_a_pool() {
    for threads in [1, 2, 3, 7] {
        pool(threads).install(|| assert_all_same(Threads::Auto, &format!("in a pool of {threads}")));
    }
}

#[test]
fn more_or_fewer_pieces_than_the_pool_has_threads() {
    for threads in [1, 2, 3, 7] {
        let serial = &SERIAL[threads % SERIAL.len()];
        pool(threads).install(|| assert_same(serial, exactly(9 - threads), &format!("in a pool of {threads}")));
    }
}

#[test]
fn outside_of_a_pool() {
    for threads in [Threads::Auto, exactly(1), exactly(2), exactly(3), exactly(7)] {
        assert_all_same(threads, "outside of a pool");
    }
}

#[test]
fn nested_in_a_parallel_iterator() {
    let calls = [Threads::Auto, Threads::One, exactly(2), exactly(7)].into_par_iter().enumerate();
    pool(3).install(|| {
        calls.for_each(|(call, threads)| assert_same(&SERIAL[call % SERIAL.len()], threads, "in par_iter"));
    });
}

#[test]
fn from_eight_threads_at_once() {
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let threads = if caller % 2 == 0 { Threads::Auto } else { exactly(caller) };
            let serial = &SERIAL[caller % SERIAL.len()];
            scope.spawn(move || assert_same(serial, threads, "from eight threads at once"));
        }
    });
}
