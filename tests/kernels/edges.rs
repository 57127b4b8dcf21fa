//! Every size from 0 to 40 in every dimension, with memory that faults directly before and directly behind every operand and
//! result: one element read or written past an edge ends the process.

use densely::loss::CrossEntropy;
use densely::{Backend, Isa, MatMut, MatRef, PackedWeights, Result, Targets, activation, dense, reference};
use rayon::prelude::*;

use crate::common::emulated::EMULATED;
use crate::common::guarded::{End, Floats};
use crate::common::{ACTIVATIONS, Random, backends, canonical};

const LAST: usize = 40;

/// Sizes of a dimension: all of them, or, under emulation, where they would take an hour, some.
fn sizes() -> impl IndexedParallelIterator<Item = usize> {
    (0..LAST + 1).into_par_iter().step_by(if EMULATED { 5 } else { 1 })
}

/// Room for a matrix at each end.
struct Room {
    first: Floats,
    last: Floats,
}

impl Room {
    fn new(len: usize) -> Self {
        Self { first: Floats::new(len, End::First), last: Floats::new(len, End::Last) }
    }

    fn at(&mut self, end: End) -> &mut Floats {
        match end {
            End::First => &mut self.first,
            End::Last => &mut self.last,
        }
    }

    /// Puts values there.
    fn put(&mut self, end: End, values: &[f32]) -> &[f32] {
        let floats = self.at(end).resize(values.len());
        floats.copy_from_slice(values);
        floats
    }

    /// Makes room for a result.
    fn clear(&mut self, end: End, len: usize) -> &mut [f32] {
        let floats = self.at(end).resize(len);
        floats.fill(f32::NAN);
        floats
    }
}

fn assert_same(backend: &Backend, end: End, what: &str, found: &[f32], expected: &[f32]) {
    // Without fused multiply-add other bits are right, too; other tests look at them.
    let same = found.iter().zip(expected).all(|(found, expected)| canonical(*found) == canonical(*expected));
    assert!(same || backend.isa() == Isa::Portable, "{what} on {}, at the {end:?} end", backend.isa());
}

/// A layer's operands, random, and the results that the reference gives.
struct Layer {
    sizes: [usize; 3],
    x: Vec<f32>,
    w: Vec<f32>,
    /// w by columns.
    wt: Vec<f32>,
    dy: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

impl Layer {
    const ACTIVATION: densely::Activation = densely::Activation::Relu;

    fn new(sizes @ [batch, inputs, outputs]: [usize; 3]) -> Result<Self> {
        let mut random = Random((batch * 41 + inputs) as u64 * 41 + outputs as u64);
        let mut values = |len: usize| (0..len).map(|_| random.normal()).collect::<Vec<f32>>();
        let (x, w, dy) = (values(batch * inputs), values(inputs * outputs), values(batch * outputs));
        let by_columns = (0..outputs).flat_map(|output| (0..inputs).map(move |input| input * outputs + output));
        let wt = by_columns.map(|index| w[index]).collect();
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        let mut db = vec![0.0; outputs];
        let (x_view, w_view) = (MatRef::new(&x, batch, inputs)?, MatRef::new(&w, inputs, outputs)?);
        let dy_view = MatRef::new(&dy, batch, outputs)?;
        let bias = (batch > 0).then(|| &dy[..outputs]);
        reference::dense_forward(x_view, w_view, bias, Self::ACTIVATION, MatMut::new(&mut y, batch, outputs)?)?;
        let gate = Some((Self::ACTIVATION, x_view));
        reference::dense_backward_input(dy_view, w_view, gate, MatMut::new(&mut dx, batch, inputs)?)?;
        reference::dense_backward_params(x_view, dy_view, MatMut::new(&mut dw, inputs, outputs)?, Some(&mut db))?;
        Ok(Self { sizes, x, w, wt, dy, y, dx, dw, db })
    }

    fn check(&self, backend: &Backend, end: End, rooms: &mut [Room; 7]) -> Result<()> {
        let [batch, inputs, outputs] = self.sizes;
        let [x, w, dy, bias, y, dx, dw] = rooms;
        let x = MatRef::new(x.put(end, &self.x), batch, inputs)?;
        let dy = MatRef::new(dy.put(end, &self.dy), batch, outputs)?;
        let bias = (batch > 0).then(|| bias.put(end, &self.dy[..outputs]));
        for transposed in [false, true] {
            let w = if transposed {
                MatRef::new(w.put(end, &self.wt), outputs, inputs)?.t()
            } else {
                MatRef::new(w.put(end, &self.w), inputs, outputs)?
            };
            let y = y.clear(end, batch * outputs);
            dense::forward(backend, x, w, bias, Self::ACTIVATION, MatMut::new(y, batch, outputs)?)?;
            assert_same(backend, end, &format!("forward {:?}, by columns: {transposed}", self.sizes), y, &self.y);
            let packed = PackedWeights::new(w);
            y.fill(f32::NAN);
            dense::forward(backend, x, &packed, bias, Self::ACTIVATION, MatMut::new(y, batch, outputs)?)?;
            assert_same(backend, end, &format!("forward {:?}, packed weights", self.sizes), y, &self.y);
            let dx = dx.clear(end, batch * inputs);
            let to = MatMut::new(dx, batch, inputs)?;
            dense::backward_input(backend, dy, w, Some((Self::ACTIVATION, x)), to)?;
            assert_same(backend, end, &format!("dx {:?}, by columns: {transposed}", self.sizes), dx, &self.dx);
        }
        let dw = dw.clear(end, inputs * outputs);
        let db = w.clear(end, outputs);
        dense::backward_params(backend, x, dy, MatMut::new(dw, inputs, outputs)?, Some(db))?;
        assert_same(backend, end, &format!("dw {:?}", self.sizes), dw, &self.dw);
        assert_same(backend, end, &format!("db {:?}", self.sizes), db, &self.db);
        Ok(())
    }
}

#[test]
fn no_layer_touches_what_lies_beside_its_operands() {
    let backends: Vec<Backend> = backends().collect();
    let all = sizes().flat_map(|batch| sizes().map(move |inputs| [batch, inputs]));
    let rooms = || std::array::from_fn(|_| Room::new(LAST * LAST));
    all.for_each_init(rooms, |rooms, [batch, inputs]| {
        for outputs in sizes_in_order() {
            let layer = Layer::new([batch, inputs, outputs]).unwrap();
            for backend in &backends {
                for end in [End::First, End::Last] {
                    layer.check(backend, end, rooms).unwrap();
                }
            }
        }
    });
}

fn sizes_in_order() -> impl Iterator<Item = usize> {
    (0..=LAST).step_by(if EMULATED { 5 } else { 1 })
}

type Run<'a> = &'a dyn Fn(Option<&Backend>, [MatRef<'_>; 2], MatMut<'_>) -> Result<()>;

/// Operations on two inputs, of which some look at the first alone; by the reference without a backend.
fn for_each_row_operation(labels: &[u8], mut each: impl FnMut(&str, Run<'_>)) {
    each("softmax", &|backend, [x, _], y| match backend {
        Some(backend) => activation::softmax(backend, x, y),
        None => reference::softmax(x, y),
    });
    each("log_softmax", &|backend, [x, _], y| match backend {
        Some(backend) => activation::log_softmax(backend, x, y),
        None => reference::log_softmax(x, y),
    });
    each("softmax_backward", &|backend, [x, dy], dx| match backend {
        Some(backend) => activation::softmax_backward(backend, x, dy, dx),
        None => reference::softmax_backward(x, dy, dx),
    });
    each("log_softmax_backward", &|backend, [x, dy], dx| match backend {
        Some(backend) => activation::log_softmax_backward(backend, x, dy, dx),
        None => reference::log_softmax_backward(x, dy, dx),
    });
    for function in ACTIVATIONS {
        each(&format!("{function:?}"), &|backend, [x, _], y| match backend {
            Some(backend) => activation::forward(backend, function, x, y),
            None => reference::activation_forward(function, x, y),
        });
        each(&format!("gradient of {function:?}"), &|backend, [x, dy], dx| match backend {
            Some(backend) => activation::backward(backend, function, x, dy, dx),
            None => reference::activation_backward(function, x, dy, dx),
        });
    }
    for (options, name) in [(CrossEntropy::new(), ""), (CrossEntropy::new().label_smoothing(0.1), " smoothed")] {
        let run = |backend: Option<&Backend>, x: MatRef<'_>, targets: Targets<'_>, dx: MatMut<'_>| {
            match backend {
                Some(backend) => options.forward_backward(backend, x, targets, None, dx),
                None => reference::cross_entropy(&options, x, targets, None, Some(dx)),
            }
            .map(drop)
        };
        each(&format!("cross_entropy{name}"), &|backend, [x, _], dx| run(backend, x, labels.into(), dx));
        each(&format!("cross_entropy of probabilities{name}"), &|backend, [x, dy], dx| run(backend, x, dy.into(), dx));
    }
}

#[test]
fn no_operation_on_rows_touches_what_lies_beside_them() {
    let backends: Vec<Backend> = backends().collect();
    let most = 4 * LAST;
    let rooms = || std::array::from_fn::<_, 3, _>(|_| Room::new(LAST * most));
    sizes().for_each_init(rooms, |[x_room, dy_room, y_room], rows| {
        // Longer rows, too, of which kernels take several vectors at once.
        for cols in sizes_in_order().chain([47, 63, 64, 65, 97, 127, 128, 129, most]) {
            let mut random = Random((rows * 1000 + cols) as u64);
            let [x, dy] = [(); 2].map(|()| (0..rows * cols).map(|_| random.normal()).collect::<Vec<f32>>());
            let labels: Vec<u8> = (0..rows).map(|_| random.below(cols.max(1)) as u8).collect();
            for_each_row_operation(&labels, |name, run| {
                let inputs = [&x, &dy].map(|values| MatRef::new(values, rows, cols).unwrap());
                let mut expected = vec![f32::NAN; rows * cols];
                // No rows have no mean, and labels need a class.
                let legal = run(None, inputs, MatMut::new(&mut expected, rows, cols).unwrap()).is_ok();
                for backend in &backends {
                    for end in [End::First, End::Last] {
                        let inputs = [x_room.put(end, &x), dy_room.put(end, &dy)];
                        let inputs = inputs.map(|values| MatRef::new(values, rows, cols).unwrap());
                        let y = y_room.clear(end, rows * cols);
                        let run = run(Some(backend), inputs, MatMut::new(y, rows, cols).unwrap());
                        assert_eq!(run.is_ok(), legal, "{name} of {rows} x {cols}");
                        assert_same(backend, end, &format!("{name} of {rows} x {cols}"), y, &expected);
                    }
                }
            });
        }
    });
}
